# SPDX-License-Identifier: Apache-2.0
"""Page requests of devices, and the answers to them."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from iommufd_fast import uapi
from iommufd_fast._core import machines
from iommufd_fast.errors import check, failed
from iommufd_fast.queues import BATCH, Queue

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fault:
    """A page request of a device.

    Attributes
    ----------
    dev_id : int
        The device's id in its context.
    pasid : int or None
        None: the device's own requester id.
    group : int
        Requests of one group are answered together; all have its `cookie`.
    perm : uapi.FaultPerm
        What the device wants to do there.
    address : int
    last : bool
        Whether it is the last one of its group.
    cookie : int
        What `FaultQueue.respond` takes.
    """

    dev_id: int
    pasid: int | None
    group: int
    perm: uapi.FaultPerm
    address: int
    last: bool
    cookie: int


class FaultQueue(Queue[Fault]):
    """Page requests of devices whose page tables were made with ``fault=`` this one. Made by `Iommufd.fault_queue`."""

    _made_by = "context.fault_queue()"
    _kind = "fault queue"

    def _fetch(self, most: int) -> list[Fault]:
        return [_fault(record) for record in self._read_records(most).tolist()]

    def _read_records(self, most: int) -> NDArray[np.void]:
        """Whole groups only: a first one that is longer than `most` is read all the same."""
        while True:
            room = np.empty(most, uapi.FAULT_RECORD)
            n = self._file.read_into(room.view(np.uint8).data)
            if n != -errno.EINVAL:
                check(n, "read", f"cannot read {self._what()}")
                return room[: n // room.itemsize]
            most *= 2

    def read_records(self, most: int = BATCH) -> NDArray[np.void]:
        """Take what is there as a structured array (``uapi.FAULT_RECORD``): for very many. Never waits."""
        self._file.check_open()
        with self._lock:
            return self._read_records(max(machines.as_u64(most, "most"), 1))

    def respond(
        self, fault: Fault | int | Iterable[Fault | int], code: uapi.FaultCode | int = uapi.FaultCode.SUCCESS
    ) -> None:
        """Answer a group of page requests, or many.

        Parameters
        ----------
        fault : Fault, int, or iterable of them
            Of each group one: a record, or its cookie (an array of cookies is fine).
        code : uapi.FaultCode
            SUCCESS: the page is there now, try again. INVALID: it will never be.

        Raises
        ------
        Invalid
            Not a cookie that waits for an answer (answered, or its device was detached). ``.done`` were answered.
        """
        self._file.check_open()
        many = fault if isinstance(fault, Iterable) else (fault,)
        cookies = [f.cookie if isinstance(f, Fault) else machines.as_u64(f, "cookie", 0xFFFFFFFF) for f in many]
        answers = np.zeros(len(cookies), uapi.FAULT_RESPONSE)
        answers["cookie"], answers["code"] = cookies, machines.as_u64(code, "code", 0xFFFFFFFF)
        done = 0
        while done < len(answers):
            n = self._file.write(answers[done:].view(np.uint8).data)
            if n <= 0:
                error = failed(n or errno.EIO, "respond", f"cannot answer cookie {cookies[done]} of {self._what()}")
                error.done = done
                raise error
            done += n // answers.itemsize

    def _holders(self) -> list[str]:
        return [f"HWPT {h.id}" for h in list(self.context._hwpts.values()) if h.fault is self]


def _fault(record: tuple[int, ...]) -> Fault:
    flags, dev_id, pasid, group, perm, _, address, _, cookie = record
    valid, last = flags & uapi.FaultFlag.PASID_VALID, flags & uapi.FaultFlag.LAST_PAGE
    return Fault(dev_id, pasid if valid else None, group, uapi.FaultPerm(perm), address, bool(last), cookie)
