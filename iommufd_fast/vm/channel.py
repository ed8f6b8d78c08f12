# SPDX-License-Identifier: Apache-2.0
"""Lines of JSON between guest and host, both ends.

From the guest: {"booted": true}, {"failed": text}, {"exit": status}, or {"call": name, "data": …}, which the host
answers by {"return": …} or {"error": text}.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

PORT = "/dev/iof-control"  # in the guest; one program at a time can have it open


class Lines:
    """The host's end.

    Parameters
    ----------
    connection : socket
        Stays the caller's to close.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._data = connection, b""

    def receive(self, deadline: float) -> dict[str, Any] | None:
        """The next message; None at the end. Lines that are none of ours are left out.

        Raises
        ------
        TimeoutError
            time.monotonic() has reached `deadline`.
        """
        while True:
            line, end, rest = self._data.partition(b"\n")
            if end:
                self._data = rest
                if (message := _message(line)) is not None:
                    return message
                continue
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self._socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self._data += more

    def send(self, message: dict[str, Any]) -> None:
        self._socket.settimeout(10)
        self._socket.sendall(json.dumps(message).encode() + b"\n")


def _message(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def call(name: str, data: Any = None) -> Any:
    """Called in the guest: hand `data` to the host's `on_call` and wait for what it returns.

    Raises
    ------
    FileNotFoundError
        This is no guest of the harness.
    RuntimeError
        Nobody answers there.
    """
    port = os.open(PORT, os.O_RDWR)
    try:
        message = json.dumps({"call": name, "data": data}).encode() + b"\n"
        while message:
            message = message[os.write(port, message) :]
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(port, 65536) or _gone(name)
    finally:
        os.close(port)
    reply = json.loads(answer)
    if "error" in reply:
        raise RuntimeError(reply["error"])
    return reply["return"]


def _gone(name: str) -> bytes:
    raise RuntimeError(f"the host is gone and did not answer {name!r}")
