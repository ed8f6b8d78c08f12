# SPDX-License-Identifier: Apache-2.0
"""Memory that an address space has in common with others: copies of mappings, files, and who pays for them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Protocol

from iommufd_fast import uapi
from iommufd_fast._core import _policies, batch, filemap, handles, machines
from iommufd_fast._core.ioascore import IoasCore, access_flags
from iommufd_fast._core.mapping import Mapping
from iommufd_fast._core.origins import origin
from iommufd_fast.errors import IommufdError, check, failed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from iommufd_fast.context import Iommufd

LAST = 2**64 - 1


class SupportsFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


class Sharing(IoasCore):
    """The part of `Ioas` about files and copies."""

    context: Iommufd

    def _what(self) -> str:
        return f"IOAS {self.id} of {self.context._h.name}"

    def _refused(self, err: int, what: str, size: int, policy: int, index: int | None = None) -> IommufdError:
        """The exception for maps of `size` bytes together that were refused; of a kernel it says how much is pinned."""
        machine = self.context.machine
        if machine is None:
            from iommufd_fast.remedies import memlock  # late: nobody needs it who has no kernel

            error = failed(err, "kernel map", what, memlock=memlock(size) if err == -errno.ENOMEM else "")
        else:
            error = _policies.refusal(err, what, size, policy, machine._core.policy)
        error.index = index
        return error

    def _check_other(self, other: Sharing) -> None:
        self.check_open()
        if not isinstance(other, Sharing):
            raise TypeError(f"other must be an Ioas, not {type(other).__name__}")
        other.check_open()
        if other.context is not self.context:
            raise ValueError(f"{other!r} belongs to another context; a copy stays within one")

    def copy_to(
        self, other: Sharing, iova: int, length: int, *, dst_iova: int | None = None, access: str = "rw"
    ) -> Mapping:
        """Map what is mapped here in another IOAS of the same context (or here again), without pinning it twice.

        The range may be a part of a mapping or span several, but not a hole. The memory stays alive for the copy too.
        """
        self._check_other(other)
        start, size = machines.as_u64(iova, "iova"), machines.as_u64(length, "length")
        flags, place = int(access_flags(access)), 0
        if dst_iova is not None:
            place, flags = machines.as_u64(dst_iova, "dst_iova"), flags | uapi.MapFlag.FIXED_IOVA
        owners = handles.holders(self, start, min(start + max(size, 1) - 1, LAST))
        what = f"cannot copy {size:#x} bytes at IOVA {start:#x} of {self._what()} to IOAS {other.id}"
        where = check(self.context._h.ioas_copy(flags, other.id, self.id, size, place, start), "copy", what)
        return handles.adopt(other, where, size, flags, owners, origin())

    def copy_many(
        self,
        other: Sharing,
        iovas: ArrayLike,
        lengths: ArrayLike,
        *,
        dst_iovas: ArrayLike | None = None,
        access: str = "rw",
    ) -> NDArray[np.uint64]:
        """Map many ranges of this space in another one of the same context, all or nothing, in one call.

        Parameters
        ----------
        other : Ioas
            Where to; this one too.
        iovas, lengths : array of integers, shape (n,)
            What is copied, each as by `copy_to`; one integer as `lengths` is for all. The caller keeps the memory
            alive.
        dst_iovas : array of integers, shape (n,), optional
            Where in `other`; chosen by default.
        access : {"rw", "r", "w"}
            What devices may do there.

        Returns
        -------
        ndarray of uint64, shape (n,)
            The IOVAs in `other`.

        Raises
        ------
        IommufdError
            ``.index`` is the entry that was refused, ``.errno`` says why. Nothing is copied.
        """
        self._check_other(other)
        flags = int(access_flags(access))
        err, index, out = batch.copy_many(self.context._h, other.id, self.id, flags, iovas, lengths, dst_iovas)
        if err < 0:
            what = f"cannot copy entry {index} of the batch from {self._what()} to IOAS {other.id}"
            raise failed(err, "copy", what, index=index)
        return out

    def map_file(
        self,
        file: SupportsFileno | int,
        offset: int = 0,
        length: int | None = None,
        *,
        iova: int | None = None,
        access: str = "rw",
    ) -> Mapping:
        """Map pages of a file: a memfd or another file of shared memory, or a dma-buf of the machine.

        No address of this process is needed, and the file may be closed afterwards. Unlike other memory, files can pass
        to another process (`change_process`).

        Parameters
        ----------
        file : int, or object with fileno()
            A descriptor.
        offset, length : int
            Which bytes; by default all from `offset` on. The whole pages in which they lie are mapped.
        iova : int, optional
            Where the first byte shall be (with the offset's place in its page). Chosen by the engine by default.

        Raises
        ------
        IommufdError
            EBADF: no open descriptor. EINVAL: no file of shared memory, or its end lies before that of the last page.
            This shows when pages are taken, so perhaps only when a device is attached.
        """
        self.check_open()
        fd = file.fileno() if hasattr(file, "fileno") else file
        number, start = machines.as_u64(fd, "file", 0x7FFFFFFF), machines.as_u64(offset, "offset")
        if length is None:
            size = os.fstat(number).st_size
            if start >= size:
                raise ValueError(f"offset {start:#x} is not inside the file, which has {size:#x} bytes")
            length = size - start
        return filemap.map_file(self, number, start, length, iova, access_flags(access))

    def change_process(self) -> None:
        """Do what `Iommufd.change_process` does: it is the whole context that passes to this process."""
        self.check_open()
        self.context.change_process()
