# SPDX-License-Identifier: Apache-2.0
"""Queues with a file: how they are read, waited for and closed. What is in them: faults.py, events.py."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from iommufd_fast._core import machines
from iommufd_fast._core.queuefile import QueueHandle
from iommufd_fast.errors import check, failed
from iommufd_fast.objects import ContextObject

if TYPE_CHECKING:
    import asyncio

BATCH = 1024  # records that one read asks for
T = TypeVar("T")


class _Wake:
    """A descriptor that becomes readable when a queue is closed, for those who wait; lives as long as one of them."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def __del__(self) -> None:
        os.close(self.fd)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Queue(ContextObject, Generic[T]):
    """What both kinds of queues can do: be read at once, waited for, iterated by ``for`` and by ``async for``.

    Iterating waits for what comes and ends when the queue is closed. Several threads and tasks may read one queue; each
    record goes to one of them.
    """

    _has_file = True
    _file: QueueHandle
    _wake: _Wake
    _lock: threading.Lock
    _ahead: deque[T]

    @classmethod
    def _open(cls, what: str, number: int, **fields: Any) -> Self:
        """Make the handle of a queue whose file has a number."""
        file = QueueHandle()
        name = f"{cls._kind} {fields['id']}"
        check(file.open_number(fields["context"]._h, number, name), "open", f"cannot open {what}")
        return cls._new(_file=file, _wake=_Wake(), _lock=threading.Lock(), _ahead=deque(), **fields)

    @property
    def closed(self) -> bool:
        """Whether it was closed, by itself or with its context."""
        return self._file.closed

    def fileno(self) -> int:
        """A descriptor that is readable while there is something to read, for poll and event loops; not for read."""
        return self._file.poll_fd()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _fetch(self, most: int) -> list[T]:
        raise NotImplementedError

    def _take(self, most: int) -> list[T]:
        """What is there, up to `most`."""
        with self._lock:
            if not self._ahead and not self._file.closed:
                self._ahead.extend(self._fetch(most))
            return [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]

    def read(self, most: int | None = None, *, timeout: float | None = 0) -> list[T]:
        """Take what is there.

        Parameters
        ----------
        most : int, optional
            How many; by default all, up to 1024.
        timeout : float or None
            How many seconds to wait when nothing is there: 0 not at all, None for as long as the queue is open.

        Returns
        -------
        list
            Empty when nothing came in time, or the queue was closed meanwhile.
        """
        self._file.check_open()
        limit = BATCH if most is None else max(machines.as_u64(most, "most"), 1)
        end = None if timeout is None else time.monotonic() + timeout
        while not self._file.closed:
            found = self._take(limit)
            left = None if end is None else end - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            self._wait(left)
        return []

    def _descriptors(self) -> list[int]:
        """Duplicates of ours and of the wake-up: they stay what they are when the queue is closed. Empty: it is."""
        with self._lock:
            return [] if self._file.closed else [os.dup(self._file.poll_fd()), os.dup(self._wake.fd)]

    def _wait(self, seconds: float | None) -> None:
        fds = self._descriptors()
        try:
            if fds:
                poll = select.poll()
                for fd in fds:
                    poll.register(fd, select.POLLIN)
                poll.poll(None if seconds is None else max(int(seconds * 1000 + 0.999), 0))
        finally:
            for fd in fds:
                os.close(fd)

    async def _ready(self) -> None:
        from asyncio import get_running_loop  # at the top it would be half of what importing the package costs

        loop = get_running_loop()
        woken = loop.create_future()
        fds = self._descriptors()
        try:
            for fd in fds:
                loop.add_reader(fd, _set, woken)
            if fds:
                await woken
        finally:
            for fd in fds:
                loop.remove_reader(fd)
                os.close(fd)

    def __iter__(self) -> Iterator[T]:
        self._file.check_open()
        return self._each()

    def _each(self) -> Iterator[T]:
        while not self._file.closed:
            found = self._take(1)
            if found:
                yield found[0]
            else:
                self._wait(None)

    async def __aiter__(self) -> AsyncIterator[T]:
        self._file.check_open()
        while not self._file.closed:
            found = self._take(1)
            if found:
                yield found[0]
            else:
                await self._ready()

    # -- life ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close its file and destroy it. Whoever waits for it is woken and finds it at its end. Again is fine.

        Raises
        ------
        Busy
            A page table uses it still; nothing was done.
        """
        if self._file.forked or (self._file.closed and (self._gone or self.context.closed)):
            self._file.close()
            return
        with self.context._names.closing(self) as mine:
            if mine and not self._gone:
                self._shut_and_destroy()

    def _shut_and_destroy(self) -> None:
        users = self._holders()
        if users:
            raise failed(errno.EBUSY, "destroy", f"cannot destroy {self._what()}", holders=f" by {', '.join(users)}")
        self._shut()
        err = self.context._h.destroy(self.id)
        if err < 0:
            raise failed(err, "destroy", f"cannot destroy {self._what()}", holders="")
        self.context._lost(self)

    def _shut(self) -> None:
        """Close the file only."""
        with self._lock:
            self._file.close()
        self._wake.ring()

    def _end(self, why: str) -> None:
        self._gone = True
        if not self._file.closed and not self._file.forked:
            self._shut()
