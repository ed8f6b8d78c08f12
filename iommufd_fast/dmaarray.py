# SPDX-License-Identifier: Apache-2.0
"""Arrays in DMA memory: NumPy arrays that know their IOVA."""

from __future__ import annotations

import errno
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from iommufd_fast._core.dmamemory import PAGES, DmaMemory, iova_of, remedy
from iommufd_fast._core.ioascore import IoasCore

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_SIZES = {"2M": 1 << 21, "1G": 1 << 30}


class PageSizeWarning(UserWarning):
    """Memory was made of smaller pages than it could have been; the text says how to get the larger ones."""


class DmaArray(np.ndarray):
    """An array in memory that is mapped for devices, made by `Ioas.alloc`.

    Views and slices of it are too; results of computations are plain arrays. The memory is unmapped and freed when the
    last view of it is gone.
    """

    _memory: DmaMemory | None

    def __array_finalize__(self, obj: Any) -> None:
        self._memory = getattr(obj, "_memory", None)

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:
            return self
        return array[()] if return_scalar else array.view(np.ndarray)

    @property
    def iova(self) -> int:
        """IOVA of the first element.

        Raises
        ------
        ValueError
            The array is not contiguous (its elements have no common IOVA), is a copy, or is not mapped any more.
        """
        return iova_of(self, self._memory)

    @property
    def memory(self) -> DmaMemory | None:
        """The memory that it is a view of: pages, mapping, descriptor."""
        return self._memory


def make_array(
    ioas: IoasCore,
    shape: int | tuple[int, ...],
    dtype: DTypeLike,
    page: str,
    numa: int | None,
    shared: bool,
    iova: int | None,
    access: str,
) -> DmaArray:
    """Allocate and map; see `Ioas.alloc`."""
    kind = np.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"dtype {kind} holds Python objects; a device could overwrite their addresses")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    count = 1
    for size in sizes:
        if size < 1:
            raise ValueError(f"shape is {shape}; every dimension must be at least 1")
        count *= int(size)
    if not kind.itemsize:
        raise ValueError(f"dtype {kind} has no bytes")
    memory = DmaMemory._get(count * kind.itemsize, page_kind(page), numa, shared)
    memory._map(ioas, iova, access)
    warn(memory, "ioas.alloc()", stacklevel=4)
    array = np.frombuffer(memoryview(memory), kind, count).reshape(sizes).view(DmaArray)
    array._memory = memory
    return array


def page_kind(page: str) -> str:
    """Check the word for a kind of page."""
    if page not in PAGES:
        raise ValueError(f"page must be one of {', '.join(map(repr, PAGES))}, not {page!r}")
    return page


def warn(memory: DmaMemory, what: str, stacklevel: int) -> None:
    """Say when large pages were wanted and smaller ones are what there is."""
    wanted = memory.missed
    if wanted is None or wanted not in _SIZES:
        return
    size, huge = len(memory), memory.huge_bytes
    got = _SIZES.get(memory.page, 0)
    if memory.page == "thp" and huge >= size // _SIZES["2M"] * _SIZES["2M"]:
        got = _SIZES["2M"]
    if got >= _SIZES[wanted]:
        return
    why = f"{errno.errorcode.get(memory.missed_errno, '?')}, {os.strerror(memory.missed_errno)}"
    there = f"{memory.page} pages" + (f" ({huge:#x} bytes of it large)" if memory.page == "thp" else "")
    text = (
        f"{what}: no {wanted} pages for {size:#x} bytes ({why}); it has {there}, which cost more page table entries "
        f"and IOTLB misses. {remedy(size, wanted, memory.missed_errno)}; or say page={memory.page!r} if that is fine"
    )
    warnings.warn(text, PageSizeWarning, stacklevel=stacklevel)
