# SPDX-License-Identifier: Apache-2.0
"""Nested page tables and vIOMMUs through Python, over an embedder's driver in C."""

from __future__ import annotations

import asyncio
import mmap

import numpy as np
import pytest
from rig import BAD_VIRT_ID, COMMAND, DATA, ENTRY, EVENT, INVALIDATE, NESTED_DATA, QUEUE, VDATA, VIOMMU, Answers, Rig

import iommufd_fast as iof
from iommufd_fast import uapi

PAGE = 4096


class Setting:
    def __init__(self) -> None:
        self.machine = iof.Machine("intel", groups=[1])
        self.rig = Rig(self.machine)
        self.ctx = self.machine.open()
        self.dev, self.other = self.ctx.bind(self.rig.first), self.ctx.bind(self.rig.first + 1)
        self.ioas = self.ctx.ioas()
        self.parent = self.ctx.hwpt(self.dev, self.ioas, uapi.HwptFlag.NEST_PARENT)

    def nested(self, target=None, word=5, **more):
        data = np.array([(word, 0)], NESTED_DATA)
        return self.ctx.hwpt(self.dev, target or self.parent, data=(DATA, data), **more)

    def viommu(self, **more):
        return self.ctx.viommu(self.dev, self.parent, VIOMMU, **more)


@pytest.fixture
def s():
    setting = Setting()
    yield setting
    setting.ctx.close()
    assert setting.rig.alive() == (0, 0, 0, 0) and setting.machine.is_valid()
    setting.machine.close()


# -- nested page tables -----------------------------------------------------------------------------------------------


def test_nested_page_tables(s):
    hwpt = s.nested()
    assert hwpt.nested and hwpt.parent is s.parent and hwpt.ioas is s.ioas and s.rig.alive()[0] == 1
    assert not s.parent.nested and "nested" in repr(hwpt)
    assert s.dev.attach(hwpt) is hwpt and s.dev.hwpt is hwpt and hwpt in s.ctx.hwpts
    with pytest.raises(iof.Busy):
        s.parent.close()
    with pytest.raises(iof.Busy, match=f"device {s.dev.id}"):
        hwpt.close()
    with pytest.raises(iof.NotFound, match="nested"):
        hwpt.stats()
    with pytest.raises(iof.NotFound, match="nested"):
        hwpt.dirty()
    s.dev.detach()
    hwpt.close()
    assert s.rig.alive()[0] == 0
    with pytest.raises(iof.NotSupported):
        s.ctx.hwpt(s.dev, s.parent, data=(DATA + 1, bytes(8)))
    with pytest.raises(iof.NotSupported):
        s.ctx.hwpt(s.dev, s.parent)  # no data: not a guest's table
    with pytest.raises(iof.Invalid):
        s.ctx.hwpt(s.dev, s.ctx.hwpt(s.dev, s.ioas), data=(DATA, bytes(8)))


def test_invalidation(s):
    hwpt = s.nested()
    assert hwpt.invalidate(INVALIDATE, None) == 0
    assert hwpt.invalidate(INVALIDATE, np.array([(1, 0), (2, 0), (3, 0)], ENTRY)) == 3
    assert hwpt.invalidate(INVALIDATE, np.array([(1, 0)], ENTRY).tobytes()) == 1
    assert hwpt.invalidate(INVALIDATE, bytes(24), 8) == 3
    strided = np.array([(1, 0), (9, 5), (3, 0), (9, 5)], ENTRY)[::2]
    assert hwpt.invalidate(INVALIDATE, strided) == 2
    with pytest.raises(iof.IommufdError, match="entry 2 of 4") as e:
        hwpt.invalidate(INVALIDATE, np.array([(1, 0), (2, 0), (3, 5), (4, 0)], ENTRY))
    assert (e.value.errno, e.value.done) == (5, 2)
    with pytest.raises(iof.Invalid) as e:
        hwpt.invalidate(INVALIDATE + 1, None)
    assert e.value.done == 0
    for entries, length, error in (
        (np.zeros((2, 2), ENTRY), None, "one dimension"),
        (np.zeros(2, ENTRY), 4, "each entry of the array has 8"),
        (bytes(10), 4, "not a number of entries"),
        (bytes(10), 0, "not a number of entries"),
    ):
        with pytest.raises(ValueError, match=error):
            hwpt.invalidate(INVALIDATE, entries, length)
    with pytest.raises(TypeError):
        hwpt.invalidate(INVALIDATE, 5)
    hwpt.close()
    with pytest.raises(ValueError, match="closed"):
        hwpt.invalidate(INVALIDATE, None)


# -- vIOMMUs ----------------------------------------------------------------------------------------------------------


def test_a_viommu_and_its_devices(s):
    v = s.viommu()
    assert (v.device, v.parent, v.type, v.data) == (s.dev, s.parent, VIOMMU, b"")
    vd = v.vdevice(s.dev, 0x42)
    assert (vd.viommu, vd.device, vd.virt_id) == (v, s.dev, 0x42) and s.rig.alive() == (0, 1, 1, 0)
    nested = s.nested(v)
    assert nested.parent is v and nested.ioas is s.ioas
    s.dev.attach(nested)
    assert v.invalidate(INVALIDATE, np.array([(0x42, 7, 0)], COMMAND)) == 1 and s.rig.word(0) == 7
    with pytest.raises(iof.IommufdError) as e:
        v.invalidate(INVALIDATE, np.array([(0x42, 8, 0), (0x43, 9, 0)], COMMAND))
    assert e.value.done == 1 and s.rig.word(0) == 8
    with pytest.raises(iof.Busy, match=f"HWPT {nested.id}"):
        v.close()
    with pytest.raises(iof.RangeExists, match="a vDEVICE already"):
        v.vdevice(s.dev, 0x43)
    with pytest.raises(iof.RangeExists):
        v.vdevice(s.other, 0x42)
    with pytest.raises(iof.NotPermitted):
        v.vdevice(s.other, BAD_VIRT_ID)
    foreign = s.ctx.bind(0)
    with pytest.raises(iof.Invalid, match="another IOMMU"):
        v.vdevice(foreign, 1)
    s.dev.detach()
    for handle in (nested, vd, v):
        handle.close()
        handle.close()
        assert handle.closed
    assert s.rig.alive() == (0, 0, 0, 0)


def test_a_vdevice_goes_with_its_device(s):
    v = s.viommu()
    vd = v.vdevice(s.other, 1)
    s.other.close()
    assert vd.closed and s.rig.alive()[2] == 0
    taken = {s.ctx.ioas().id for _ in range(5)}
    assert vd.id not in taken  # never used again
    vd.close()
    v.close()


def test_what_is_refused(s):
    with pytest.raises(iof.NotSupported, match="no vIOMMU of that type"):
        s.ctx.viommu(s.dev, s.parent, VIOMMU + 1)
    with pytest.raises(iof.Invalid, match="NEST_PARENT"):
        s.ctx.viommu(s.dev, s.ctx.hwpt(s.dev, s.ioas), VIOMMU)
    with pytest.raises(TypeError):
        s.ctx.viommu(s.dev, s.ioas, VIOMMU)
    with s.machine.open() as other, pytest.raises(ValueError, match="this context"):
        other.viommu(s.dev, s.parent, VIOMMU)
    for cls in (iof.Viommu, iof.Vdevice, iof.EventQueue, iof.HwQueue, iof.Region):
        with pytest.raises(TypeError, match="made by"):
            cls()


def test_shared_memory(s):
    data = np.zeros(1, VDATA)
    data["in"] = 0xCAFE
    v = s.viommu(data=data)
    answer = np.frombuffer(v.data, VDATA)[0]
    assert answer["out"] == 0xCAFE and data["out"] == 0  # ours was copied
    with pytest.raises(iof.IommufdError, match="exactly that range") as e:
        s.ctx.mmap(int(answer["offset"]), int(answer["length"]) - PAGE)
    assert e.value.errno == 6
    with s.ctx.mmap(int(answer["offset"]), int(answer["length"])) as region:
        assert len(region) == 2 * PAGE and region.offset == answer["offset"]
        view = memoryview(region)
        assert int.from_bytes(view[:4], "little") == 0xCAFE
        with s.ctx.mmap(region.offset, region.size) as again:
            view[8] = 77
            assert memoryview(again)[8] == 77
        with pytest.raises(iof.Busy):
            v.close()
        with pytest.raises(BufferError, match="1 views"):
            region.close()
        view.release()
    assert region.closed
    with pytest.raises(ValueError, match="closed"):
        memoryview(region)
    v.close()


def test_closing_the_context_leaves_views(s):
    v = s.viommu(data=np.array([(5, 0, 0, 0)], VDATA))
    answer = np.frombuffer(v.data, VDATA)[0]
    region = s.ctx.mmap(int(answer["offset"]), int(answer["length"]))
    view = memoryview(region)
    s.ctx.close()
    assert region.closed and v.closed and s.rig.alive()[1] == 0
    view[0] = 9
    assert view[0] == 9
    view.release()
    region.close()


# -- hardware queues --------------------------------------------------------------------------------------------------


def test_hardware_queues(s):
    v = s.viommu()
    memory = mmap.mmap(-1, 8 * PAGE)
    m = s.ioas.map(memory, iova=0x100000)
    first = v.hw_queue(QUEUE, 0, 0x100000, PAGE)
    second = v.hw_queue(QUEUE, 1, 0x101000, PAGE)
    assert (first.viommu, first.type, first.index) == (v, QUEUE, 0) and s.rig.alive()[3] == 2
    with pytest.raises(iof.Busy):
        m.unmap()
    with pytest.raises(iof.Busy):
        first.close()  # the second depends on it
    with pytest.raises(iof.Busy, match="HwQueue"):
        v.close()
    with pytest.raises(iof.NotSupported, match="no hardware queues"):
        v.hw_queue(QUEUE + 1, 0, 0x100000, PAGE)
    with pytest.raises(iof.NotFound, match="not all of the range"):
        v.hw_queue(QUEUE, 2, 0x900000, PAGE)
    second.close()
    first.close()
    m.unmap()
    v.close()
    memory.close()


# -- events -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 4], ids=["any size", "known size"])
def test_events(s, size):
    v = s.viommu()
    assert s.rig.event(b"none") == -95
    with v.events(EVENT, depth=3, size=size) as q:
        assert (q.viommu, q.type, q.depth) == (v, EVENT, 3) and q.read() == []
        for data in (b"zero", b"one!"):
            assert s.rig.event(data) == 0
        assert q.read() == [iof.Event(0, b"zero", False, 0), iof.Event(1, b"one!", False, 0)]
        for i in range(6):
            s.rig.event(b"%04d" % i)
        assert q.read(2) == [iof.Event(2, b"0000", False, 0), iof.Event(3, b"0001", False, 0)]
        assert q.read() == [iof.Event(4, b"0002", False, 0), iof.Event(7, b"", True, 3)]
        s.rig.event(b"last")
        assert q.read() == [iof.Event(8, b"last", False, 0)]
        for i in range(5):
            s.rig.event(b"%04d" % i)
        q.read(1)
        s.rig.event(b"next")  # takes the marker's place: the numbers tell
        assert [(e.sequence, e.missed) for e in q.read()] == [(10, 0), (11, 0), (14, 2)]
        with pytest.raises(iof.RangeExists, match="of that type already"):
            v.events(EVENT)
        with pytest.raises(iof.Busy, match="EventQueue"):
            v.close()
    assert q.closed
    v.close()


def test_events_of_any_length(s):
    v = s.viommu()
    wanted = [bytes([i]) * length for i, length in enumerate((0, 8, 1, 16, 3, 300, 0, 7))]
    with v.events(EVENT) as q:
        for data in wanted:
            assert s.rig.event(data) == 0
        assert [e.data for e in q.read()] == wanted
        for data in wanted:
            s.rig.event(data)
        found = []
        for event in q:
            found.append(event.data)
            if len(found) == len(wanted):
                break
        assert found == wanted


def test_events_in_an_event_loop(s):
    v = s.viommu()
    q = v.events(EVENT)

    async def main():
        async def collect():
            return [event.data async for event in q]

        task = asyncio.create_task(collect())
        for i in range(10):
            await asyncio.sleep(0.001)
            s.rig.event(bytes([i]))
        await asyncio.sleep(0.01)
        q.close()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(main()) == [bytes([i]) for i in range(10)]


def test_wrong_arguments_of_events(s):
    v = s.viommu()
    for depth in (0, 2**19 + 1):
        with pytest.raises(iof.Invalid, match="depth"):
            v.events(EVENT, depth)
    with pytest.raises(ValueError, match="size"):
        v.events(EVENT, size=1 << 20)
    with pytest.raises(iof.NotSupported):
        v.events(0)
    v.close()
    with pytest.raises(ValueError, match="closed"):
        v.events(EVENT)


def test_faults_of_a_guest(s):
    """A PASID that only the guest's table knows: its faults come through the nested page table."""
    q = s.ctx.fault_queue()
    nested = s.nested(fault=q)
    s.dev.attach(nested)
    assert s.rig.request(s.dev, 1, 0x5000, Answers(), pasid=123) == 0
    (fault,) = q.read()
    assert fault.pasid == 123 and fault.dev_id == s.dev.id
    s.dev.detach()
    with pytest.raises(iof.Busy):
        q.close()
    nested.close()
    q.close()
