# SPDX-License-Identifier: Apache-2.0
"""The files of /proc, /sys, /dev and /boot, below a root that tests choose. What is not there is no error here."""

from __future__ import annotations

import gzip
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Host:
    """A machine as its files show it.

    Parameters
    ----------
    root : Path
        The root directory to look below.
    access : callable(path, mode) -> bool
        os.access, or what a test has in its place.
    """

    def __init__(self, root: Path = Path("/"), access: Callable[[Path, int], bool] = os.access) -> None:
        self.root, self._access = root, access

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def text(self, name: str) -> str | None:
        """A file's content without blanks around it; None when it cannot be read."""
        try:
            return self.path(name).read_text(errors="replace").strip()
        except OSError:
            return None

    def unpacked(self, name: str) -> str | None:
        """Of a file compressed by gzip."""
        try:
            return gzip.decompress(self.path(name).read_bytes()).decode(errors="replace")
        except (OSError, EOFError, ValueError):
            return None

    def names(self, name: str) -> list[str]:
        """Names in a folder, in order, numbers by value."""
        try:
            names = os.listdir(self.path(name))
        except OSError:
            return []
        return sorted(names, key=lambda n: (0, int(n), n) if n.isdecimal() else (1, 0, n))

    def link(self, name: str) -> str | None:
        """The last part of where a symbolic link points."""
        try:
            return Path(os.readlink(self.path(name))).name
        except OSError:
            return None

    def node(self, name: str) -> dict[str, Any]:
        """A device node: is it there, may we use it, and whose is it?"""
        try:
            found = self.path(name).stat()
        except OSError:
            return {"path": name, "exists": False, "usable": False, "mode": None, "owner": None}
        return {
            "path": name,
            "exists": True,
            "usable": self._access(self.path(name), os.R_OK | os.W_OK),
            "mode": stat.filemode(found.st_mode),
            "owner": f"{found.st_uid}:{found.st_gid}",
        }

    def log(self) -> list[str] | None:
        """The kernel's messages, without prefix; None when they are not ours to read."""
        try:
            fd = os.open(self.path("/dev/kmsg"), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        lines: list[str] = []
        try:
            while record := os.read(fd, 8192):
                lines += [
                    line.partition(";")[2] for line in record.decode(errors="replace").splitlines() if ";" in line
                ]
        except OSError:
            pass  # at the end of the buffer: EAGAIN; EPIPE when records were overwritten meanwhile
        finally:
            os.close(fd)
        return lines
