# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor: commands in JSON over a socket, one answer each; events in between are left out."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class MonitorError(RuntimeError):
    """QEMU refused a command, or is gone."""


class Monitor:
    """One monitor; for one thread.

    Parameters
    ----------
    connection : socket
        Stays the caller's to close.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb")
        self._ready = False

    def _line(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise MonitorError("QEMU has closed its monitor")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, name: str, arguments: dict[str, Any]) -> Any:
        self._file.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = self._line()
            if "error" in answer:
                raise MonitorError(f"{name}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]

    def execute(self, name: str, **arguments: Any) -> Any:
        """Run a command of QMP (``execute("query-status")``) and return its answer.

        An underscore in an argument's name stands for a hyphen.

        Raises
        ------
        MonitorError
        """
        if not self._ready:
            self._line()  # the greeting
            self._ask("qmp_capabilities", {})
            self._ready = True
        return self._ask(name, {key.replace("_", "-"): value for key, value in arguments.items()})

    def human(self, line: str) -> str:
        """Run a line of the human monitor, ``info mtree`` for instance, and return what it prints."""
        return str(self.execute("human-monitor-command", command_line=line))

    def save_memory(self, file: Path, start: int, size: int) -> None:
        """Write guest-physical memory to a file of the host (``pmemsave``)."""
        self.execute("pmemsave", val=start, size=size, filename=str(file))
