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

from iommufd_fast._remedies import REMEDIES

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
    remedy = REMEDIES.get((operation.removeprefix("kernel "), number))
    if operation.startswith("kernel "):
        from iommufd_fast.remedies import KERNEL  # late: nobody needs them who has no kernel

        remedy = KERNEL.get((operation[7:], number), remedy)
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
