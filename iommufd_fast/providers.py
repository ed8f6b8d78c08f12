# SPDX-License-Identifier: Apache-2.0
"""Opening a context by the name of its provider."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np

from iommufd_fast import uapi
from iommufd_fast.context import Iommufd
from iommufd_fast.errors import IommufdError
from iommufd_fast.machine import Machine, default_machine

DEV_IOMMU = "/dev/iommu"
_VFIO = Path("/dev/vfio/devices")


def open(
    provider: str | os.PathLike[str] | int = "engine", *, machine: Machine | None = None, iova: str = "own"
) -> Iommufd:
    """Open a context.

    Parameters
    ----------
    provider : str, path or int
        "engine": in this process, on `machine`. "kernel", a path such as "/dev/iommu", or a descriptor of it that is
        open already (and belongs to the context from then on): the kernel's. "auto": the kernel when /dev/iommu can be
        opened and a device is bound to a VFIO driver, else the engine; ``context.provider`` says which it is, and
        ``context.why``.
    machine : Machine, optional
        By default the process's default machine. The engine's only.
    iova : {"own", "kernel", "va"}
        On a kernel, who chooses an IOVA that is left open: this library, so that it costs the same however much is
        mapped; the kernel; or nobody, the IOVA being the memory's address.

    Raises
    ------
    IommufdError
        The kernel refused: there is no such file (ENOENT, ENODEV), or no permission (EACCES).
    """
    if iova != "own" and iova not in (CHOICES := _choices()):
        raise ValueError(f"iova must be one of {', '.join(map(repr, CHOICES))}, not {iova!r}")
    if machine is not None and not isinstance(machine, Machine):
        raise TypeError(f"machine must be a Machine, not {type(machine).__name__}")
    if isinstance(provider, bool) or not isinstance(provider, (str, os.PathLike, int)):
        raise TypeError(f"provider must be a string, a path or a descriptor, not {type(provider).__name__}")
    if provider == "engine":
        return (default_machine() if machine is None else machine).open()
    if machine is not None:
        raise ValueError(f"a machine is the engine's; {provider!r} has none")
    if provider == "auto":
        return _auto(iova)
    if isinstance(provider, int):
        _require_iommufd(provider)
        return Iommufd._open_kernel(provider, iova, f"descriptor {provider} was given")
    path = DEV_IOMMU if provider == "kernel" else os.fspath(provider)
    if "/" not in path:
        raise ValueError(f"there is no provider {path!r}: 'engine', 'kernel', 'auto', or a path such as '/dev/iommu'")
    return Iommufd._open_kernel(path, iova, f"{path} was asked for")


def _choices() -> dict[str, int]:
    from iommufd_fast._core.kernelfile import CHOICES

    return CHOICES


def _require_iommufd(fd: int) -> None:
    """Refuse what is no iommufd before it is taken over; asking for an option changes nothing."""
    import fcntl

    ask = np.zeros((), uapi.OPTION)
    ask["size"], ask["option_id"], ask["op"] = ask.itemsize, uapi.Option.RLIMIT_MODE, uapi.OptionOp.GET
    try:
        fcntl.ioctl(fd, uapi.Command.OPTION, bytearray(ask.tobytes()))
    except (OSError, ValueError) as error:
        raise ValueError(f"descriptor {fd} is no open /dev/iommu: {error}") from None


def _auto(iova: str) -> Iommufd:
    devices = sorted(p.name for p in _VFIO.iterdir()) if _VFIO.is_dir() else []
    try:
        if not devices:
            raise IommufdError(errno.ENODEV, "no device is bound to a VFIO driver with a file in /dev/vfio/devices")
        return Iommufd._open_kernel(DEV_IOMMU, iova, f"{DEV_IOMMU} can be opened, and there is {', '.join(devices)}")
    except IommufdError as error:
        made = default_machine().open()
        made.why = f"not the kernel: {error.strerror}"
        return made
