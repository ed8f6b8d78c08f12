# SPDX-License-Identifier: Apache-2.0
"""From an errno to an exception. This is the only place where that happens.

Every refusal by an engine or a kernel is an `IommufdError`, which is an OSError with the errno in ``.errno``. Where
Python has a built-in exception of the same meaning, the class is that too, so ``except FileExistsError`` works. Wrong
arguments that are noticed before anything was asked of the engine are plain TypeError and ValueError.
"""

from __future__ import annotations

import errno as _e
import os
from typing import Any, NoReturn

__all__ = [
    "BadAddress",
    "Busy",
    "DmaFault",
    "ForkedError",
    "Full",
    "Invalid",
    "IommufdError",
    "NoDevice",
    "NotFound",
    "NotPermitted",
    "NotSupported",
    "OutOfMemory",
    "RangeExists",
    "RangeOverflow",
    "RangeReserved",
    "UnknownCommand",
]


class IommufdError(OSError):
    """An operation was refused; ``.errno`` says why.

    ``.index`` is the entry of a batch that failed, or None. ``.done`` says how much was done before it, or is None.
    """

    index: int | None = None
    done: int | None = None


class NotFound(IommufdError, FileNotFoundError):
    """ENOENT: no such object, or nothing (or only a part of something) mapped there."""


class RangeExists(IommufdError, FileExistsError):
    """EEXIST: a fixed IOVA range overlaps a live mapping."""


class RangeReserved(IommufdError):
    """EADDRINUSE: reserved, allowed or mapped ranges stand in the way of each other."""


class Busy(IommufdError):
    """EBUSY: something else still uses the object."""


class BadAddress(IommufdError):
    """EFAULT: memory is not there, or not with the wanted permission."""


class Invalid(IommufdError, ValueError):
    """EINVAL: the request contradicts the object's state: alignment, aperture, type."""


class RangeOverflow(IommufdError, OverflowError):
    """EOVERFLOW: a range wraps around the end of the address space."""


class Full(IommufdError):
    """ENOSPC: no free IOVA range is large enough."""


class NotPermitted(IommufdError, PermissionError):
    """EPERM or EACCES: somebody else owns it, or a privilege or limit is missing."""


class OutOfMemory(IommufdError, MemoryError):
    """ENOMEM: no memory, or an account's limit of pinned memory is reached."""


class NotSupported(IommufdError):
    """EOPNOTSUPP: this provider, device or object cannot do that."""


class NoDevice(IommufdError):
    """ENODEV: no such device, or the object has no page table."""


class UnknownCommand(IommufdError):
    """ENOTTY: the provider does not know the command."""


class DmaFault(IommufdError):
    """A device's DMA was stopped by its page table, or by the memory behind it.

    Attributes
    ----------
    iova : int
        The first IOVA that was refused.
    reason : str
        "blocked" (not attached), "unmapped", "denied" (no such permission), "memory" (mapped, but it is gone) or
        "table" (a guest's table or descriptor holds what none may hold).
    write : bool
        Whether the device wanted to write there.
    done : int
        Bytes moved before the fault; when the memory is gone, at least so many.
    stage, level : int or None
        Through a nested page table: 1, the guest's, or 2, its parent's, and the level of that stage's table.
    fetch, address : int or None
        Stage 1: the guest-physical `address` of the entry (or "descriptor"). Stage 2: what was asked for, by the
        guest's table at level `fetch` (or a "descriptor"), or for the page itself (None).
    requests : int
        Page requests that did not help.
    """

    done: int
    stage: int | None = None
    level: int | None = None
    fetch: int | str | None = None
    address: int | None = None
    requests: int = 0

    def __init__(self, what: str, iova: int, reason: str, write: bool, done: int) -> None:
        super().__init__(_e.EFAULT, what)
        self.iova, self.reason, self.write, self.done = iova, reason, write, done

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.strerror, self.iova, self.reason, self.write, self.done), self.__dict__


class ForkedError(RuntimeError):
    """A handle that came here by fork() was used; it belongs to the parent process."""


_CLASSES: dict[int, type[IommufdError]] = {
    _e.ENOENT: NotFound,
    _e.EEXIST: RangeExists,
    _e.EADDRINUSE: RangeReserved,
    _e.EBUSY: Busy,
    _e.EFAULT: BadAddress,
    _e.EINVAL: Invalid,
    _e.EOVERFLOW: RangeOverflow,
    _e.ENOSPC: Full,
    _e.EPERM: NotPermitted,
    _e.EACCES: NotPermitted,
    _e.ENOMEM: OutOfMemory,
    _e.EOPNOTSUPP: NotSupported,
    _e.ENODEV: NoDevice,
    _e.ENOTTY: UnknownCommand,
}

# What an errno means for an operation, and what to do about it. {names} are the facts given to failed().
_REMEDIES: dict[tuple[str, int], str] = {
    ("map", _e.EEXIST): "the range overlaps a live mapping; unmap that first, or leave iova out to have one chosen",
    ("map", _e.EINVAL): "address, length and a fixed IOVA must be multiples of the IOAS's alignment, and the range "
    "must lie in iova_ranges() (it may be reserved or outside a device's aperture)",
    ("map", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("map", _e.ENOSPC): "no free range is that large; unmap something, or widen what allow() permits",
    ("map", _e.EFAULT): "the memory is not mapped in this process, or read-only; give a live buffer, or access='r'",
    ("map", _e.EPERM): "the memory was first mapped read-only and cannot be mapped writable; use access='r'",
    ("map", _e.ENOMEM): "no memory, or the limit of pinned memory (ulimit -l) is reached",
    ("map", _e.ENOENT): "the IOAS was destroyed",
    ("copy", _e.ENOENT): "the source range is not wholly mapped, or an IOAS was destroyed; see mappings()",
    ("copy", _e.EEXIST): "the target range overlaps a live mapping; unmap that first, or leave dst_iova out",
    ("copy", _e.EPERM): "the source was mapped read-only; copy with access='r'",
    ("copy", _e.EINVAL): "the range must fit the target's alignment and iova_ranges()",
    ("copy", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("unmap", _e.ENOENT): "nothing is mapped there, or a mapping sticks out of the range (mappings are never cut); "
    "see mappings()",
    ("unmap", _e.EBUSY): "a mapping in the range is being made or is in use; try again",
    ("unmap", _e.EDEADLK): "an access has pinned it and does not let go: views of that memory are in use",
    ("unmap", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("allow", _e.EINVAL): "each range needs start < last, and none may overlap another",
    ("allow", _e.EADDRINUSE): "a range covers a reserved one; stay inside iova_ranges()",
    (
        "huge_pages",
        _e.EINVAL,
    ): "it cannot be turned off while page tables and mappings are there; unmap or detach first",
    ("huge_pages", _e.EADDRINUSE): "a live mapping is not aligned to 4096 bytes; unmap it first",
    ("bind", _e.EPERM): "another context owns a device of the same group; close that context's devices first, or use a "
    "device of another group",
    ("bind", _e.EINVAL): "it is open already; close the other handle first",
    ("bind", _e.ENODEV): "the machine has no such device; see machine.devices, or plug() one",
    (
        "attach",
        _e.EINVAL,
    ): "the page table does not fit the device (another IOMMU, aperture or alignment), or a mapping "
    "in the IOAS is not aligned for it",
    ("attach", _e.EADDRINUSE): "mappings or allowed ranges of the IOAS lie in the device's reserved regions, outside "
    "its aperture, or are not aligned to its pages; unmap them first",
    ("attach", _e.EBUSY): "the device's group is in use otherwise; detach it first",
    ("attach", _e.ENOENT): "the IOAS or HWPT was destroyed, or the guest has no id for the device: vdevice() first",
    ("attach", _e.EFAULT): "memory mapped in the IOAS is gone; unmap it first",
    ("destroy", _e.EBUSY): "still in use{holders}; detach devices and close page tables first",
    ("destroy", _e.ENOENT): "it was destroyed already",
    ("hwpt", _e.EOPNOTSUPP): "the device's IOMMU cannot do what flags or data ask for (only nested ones take data)",
    ("hwpt", _e.EIO): "the stream table entry asks for something that is not a guest's to set",
    ("hwpt", _e.EINVAL): "flags or data do not fit: a nested page table needs data, a parent with NEST_PARENT and the "
    "same IOMMU",
    ("hwpt", _e.EADDRINUSE): "mappings of the IOAS lie outside the device's aperture or are not aligned to its pages",
    ("hwpt", _e.EFAULT): "memory mapped in the IOAS is gone; unmap it first",
    ("hwpt", _e.ENOENT): "the device or the IOAS is gone",
    ("translate", _e.ENODEV): "the IOAS has no page table yet; attach a device, or make one with context.hwpt()",
    ("rlimit_mode", _e.EPERM): "changing it needs CAP_SYS_RESOURCE",
    ("rlimit_mode", _e.EBUSY): "the context has objects already; set it right after open()",
    ("pins", _e.EOPNOTSUPP): "only machines with addresses='synthetic' count pins by page",
    ("pins", _e.EFAULT): "nothing is mapped there in this process",
    ("machine", _e.EINVAL): "every group needs at least one device",
    ("plug", _e.ENODEV): "no such group; see machine.groups",
    ("dma", _e.EINVAL): "a segment is empty or wraps around the end of the address space",
    ("map_file", _e.EBADF): "the descriptor is not open",
    ("map_file", _e.EINVAL): "it must be a memfd or another file of shared memory whose pages all lie inside its size, "
    "and a fixed IOVA must lie in iova_ranges()",
    ("map_file", _e.EEXIST): "the range overlaps a live mapping; unmap that first, or leave iova out",
    ("map_file", _e.ENOSPC): "no free range is that large; unmap something, or widen what allow() permits",
    ("map_file", _e.ENODEV): "the dma-buf was revoked by its exporter",
    ("map_file", _e.EOPNOTSUPP): "it is a dma-buf of the system's; only those of machine.dmabuf() can be imported",
    ("map_file", _e.ENOMEM): "no memory, or the limit of pinned memory (ulimit -l) is reached",
    ("change_process", _e.EINVAL): "something other than files is mapped; only map_file() can change hands",
    ("change_process", _e.EBUSY): "a mapping is being made or unmapped; try again",
    ("change_process", _e.ENOMEM): "it is more than this process's limit of pinned memory (ulimit -l)",
    ("dirty", _e.EOPNOTSUPP): "make the page table with uapi.HwptFlag.DIRTY_TRACKING",
    ("dirty", _e.ENOENT): "it is gone, or nested: its parent's writes are what is tracked",
    ("hwpt_stats", _e.ENOENT): "it is gone, or nested: there is no page table of ours to count",
    ("invalidate", _e.EINVAL): "only nested page tables and vIOMMUs are invalidated, by a type that the driver knows",
    ("invalidate", _e.EIO): "the command is not one of a guest's, or names a device that has no vDEVICE here",
    ("invalidate", _e.EOPNOTSUPP): "the driver takes no invalidations there, or not with these flags",
    ("viommu", _e.EOPNOTSUPP): "the device's IOMMU has no vIOMMU of that type; of the soft ones arm and amd have some",
    ("viommu", _e.EINVAL): "the parent must be made with uapi.HwptFlag.NEST_PARENT, and data be what the driver knows",
    ("vdevice", _e.EEXIST): "the device has a vDEVICE already, or the id is taken",
    ("vdevice", _e.EINVAL): "the device is behind another IOMMU",
    ("events", _e.EEXIST): "the vIOMMU has a queue of that type already",
    ("events", _e.EINVAL): "depth must be between 1 and 2**19",
    ("hw_queue", _e.EOPNOTSUPP): "the driver has no hardware queues of that type",
    ("hw_queue", _e.EFAULT): "the memory is not contiguous for the hardware",
    ("hw_queue", _e.ENOENT): "not all of the range is mapped in the parent's IOAS",
    ("mmap", _e.ENXIO): "no vIOMMU shares exactly that range; offset and length are what its driver told",
    ("access", _e.EADDRINUSE): "a mapping of the IOAS is not aligned to pages",
    ("access", _e.ENOENT): "the IOAS was destroyed",
    ("pin", _e.EINVAL): "the access has pin=False, the memory is just being unmapped, or it is a dma-buf's",
    ("pin", _e.ENOENT): "not all of the range is mapped, or the access is not attached",
    ("pin", _e.EPERM): "the memory was not mapped for this; see access= of map()",
    ("access_rw", _e.EINVAL): "the length is 0, the memory is just being unmapped, or it is a device's (a dma-buf)",
    ("access_rw", _e.ENOENT): "not all of the range is mapped, or the access is not attached",
    ("access_rw", _e.EPERM): "the memory was not mapped for this; see access= of map()",
    ("respond", _e.EINVAL): "no such cookie waits for an answer, or the code is neither SUCCESS nor INVALID",
    ("ioctl", _e.EFAULT): "the struct, or memory that it points to, is not there",
    ("ioctl", _e.E2BIG): "the struct is longer than what is known and its tail is not zero",
    ("ioctl", _e.EMSGSIZE): "the array is too short; the struct now says how many entries there are",
}


def from_errno(err: int, what: str, index: int | None = None) -> IommufdError:
    """Build the exception for an errno of either sign and a sentence.

    Parameters
    ----------
    err : int
        The errno; C's negative form is fine.
    what : str
        The sentence: which object, which range, and what to do.
    index : int, optional
        Which entry of a batch it was.
    """
    number = abs(int(err))
    if not number:
        raise SystemError(f"success is not an error: {what}")
    error = _CLASSES.get(number, IommufdError)(number, what)
    error.index = index
    return error


def failed(err: int, operation: str, what: str, *, index: int | None = None, **facts: object) -> IommufdError:
    """Build the exception for a refused operation: `what` names object and range, the remedy is added here."""
    number = abs(int(err))
    remedy = _REMEDIES.get((operation, number))
    if remedy is None:
        remedy = os.strerror(number)
    return from_errno(number, f"{what}: {remedy.format(**facts)}", index)


def check(result: Any, operation: str, what: str, **facts: object) -> Any:
    """Return a result of the C core, or raise when it is a negative errno."""
    if isinstance(result, int) and result < 0:
        raise failed(result, operation, what, index=None, **facts)
    return result


def forked(name: str) -> NoReturn:
    """Refuse a handle that fork() copied."""
    raise ForkedError(
        f"{name} belongs to the process that made it and was not carried over by fork(): open a new one here, or start "
        "workers with multiprocessing.get_context('spawn')"
    )
