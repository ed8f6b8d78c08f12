# SPDX-License-Identifier: Apache-2.0
"""The programs a guest needs: QEMU, and a busybox that is linked statically (it runs before there is any library)."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from iommufd_fast import _elf

QEMU = "qemu-system-x86_64"


class Missing(RuntimeError):
    """This machine cannot run a guest; the text says what to install."""


def find_qemu() -> Path:
    """The emulator: ``$IOF_QEMU``, else qemu-system-x86_64 from PATH."""
    machine = platform.machine()
    if machine != "x86_64":
        raise Missing(
            f"guests run this machine's own programs, and are built for x86-64 only so far; this is {machine}"
        )
    name = os.environ.get("IOF_QEMU") or QEMU
    found = shutil.which(name)
    if not found:
        raise Missing(
            f"{name} was not found; install it (Debian, Ubuntu: apt install --no-install-recommends qemu-system-x86)"
        )
    return Path(found)


def find_busybox() -> Path:
    """A static busybox: ``$IOF_BUSYBOX``, else from PATH."""
    name = os.environ.get("IOF_BUSYBOX") or "busybox"
    found = shutil.which(name)
    if not found:
        raise Missing(f"{name} was not found; install it (Debian, Ubuntu: apt install busybox-static)")
    try:
        dynamic = _elf.look(Path(found)).interpreter
    except (OSError, _elf.NotElf) as e:
        raise Missing(f"{found} cannot be used as a guest's first program: {e}") from e
    if dynamic:
        raise Missing(
            f"{found} needs {dynamic} and so cannot be a guest's first program; install a static one (Debian, Ubuntu: "
            "apt install busybox-static) or name one in IOF_BUSYBOX"
        )
    return Path(found)


def check_kernel(kernel: Path) -> Path:
    """The kernel itself when it looks like an x86 bzImage."""
    try:
        with open(kernel, "rb") as file:
            head = file.read(0x206)
    except OSError as e:
        raise Missing(f"the kernel cannot be read: {e}") from e
    if head[0x202:0x206] != b"HdrS":
        raise Missing(f"{kernel} is no x86 kernel image (bzImage or vmlinuz)")
    return kernel
