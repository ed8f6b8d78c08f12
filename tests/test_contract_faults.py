# SPDX-License-Identifier: Apache-2.0
"""Fault queues: page requests of a device are read, waited for and answered, in loops and in event loops."""

from __future__ import annotations

import asyncio
import select
import threading
import time

import numpy as np
import pytest
from rig import Answers, Rig

import iommufd_fast as iof
from iommufd_fast import uapi

PASID = uapi.HwptFlag.PASID


class Setting:
    """A device of the rig's, attached to a page table with a fault queue."""

    def __init__(self) -> None:
        self.machine = iof.Machine("intel", groups=())
        self.rig = Rig(self.machine)
        self.ctx = self.machine.open()
        self.dev = self.ctx.bind(self.rig.first)
        self.q = self.ctx.fault_queue()
        self.hwpt = self.ctx.hwpt(self.dev, self.ctx.ioas(), PASID, fault=self.q)
        self.dev.attach(self.hwpt)
        self.answers = Answers()

    def ask(self, group=1, address=0x1000, **more):
        assert self.rig.request(self.dev, group, address, self.answers, **more) == 0


@pytest.fixture
def s():
    setting = Setting()
    yield setting
    setting.ctx.close()
    assert setting.machine.is_valid()
    setting.machine.close()


def test_a_fault_is_read_and_answered(s):
    assert s.q.read() == []
    s.ask(group=5, address=0xABC000)
    (fault,) = s.q.read()
    rw = uapi.FaultPerm.READ | uapi.FaultPerm.WRITE
    assert fault == iof.Fault(s.dev.id, None, 5, rw, 0xABC000, True, 1)
    assert s.answers.n == 0 and s.q.read() == []
    s.q.respond(fault)
    assert (s.answers.n, s.answers.code, s.answers.group) == (1, 0, 5)
    with pytest.raises(iof.Invalid, match="no such cookie") as e:
        s.q.respond(fault)
    assert e.value.done == 0
    s.ask(pasid=0)
    s.q.respond(s.q.read()[0].cookie, uapi.FaultCode.INVALID)
    assert (s.answers.n, s.answers.code) == (2, 1)


def test_groups_and_pasids(s):
    s.dev.attach(s.hwpt, pasid=9)
    s.ask(group=1, address=0x1000, last=False)
    assert s.q.read() == []
    s.ask(group=2, address=0x9000, pasid=9)
    s.ask(group=1, address=0x2000, last=True)
    faults = s.q.read()
    assert [(f.group, f.pasid, f.address, f.last) for f in faults] == [
        (2, 9, 0x9000, True),
        (1, None, 0x1000, False),
        (1, None, 0x2000, True),
    ]
    assert faults[1].cookie == faults[2].cookie != faults[0].cookie
    s.q.respond([faults[0], faults[1]])
    assert s.answers.n == 2


def test_reading_some(s):
    for i in range(10):
        s.ask(group=i, address=i << 12)
    assert [f.group for f in s.q.read(3)] == [0, 1, 2]
    records = s.q.read_records(2)
    assert records.dtype == uapi.FAULT_RECORD and records["addr"].tolist() == [0x3000, 0x4000]
    rest = s.q.read()
    assert [f.group for f in rest] == [5, 6, 7, 8, 9] and len(s.q.read_records()) == 0
    s.q.respond(np.concatenate([records["cookie"], [f.cookie for f in rest]]).astype(np.uint32))
    assert s.answers.n == 7
    with pytest.raises(iof.Invalid) as e:
        s.q.respond([1, 2, 77])
    assert e.value.done == 2 and s.answers.n == 9


def test_a_long_group_comes_whole(s):
    for i in range(50):
        s.ask(group=3, address=i << 12, last=i == 49)
    (first, *_) = found = s.q.read(10)
    assert len(found) == 10 and first.address == 0
    assert len(s.q.read()) == 40


def test_answers_when_the_device_is_detached(s):
    s.ask()
    (fault,) = s.q.read()
    s.ask(group=2)
    s.dev.detach()
    assert s.answers.n == 2 and s.answers.code == 1 and s.q.read() == []
    with pytest.raises(iof.Invalid):
        s.q.respond(fault)


def test_wrong_answers(s):
    s.ask()
    (fault,) = s.q.read()
    with pytest.raises(iof.Invalid):
        s.q.respond(fault, 2)
    for wrong in ("1", 1.5, None):
        with pytest.raises(TypeError):
            s.q.respond(wrong)
    with pytest.raises(ValueError, match="cookie"):
        s.q.respond(-1)
    s.q.respond(fault)


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_with_a_timeout(s):
    before = time.monotonic()
    assert s.q.read(timeout=0.05) == [] and time.monotonic() - before >= 0.05
    threading.Timer(0.05, s.ask).start()
    assert len(s.q.read(timeout=30)) == 1
    threading.Timer(0.05, s.ask).start()
    assert len(s.q.read(timeout=None)) == 1


def test_the_descriptor(s):
    poll = select.poll()
    poll.register(s.q.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    s.ask()
    assert poll.poll(1000)
    s.q.read()
    assert poll.poll(0) == []


def test_a_plain_loop_ends_when_the_queue_is_closed(s):
    seen = []

    def handle():
        for fault in s.q:
            seen.append(fault.address)
            s.q.respond(fault)

    threads = [threading.Thread(target=handle) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(100):
        s.ask(group=i, address=i << 12)
    while s.answers.n < 100:
        time.sleep(0.001)
    s.dev.detach()
    s.hwpt.close()
    s.q.close()
    for t in threads:
        t.join(10)
        assert not t.is_alive()
    assert sorted(seen) == [i << 12 for i in range(100)]
    with pytest.raises(ValueError, match="closed"):
        iter(s.q)
    with pytest.raises(ValueError, match="closed"):
        s.q.read()


def test_async_for(s):
    seen = []

    async def handle():
        async for fault in s.q:
            seen.append(fault.group)
            s.q.respond(fault)

    async def main():
        tasks = [asyncio.create_task(handle()) for _ in range(3)]
        await asyncio.sleep(0.01)
        for i in range(20):
            s.ask(group=i)
            await asyncio.sleep(0)
        while s.answers.n < 20:
            await asyncio.sleep(0.001)
        s.dev.detach()
        s.hwpt.close()
        s.q.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(main())
    assert sorted(seen) == list(range(20))


def test_async_for_is_cancelled(s):
    async def main():
        async def handle():
            async for _ in s.q:
                pass

        task = asyncio.create_task(handle())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        s.ask()
        async for fault in s.q:
            return fault

    assert asyncio.run(main()).cookie == 1


# -- life -------------------------------------------------------------------------------------------------------------


def test_a_queue_in_use_is_not_closed(s):
    with pytest.raises(iof.Busy, match=f"HWPT {s.hwpt.id}"):
        s.q.close()
    s.ask()
    assert len(s.q.read()) == 1
    with pytest.raises(iof.Busy):
        s.ctx.destroy(s.q.id)
    s.dev.detach()
    s.hwpt.close()
    s.q.close()
    s.q.close()
    assert s.q.closed and s.ctx.fault_queue().id == s.q.id


def test_closing_the_context_closes_queues(s):
    done = threading.Event()
    waiting = threading.Thread(target=lambda: (list(s.q), done.set()))
    waiting.start()
    time.sleep(0.01)
    s.ctx.close()
    assert done.wait(10) and s.q.closed
    waiting.join()
    s.q.close()


def test_soft_devices_have_queues_too():
    with iof.open() as ctx, ctx.fault_queue() as q:
        dev = ctx.bind(iof.SoftDevice("intel"))
        with ctx.hwpt(dev, ctx.ioas(), fault=q) as hwpt:
            assert hwpt.fault is q and q.read() == []
    with pytest.raises(TypeError, match="made by"):
        iof.FaultQueue()
