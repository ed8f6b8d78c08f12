# SPDX-License-Identifier: Apache-2.0
"""QEMU as a process, and the four sockets that connect us with it.

Each is one end of a socketpair that QEMU inherits: nothing has a name in the file system, and both ends are gone with
their processes.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SOCKETS = ("console", "output", "control", "monitor")

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Qemu:
    """A running QEMU, our ends of its sockets, and a file with what it says itself."""

    process: subprocess.Popen[bytes]
    sockets: dict[str, socket.socket]
    log: Path

    def wait(self, seconds: float) -> int | None:
        """Its exit status, or None when it still runs after so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def said(self) -> str:
        return self.log.read_text(errors="replace").strip()


@contextlib.contextmanager
def started(command: Callable[[dict[str, int]], list[str]], log: Path) -> Iterator[Qemu]:
    """QEMU at work; it is gone afterwards, whatever happened. `command` gets the descriptors that QEMU inherits."""
    pairs = {name: socket.socketpair() for name in SOCKETS}
    theirs = {name: pair[1].fileno() for name, pair in pairs.items()}
    with contextlib.ExitStack() as ours:
        for end, _ in pairs.values():
            ours.enter_context(end)
        try:
            with open(log, "wb") as out:
                process = subprocess.Popen(
                    command(theirs),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    pass_fds=tuple(theirs.values()),
                    start_new_session=True,
                )
        finally:
            for _, end in pairs.values():
                end.close()
        try:
            yield Qemu(process, {name: pair[0] for name, pair in pairs.items()}, log)
        finally:
            process.kill()
            process.wait()


class Pump(threading.Thread):
    """Reads a socket to its end, in a thread of its own, so that a slow callback elsewhere never stalls the guest."""

    def __init__(self, source: socket.socket, sink: Sink) -> None:
        super().__init__(daemon=True)
        self.source, self.sink = source, sink
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.source.recv(65536):
                self.sink(data)


class Tail:
    """The last `keep` bytes of what was said; `also` gets all of it."""

    def __init__(self, keep: int, also: Sink | None) -> None:
        self.data, self.keep, self.also = bytearray(), keep, also

    def __call__(self, data: bytes) -> None:
        self.data += data
        del self.data[: -self.keep]
        if self.also:
            self.also(data)

    @property
    def text(self) -> str:
        return self.data.decode(errors="replace").replace("\r", "")

    def lines(self, count: int) -> str:
        kept = [line for line in self.text.splitlines() if line.strip()][-count:]
        return "\n".join(f"  | {line}" for line in kept) or "  | (nothing)"
