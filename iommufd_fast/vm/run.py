# SPDX-License-Identifier: Apache-2.0
"""Runs one command in a guest: starts QEMU, passes the output on, answers what the guest asks, ends it in time.

On the control port the guest says in lines of JSON that it has booted, that a step of setting it up failed, the
command's exit status, or that it calls (channel.py); a call is answered by a line.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import tools
from .channel import Lines
from .initramfs import Job, initramfs
from .machine import Guest, qemu_command
from .process import Pump, Qemu, Sink, Tail, started
from .qmp import Monitor

BOOT_TIME = 90.0  # seconds until a kernel must have reached the command; 4 is usual
KEPT = 64 << 10  # bytes of the console
PASSED = ("HOME", "LANG", "PATH", "TERM", "TZ", "VIRTUAL_ENV")  # and what begins with these:
PASSED_PREFIXES = ("IOF_", "LC_", "PYTHON")


class GuestError(RuntimeError):
    """The guest did not do its job (it did not boot, died or ran out of time); the text ends with its last words."""


@dataclass(frozen=True)
class Outcome:
    """What is left of a run.

    Attributes
    ----------
    code : int
        The command's exit status, as a shell says it.
    output : bytes
        Standard output and error, when no `on_output` took them.
    console : str
        What the kernel said, at most its last 64 KiB.
    seconds : float
        From the start of QEMU to its end.
    """

    code: int
    output: bytes
    console: str
    seconds: float


@dataclass(frozen=True)
class Running:
    """A guest at work; what `on_call` gets.

    Attributes
    ----------
    monitor : Monitor
    share : Path
    """

    monitor: Monitor
    share: Path


OnCall = Callable[[Running, str, Any], Any]


def passed_environment() -> dict[str, str]:
    """What of our environment a guest's command gets by default."""
    return {k: v for k, v in os.environ.items() if k in PASSED or k.startswith(PASSED_PREFIXES)}


@dataclass
class _Talk:
    """The conversation on the control port, until the exit status."""

    lines: Lines
    running: Running
    on_call: OnCall | None
    begin: float
    timeout: float
    booted: bool = False

    def limit(self) -> float:
        return self.begin + (self.timeout if self.booted else min(self.timeout, BOOT_TIME))

    def exit_status(self) -> int:
        while True:
            message = self.lines.receive(self.limit())
            if message is None:
                raise EOFError
            if "failed" in message:
                raise GuestError(f"the guest could not be set up: {message['failed']}")
            if "exit" in message:
                return int(message["exit"])
            self.booted = self.booted or "booted" in message
            if "call" in message:
                self._answer(message)

    def _answer(self, message: dict[str, Any]) -> None:
        if self.on_call is None:
            self.lines.send({"error": f"nobody on the host answers {message['call']!r}"})
            return
        self.lines.send({"return": self.on_call(self.running, message["call"], message.get("data"))})


def _exit_status(talk: _Talk, qemu: Qemu, console: Tail, output: Tail) -> int:
    """The exit status, or a GuestError with what is known."""
    try:
        return talk.exit_status()
    except TimeoutError:
        doing = "still running" if talk.booted else "not up"
        what = f"the guest was {doing} after {talk.limit() - talk.begin:g} s and was ended"
    except EOFError:
        what = f"the guest ended before its command did (QEMU's status: {qemu.wait(5)})"
    except GuestError as e:
        what = str(e)
    if said := qemu.said():
        what += f"; QEMU said: {said}"
    text = f"{what}\nthe last lines of its console:\n{console.lines(25)}"
    raise GuestError(text + (f"\nand of the command:\n{output.lines(10)}" if output.data else ""))


def run(
    guest: Guest,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    share: str | Path | None = None,
    timeout: float = 600,
    on_output: Sink | None = None,
    on_console: Sink | None = None,
    on_call: OnCall | None = None,
) -> Outcome:
    """Boot `guest`, run `command` in it over this machine's own files, and wait for its end.

    The guest sees the whole root directory of this machine, may write anywhere, and only what it writes below `share`
    is seen here, at the same path. It runs as root there.

    Parameters
    ----------
    guest : Guest
    command : sequence of str
        Found through PATH in the guest.
    env : mapping, optional
        More environment variables; PATH, HOME, the language, PYTHON… and IOF_… are passed on.
    cwd : path, optional
        By default this process's.
    share : path, optional
        By default a temporary directory that is gone afterwards.
    timeout : float
        Seconds for all, boot included.
    on_output : callable(bytes), optional
        Gets the command's output as it comes, in a thread of its own; else it is collected.
    on_console : callable(bytes), optional
        Gets the kernel's words likewise.
    on_call : callable(running, name, data), optional
        Answers :func:`iommufd_fast.vm.channel.call` made in the guest, while the guest waits; returns what JSON can
        hold. `running.monitor` is QEMU's monitor.

    Returns
    -------
    Outcome

    Raises
    ------
    Missing
        No QEMU, busybox or kernel; the text says what to install.
    GuestError
        It did not boot, died, or ran out of time.
    """
    qemu, busybox = tools.find_qemu(), tools.find_busybox()
    tools.check_kernel(guest.kernel)
    with tempfile.TemporaryDirectory(prefix="iof-vm-") as name:
        room = Path(name)
        folder = (Path(share) if share else room).resolve()
        variables = {**passed_environment(), "IOF_VM_SHARE": str(folder), **(env or {})}
        where = Path(cwd or Path.cwd()).resolve()
        job = Job([str(word) for word in command], variables, where, folder, guest.bind, int(timeout) + 30)
        image = room / "initramfs"
        image.write_bytes(initramfs(busybox.read_bytes(), job))

        def line(sockets: dict[str, int]) -> list[str]:
            return qemu_command(qemu, guest, initramfs=image, share=folder, sockets=sockets)

        output = Tail(KEPT if on_output else sys.maxsize, on_output)
        begin, console = time.monotonic(), Tail(KEPT, on_console)
        with started(line, room / "log") as process:
            sockets = process.sockets
            pumps = [Pump(sockets["console"], console), Pump(sockets["output"], output)]
            running = Running(Monitor(sockets["monitor"]), folder)
            talk = _Talk(Lines(sockets["control"]), running, on_call, begin, timeout)
            code = _exit_status(talk, process, console, output)
            if process.wait(10) is not None:  # it powers off; all that it said is in the sockets
                for pump in pumps:
                    pump.join(10)
        return Outcome(code, b"" if on_output else bytes(output.data), console.text, time.monotonic() - begin)
