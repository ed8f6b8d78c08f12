# SPDX-License-Identifier: Apache-2.0
"""What all handles have in common: they come from factories, close once, and say so when they were forgotten."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from iommufd_fast._core.origins import leaked, origin


class Owned:
    """A handle. Subclasses say how to close it and what it is; `_made_by` names the factory."""

    _made_by: ClassVar[str] = ""
    _origin: str | None = None
    _warns: ClassVar[bool] = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise TypeError(f"{type(self).__name__} has no public constructor; it is made by {self._made_by}")

    @classmethod
    def _new(cls, **fields: Any) -> Self:
        """Make one; for factories only."""
        self = cls.__new__(cls)
        self.__dict__.update(fields, _origin=origin())
        return self

    @property
    def closed(self) -> bool:
        """Whether the handle can no longer be used."""
        raise NotImplementedError

    def close(self) -> None:
        """Close. Again is fine."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self.closed:
            raise ValueError(f"{self!r} is closed")
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _forked(self) -> bool:
        return False

    def __del__(self) -> None:
        # Only what the context does not hold itself: the context closes its children, and then nobody was forgotten.
        if not self._warns or (self._origin is None and not self.__dict__):
            return
        try:
            lost = not self.closed and not self._forked()
        except AttributeError:  # the factory failed half-way
            return
        if lost:
            leaked(repr(self), self._origin, self)
            self.close()
