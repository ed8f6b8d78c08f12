# SPDX-License-Identifier: Apache-2.0
"""What errnos of a real kernel mean, and what to do about them: `iommufd_fast.errors` asks here for handles of it."""

from __future__ import annotations

import errno as _e
import os
import resource
from pathlib import Path

from iommufd_fast.errors import IommufdError, failed, from_errno

# As in errors.py: {names} are the facts given to failed().
KERNEL: dict[tuple[str, int], str] = {
    ("open", _e.ENOENT): "this machine has no such file: the kernel needs CONFIG_IOMMUFD (`modprobe iommufd`); "
    "iof.open() is the engine, which needs nothing",
    ("open", _e.EACCES): "it may be opened by root, or by who was given the file (chown, a udev rule)",
    ("open", _e.ENODEV): "the module behind the file is not loaded: modprobe iommufd",
    ("vfio", _e.ENODEV): "there is no such PCI device; lspci -D lists them",
    ("vfio", _e.ENXIO): "it has no vfio-dev: bind it to vfio-pci (driver_override and drivers_probe in sysfs), with a "
    "kernel that has CONFIG_VFIO_DEVICE_CDEV",
    ("vfio", _e.ENOENT): "there is no such file; /dev/vfio/devices lists what there is",
    ("vfio", _e.EACCES): "it may be opened by root, or by who was given the file (chown, a udev rule)",
    ("vfio", _e.EBUSY): "somebody has the device, or its group through /dev/vfio/N, open already; close that first",
    (
        "bind",
        _e.EPERM,
    ): "another context owns the group, or its DMA is not safe to give away (a device of the group has "
    "another driver; or interrupts are not remapped); bind all devices of the group to vfio-pci",
    (
        "bind",
        _e.EBUSY,
    ): "its group is open through the legacy file (/dev/vfio/N), or a driver of the kernel owns it; close that first",
    ("bind", _e.EINVAL): "it is bound already, by this or another process; close it there first",
    ("map", _e.EFAULT): "the memory is not there, not writable, or a device's own (a mapped BAR): that cannot be "
    "pinned; export it as a dma-buf and give that to map_file()",
    ("map", _e.EINVAL): "address, length and a fixed IOVA must be multiples of the IOAS's alignment, and the range "
    "must lie in iova_ranges() (the usable ranges were read again before this was believed)",
    ("map", _e.ENOMEM): "{memlock}",
    ("map_file", _e.ENOMEM): "{memlock}",
    ("map_file", _e.EOPNOTSUPP): "the kernel cannot import this dma-buf, or any",
    ("attach", _e.EADDRINUSE): "{meeting}",
    ("attach", _e.EBUSY): "the device, or its group, is attached otherwise; detach it first",
    ("attach", _e.ENOMEM): "{memlock}",
    ("dirty", _e.EOPNOTSUPP): "dirty() is the engine's in this version; HWPT_GET_DIRTY_BITMAP is there through "
    "context.ioctl()",
    ("reset", _e.ENOTTY): "the device has no reset of its own; see info.flags",
    ("reset", _e.EINVAL): "the device has no reset of its own; see info.flags",
    ("bind", _e.EOPNOTSUPP): "bind a VfioDevice; SoftDevice and numbers are for the engine",
    ("irq", _e.EINVAL): "see interrupts: the device has fewer vectors, or another kind of interrupt is on; close that",
    ("irq", _e.ENOSPC): "the machine has no more interrupt vectors for it",
}


def _status(field: str) -> int:
    """Bytes that /proc says this process has, for example VmPin."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:")), 0)


def memlock(size: int) -> str:
    """Why pinning failed with ENOMEM: what is needed, and what the limit is."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return "the kernel has no memory for it (pinned memory is not limited here)"
    used = _status("VmPin") + _status("VmLck")
    return (
        f"{size} bytes are to be pinned and {used} are already, but the limit of locked memory is {limit} bytes: raise "
        f"it to {used + size} or more (ulimit -l {-(-(used + size) // 1024)}, or LimitMEMLOCK= of the service)"
    )


def why_no_io_uring(number: int) -> str:
    """Why the policy "io_uring" cannot be had, from the errno that said so."""
    try:
        disabled = Path("/proc/sys/kernel/io_uring_disabled").read_text(encoding="ascii").strip()
    except OSError:
        disabled = "0"
    if disabled != "0":
        return f"no: kernel.io_uring_disabled is {disabled} (sysctl -w kernel.io_uring_disabled=0)"
    if number in (_e.EPERM, _e.EACCES):
        return "no: forbidden here, by a seccomp filter (a container's profile) or a security module"
    if number == _e.EOPNOTSUPP:
        return "no: the kernel is older than 5.19, or built without io_uring"
    return f"no: {os.strerror(number)}"


def refused_hold(err: int, operation: str, what: str, size: int) -> IommufdError:
    """The exception when memory could not be held physically: by mlock, or by io_uring."""
    number = abs(err)
    if number == _e.ENOMEM:
        return from_errno(number, f"{what}: {memlock(size)}")
    if number in (_e.EPERM, _e.EOPNOTSUPP):
        return from_errno(
            number, f"{what}: io_uring cannot hold it: {why_no_io_uring(number)}, or it is a file on disk"
        )
    return failed(err, operation, what)
