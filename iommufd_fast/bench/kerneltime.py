# SPDX-License-Identifier: Apache-2.0
"""Time inside the kernel: from the entry of an ioctl to its exit, by tracefs.

The events raw_syscalls/sys_enter and sys_exit of this thread, of ioctl only, go into a trace instance of our own, so
that nobody else's tracing is disturbed. The trace clock is the time stamp counter: others are printed in microseconds.
What the two events cost themselves is measured on a command that iommufd does not know, which does next to nothing, and
its median is subtracted: what remains is the command's own work. Calls run slower while they are traced, so whole calls
are never timed in the same pass.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iommufd_fast._core import benchrig
from iommufd_fast.uapi import Command

ROOTS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
INSTANCE = "iommufd_fast"
CLOCK = "x86-tsc"
IOCTL = {"x86_64": 16}
UNKNOWN = 0x3BFF  # no command of iommufd: ENOTTY
OPS: dict[int, str] = {
    Command.IOAS_MAP: "map",
    Command.IOAS_MAP_FILE: "map",
    Command.IOAS_UNMAP: "unmap",
}
BUFFER_KIB = 8192  # per CPU; two events of a call take about 150 bytes

_EVENT = re.compile(
    r"^\s*.+?-(\d+)\s+\[\d+\].*?(\d+): sys_(enter: NR (\d+) \(\w+, (\w+)|exit: NR (\d+) = )", re.MULTILINE
)

Ticks = dict[int, list[int]]


def why_not(roots: tuple[Path, ...] = ROOTS) -> str | None:
    """Why the time inside the kernel cannot be told here; None when it can."""
    if platform.machine() not in IOCTL or not benchrig.has_tsc():
        return "the trace clock counts in microseconds on this machine"
    root = next((r for r in roots if (r / "instances").is_dir()), None)
    if root is None:
        return "tracefs is not mounted, or not readable (root: mount -t tracefs none /sys/kernel/tracing)"
    if not os.access(root / "instances", os.W_OK):
        return f"{root} is not writable; run as root"
    if not (root / "events/raw_syscalls/sys_enter").is_dir():
        return "this kernel has no events raw_syscalls (CONFIG_EVENT_TRACING)"
    if CLOCK not in (root / "trace_clock").read_text():
        return f"this kernel has no trace clock {CLOCK}"
    return None


def parse(text: str, ioctl: int) -> Ticks:
    """Ticks between entry and exit of each ioctl, by command number, in order.

    Events of threads interleave; an entry without its exit, and an exit without its entry, are left out.
    """
    begun: dict[str, tuple[int, int]] = {}
    found: Ticks = {}
    for match in _EVENT.finditer(text):
        thread, at = match[1], int(match[2])
        if match[4]:
            if int(match[4]) == ioctl:
                begun[thread] = (int(match[5], 16), at)
        elif int(match[6]) == ioctl and thread in begun:
            command, start = begun.pop(thread)
            found.setdefault(command, []).append(at - start)
    return found


class KernelTime:
    """A trace instance, ready; use as a context manager.

    Attributes
    ----------
    overhead_ns : float
        What two events and an empty command take.
    """

    def __init__(self, roots: tuple[Path, ...] = ROOTS) -> None:
        reason = why_not(roots)
        if reason:
            raise OSError(reason)
        root = next(r for r in roots if (r / "instances").is_dir())
        self.instance = root / "instances" / f"{INSTANCE}-{os.getpid()}"
        self.ns_per_tick = float(benchrig.calibrate(True)[0])
        self.ioctl = IOCTL[platform.machine()]
        self.overhead_ns = 0.0

    def _set(self, name: str, value: object) -> None:
        (self.instance / name).write_text(str(value))

    def __enter__(self) -> KernelTime:
        self.instance.mkdir()
        try:
            self._set("trace_clock", CLOCK)
            self._set("buffer_size_kb", BUFFER_KIB)
            self._set("set_event_pid", threading.get_native_id())
            for event in ("sys_enter", "sys_exit"):
                self._set(f"events/raw_syscalls/{event}/filter", f"id == {self.ioctl}")
                self._set(f"events/raw_syscalls/{event}/enable", 1)
            self.overhead_ns = self._empty()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        for event in ("sys_enter", "sys_exit"):
            with contextlib.suppress(OSError):
                self._set(f"events/raw_syscalls/{event}/enable", 0)
        self.instance.rmdir()

    @contextlib.contextmanager
    def _on(self) -> Iterator[None]:
        self._set("trace", "")
        self._set("tracing_on", 1)
        try:
            yield
        finally:
            self._set("tracing_on", 0)

    def _empty(self) -> float:
        """The median of commands that do nothing, on a descriptor of /dev/iommu."""
        fd = os.open("/dev/iommu", os.O_RDWR)
        try:
            with self._on():
                for _ in range(256):
                    with contextlib.suppress(OSError):
                        fcntl.ioctl(fd, UNKNOWN)
        finally:
            os.close(fd)
        return float(np.median(parse((self.instance / "trace").read_text(), self.ioctl)[UNKNOWN])) * self.ns_per_tick

    def measure(self, work: Callable[[], object]) -> dict[str, NDArray[np.float64]]:
        """Run `work` traced and return the nanoseconds inside the kernel of each map and unmap it made.

        Parameters
        ----------
        work : callable
            Makes at most some ten thousand ioctls, in this thread; of more, the last are kept.
        """
        with self._on():
            work()
        found: dict[str, NDArray[np.float64]] = {}
        for command, ticks in parse((self.instance / "trace").read_text(), self.ioctl).items():
            op = OPS.get(command)
            if op:
                ns = np.maximum(np.array(ticks, np.float64) * self.ns_per_tick - self.overhead_ns, 0.0)
                found[op] = np.concatenate([found[op], ns]) if op in found else ns
        return found
