# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterable
from typing import Self

FEATURES: dict[str, int]

class Table:
    def __init__(
        self,
        format: str = "vtdss",
        *,
        va_bits: int | None = None,
        oa_bits: int | None = None,
        top_level: int | None = None,
        page_sizes: int | Iterable[int] | None = None,
        granule: int | None = None,
        force_coherent: bool = False,
        force_writeable: bool = False,
        growing_top: bool = False,
        sign_extend: bool = False,
        napot: bool = False,
        pbmt: bool = False,
        hw_dirty: bool = False,
        contiguous: bool = False,
        force_write_back: bool = False,
    ) -> None: ...
    @property
    def format(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def aperture(self) -> tuple[int, int]: ...
    @property
    def root(self) -> int: ...
    @property
    def top_level(self) -> int: ...
    @property
    def va_bits(self) -> int: ...
    @property
    def oa_bits(self) -> int: ...
    @property
    def page_sizes(self) -> tuple[int, ...]: ...
    @property
    def granule(self) -> int: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
