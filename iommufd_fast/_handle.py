# SPDX-License-Identifier: Apache-2.0
"""What all handles have in common: they come from factories, close once, and say so when they were forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self
from weakref import ref

from iommufd_fast._core.origins import leaked, origin


class Followers:
    """Handles that have to be told when their owner goes, and that it does not keep alive. For any thread.

    (A WeakSet must not be iterated while another thread adds to it.)
    """

    def __init__(self) -> None:
        self._refs: set[ref[Any]] = set()

    def add(self, handle: object) -> None:
        self._refs.add(ref(handle, self._refs.discard))

    def __iter__(self) -> Any:
        found = (one() for one in list(self._refs))
        return iter([handle for handle in found if handle is not None])

    def __bool__(self) -> bool:
        return bool(self._refs)


class Tables:
    """What a context knows by number. A number may be another object's as soon as the engine has given it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closing: set[int] = set()

    def put(self, table: dict[int, Any], handle: Any) -> None:
        with self._lock:
            table[handle.id] = handle

    def drop(self, table: dict[int, Any], handle: Any) -> None:
        """Forget a handle, unless its number is another's already."""
        with self._lock:
            number = handle.id
            if table.get(number) is handle:
                del table[number]

    @contextmanager
    def closing(self, handle: object) -> Iterator[bool]:
        """Whether this thread is the one that closes it. Else another does, and its number may be reused soon."""
        with self._lock:
            mine = id(handle) not in self._closing
            self._closing.add(id(handle))
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._closing.discard(id(handle))


def by_id(table: dict[int, Any]) -> tuple[Any, ...]:
    """Its handles, while others may come and go."""
    return tuple(handle for _, handle in sorted(table.copy().items()))


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
