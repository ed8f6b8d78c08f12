# SPDX-License-Identifier: Apache-2.0
"""From an address to its IOVA, the question of every I/O, and back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np

from iommufd_fast._core import filemap, machines
from iommufd_fast._core.vaindex import VaIndex, open_index
from iommufd_fast.errors import check, from_errno
from iommufd_fast.sharing import Sharing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Buffer


class Addressing(Sharing):
    """The part of `Ioas` about where memory is for a device, and where an IOVA is for this process."""

    _va_index: VaIndex | None = None

    def _index(self) -> VaIndex:
        self.check_open()
        if self._va_index is None:
            found = check(open_index(self.context._h, self.id), "iova_of", f"no address index of {self._what()}")
            self._va_index = found
        return self._va_index

    def iova_of(self, memory: Buffer | int, length: int | None = None) -> int:
        """The IOVA at which devices reach an object's memory, or an address.

        The first call makes an index of what is mapped; from then on a look-up takes some nanoseconds however much is
        mapped, and maps and unmaps cost a little more. Where the same memory is mapped several times, the lowest IOVA
        is the answer.

        Parameters
        ----------
        memory : buffer or int
            A contiguous object with the buffer protocol, or an address.
        length : int, optional
            How many bytes have to be contiguous there: all of an object, one byte of an address by default.

        Raises
        ------
        NotFound
            It is not mapped, or not so many bytes of it by one mapping. `iovas_of` tells how far each mapping goes.
        """
        iova, rest, address, size = self._index().find(memory, length)
        if rest < max(size, 1):
            raise self._not_mapped(address, size, rest)
        return iova

    def _not_mapped(self, address: int, size: int, rest: int) -> Exception:
        what = f"{size:#x} bytes at address {address:#x} have no IOVA in {self._what()}"
        hint = f"one mapping has the first {rest:#x} bytes only" if rest else "nothing is mapped there; map() it first"
        return from_errno(errno.ENOENT, f"{what}: {hint}")

    def iovas_of(self, addresses: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The IOVAs of many addresses.

        Parameters
        ----------
        addresses : array of integers, shape (n,)
            Addresses of this process.

        Returns
        -------
        iovas : ndarray of uint64, shape (n,)
            2**64-1 where nothing is mapped.
        lengths : ndarray of uint64, shape (n,)
            Bytes from there to the end of the mapping; 0 where nothing is mapped.
        """
        return self._index().find_many(addresses)

    def address_of(self, iova: int) -> int:
        """The address in this process of the memory that is mapped at an IOVA, whether a page table shows it or not.

        Raises
        ------
        NotFound
            Nothing is mapped there.
        ValueError
            A file is: its memory has no address in this process.
        """
        self.check_open()
        at = machines.as_u64(iova, "iova")
        start, _, address, flags = check(
            self.context._h.mapping(self.id, at, at), "address_of", f"no memory at IOVA {at:#x} of {self._what()}"
        )
        if flags & filemap.FILE:
            raise ValueError(f"IOVA {at:#x} of {self._what()} is a file's, at offset {address + (at - start):#x}")
        return address + (at - start)
