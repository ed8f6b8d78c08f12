# SPDX-License-Identifier: Apache-2.0
"""Guests' page tables over the soft IOMMUs: typed data, invalidations, faults, events, page requests."""

from __future__ import annotations

import mmap
import pickle
import threading

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast import uapi
from iommufd_fast._core.pagetable import PageTable
from iommufd_fast.uapi import HwptFlag

PAGE, GPA, RAM, VA = 4096, 0x4000_0000, 4 << 20, 0x7F00_0000_1000
TABLES, DATA = GPA, GPA + (2 << 20)  # where in its RAM a guest has its tables, and its pages


class Guest:
    """A guest of one device: RAM at GPA of a parent page table, and one first-stage table built in it."""

    def __init__(self, preset: str, flags: int = 0) -> None:
        self.machine = iof.Machine(preset)
        self.ctx = self.machine.open()
        self.dev, self.ioas = self.ctx.bind(0), self.ctx.ioas()
        self.ram = np.frombuffer(mmap.mmap(-1, RAM), np.uint8)  # aligned to pages
        self.ioas.huge_pages = False  # leaves of one page, wherever the memory happens to lie
        self.mapping = self.ioas.map(self.ram, iova=GPA)
        self.parent = self.ctx.hwpt(self.dev, self.ioas, HwptFlag.NEST_PARENT | flags)
        self.table = PageTable("arm_s1", va_bits=48, oa_bits=48) if preset == "arm" else PageTable("x86_64", va_bits=48)
        self.viommu = None if preset == "intel" else self.ctx.viommu(self.dev, self.parent)
        if preset == "arm":
            self.viommu.vdevice(self.dev, 0x77)
        self.show()

    def put(self, gpa: int, data: bytes) -> None:
        self.ram[gpa - GPA : gpa - GPA + len(data)] = np.frombuffer(data, np.uint8)

    def show(self) -> None:
        """Write the tables into RAM, after two pages for descriptors."""
        image = self.table.image(TABLES + 2 * PAGE)
        assert image.nbytes <= DATA - TABLES - 2 * PAGE
        self.put(TABLES + 2 * PAGE, image.tobytes())

    @property
    def data(self):
        root = TABLES + 2 * PAGE
        if self.machine.preset == "intel":
            return iof.VtdStage1(root)
        if self.machine.preset == "amd":
            self.put(TABLES, (root | 1).to_bytes(8, "little"))
            return iof.AmdGuest.of(TABLES)
        self.put(TABLES, iof.smmuv3_descriptor(root, asid=5))
        return iof.Smmuv3Stage1.translate(TABLES)

    def hwpt(self, **more):
        return self.ctx.hwpt(self.dev, self.viommu or self.parent, data=self.data, **more)

    def invalidate(self, hwpt, addr: int, pages: int) -> None:
        if self.machine.preset == "intel":
            hwpt.invalidate(iof.VtdInvalidate(addr, pages))
        elif self.machine.preset == "arm":
            self.viommu.invalidate([iof.Smmuv3Command.tlbi_va(addr, 5, pages=pages)])
        else:  # no command: attaching anew
            self.dev.detach()
            self.dev.attach(hwpt)

    def close(self) -> None:
        assert self.machine.is_valid()
        self.ctx.close()
        self.machine.close()


@pytest.fixture(params=["intel", "amd", "arm"])
def g(request):
    guest = Guest(request.param)
    yield guest
    guest.close()


def test_a_guests_table(g):
    g.table.map(VA, DATA, 3 * PAGE)
    g.show()
    hwpt = g.hwpt()
    assert hwpt.nested and hwpt._repr_svg_() is None
    g.dev.attach(hwpt)
    g.put(DATA + PAGE - 2, b"guest memory")
    assert g.dev.dma_read(VA + PAGE - 2, 12) == b"guest memory"
    g.dev.dma_write(VA + 2 * PAGE, b"from the device")
    assert bytes(g.ram[DATA - GPA + 2 * PAGE :][:15]) == b"from the device"
    g.dev.dma_copy(VA, VA + 2 * PAGE, 15)
    assert bytes(g.ram[DATA - GPA :][:15]) == b"from the device"
    with pytest.raises(iof.Invalid):
        list(hwpt.leaves())


def test_faults_say_where(g):
    g.table.map(VA, DATA, PAGE)
    g.table.map(VA + PAGE, GPA + RAM, PAGE)  # beyond the guest's memory
    g.show()
    g.dev.attach(g.hwpt())
    with pytest.raises(iof.DmaFault, match="stage 1, level 0 at guest-physical") as e:
        g.dev.dma_read(VA + 2 * PAGE, 1)
    assert (e.value.stage, e.value.level, e.value.fetch, e.value.reason) == (1, 0, None, "unmapped")
    assert TABLES <= e.value.address < DATA
    with pytest.raises(iof.DmaFault, match=r"stage 2, for the page at guest-physical 0x40400005") as e:
        g.dev.dma_write(VA + PAGE + 5, b"x")
    assert (e.value.stage, e.value.address, e.value.iova) == (2, GPA + RAM + 5, VA + PAGE + 5)
    again = pickle.loads(pickle.dumps(e.value))
    assert (again.stage, again.address, again.reason, str(again)) == (2, GPA + RAM + 5, "unmapped", str(e.value))
    paging = g.ctx.ioas()
    g.dev.attach(paging)
    with pytest.raises(iof.DmaFault) as e:
        g.dev.dma_read(VA, 1)
    assert e.value.stage is None is e.value.level and "stage" not in str(e.value)


def test_stale_until_the_guest_says_so(g):
    g.table.map(VA, DATA, PAGE)
    g.show()
    hwpt = g.hwpt()
    g.dev.attach(hwpt)
    g.put(DATA, b"old")
    g.put(DATA + PAGE, b"new")
    assert g.dev.dma_read(VA, 3) == b"old"
    g.table.unmap(VA, PAGE)
    g.table.map(VA, DATA + PAGE, PAGE)
    g.show()
    assert g.dev.dma_read(VA, 3) == b"old"
    g.machine.drop_invalidations(True)
    g.invalidate(hwpt, VA, 1)
    assert g.dev.dma_read(VA, 3) == b"old"
    g.machine.drop_invalidations(False)
    g.invalidate(hwpt, VA, 1)
    assert g.dev.dma_read(VA, 3) == b"new"
    g.mapping.unmap()
    with pytest.raises(iof.DmaFault):
        g.dev.dma_read(VA, 3)


@pytest.mark.parametrize("preset", ["intel", "amd"])
def test_dirty_pages_of_the_parent(preset):
    g = Guest(preset, HwptFlag.DIRTY_TRACKING)
    g.table.map(VA, DATA, 4 * PAGE)
    g.show()
    g.dev.attach(g.hwpt())
    g.parent.dirty_tracking = True
    g.dev.dma_write(VA + PAGE - 1, b"ab")
    g.dev.dma_read(VA + 3 * PAGE, 1)
    ((first, last),) = g.parent.dirty()
    assert (first, last) == (DATA, DATA + 2 * PAGE - 1)
    g.close()


def test_page_requests():
    g = Guest("intel")
    q = g.ctx.fault_queue()
    hwpt = g.hwpt(fault=q)
    g.dev.attach(hwpt)
    g.put(DATA, b"there now")

    def guest():
        for fault in q:
            g.table.map(fault.address, DATA, PAGE)
            g.show()
            q.respond(fault)
            return

    answering = threading.Thread(target=guest)
    answering.start()
    assert g.dev.dma_read(VA, 9, request=20) == b"there now"
    answering.join()
    with pytest.raises(iof.DmaFault) as e:
        g.dev.dma_read(VA + PAGE, 1, request=0.01)
    assert e.value.requests == 1 and len(q.read()) == 1
    with pytest.raises(iof.DmaFault) as e:
        g.dev.dma_read(VA + PAGE, 1)
    assert e.value.requests == 0
    for wrong in (0, -1, 1e9):
        with pytest.raises(ValueError, match="request"):
            g.dev.dma_read(VA, 1, request=wrong)
    g.close()


@pytest.mark.parametrize("how", ["device", "context"])
def test_closing_ends_a_request_that_nobody_answers(how):
    with iof.Machine("intel") as m, m.open() as ctx:
        dev, q, faults = ctx.bind(0), ctx.fault_queue(), []
        dev.attach(ctx.hwpt(dev, ctx.ioas(), fault=q))

        def ask():
            with pytest.raises(iof.DmaFault) as e:
                dev.dma_read(0x1000, 1, request=60)
            faults.append(e.value)

        asking = threading.Thread(target=ask)
        asking.start()
        assert next(iter(q)).address == 0x1000
        dev.close() if how == "device" else ctx.close()
        asking.join(30)
        assert not asking.is_alive() and faults[0].requests == 1


def test_events_of_an_smmu():
    g = Guest("arm")
    q = g.viommu.events(uapi.VeventqType.ARM_SMMUV3)
    g.dev.attach(g.hwpt())
    with pytest.raises(iof.DmaFault):
        g.dev.dma_write(VA, b"x")
    (event,) = q.read()
    assert iof.Smmuv3Event.from_bytes(event.data) == iof.Smmuv3Event(0x10, 0x77, None, VA, False)
    with pytest.raises(iof.DmaFault):
        g.dev.dma_read(VA, 1, pasid=3)
    assert iof.Smmuv3Event.from_bytes(q.read()[0].data).substream == 3
    g.close()


def test_smmu_refusals():
    g = Guest("arm")
    with pytest.raises(iof.IommufdError, match="not a guest's to set") as e:
        g.ctx.hwpt(g.dev, g.viommu, data=iof.Smmuv3Stage1((1 | 6 << 1, 0)))
    assert e.value.errno == 5
    with pytest.raises(iof.IommufdError, match="no vDEVICE here") as e:
        g.viommu.invalidate([iof.Smmuv3Command.tlbi_all(), iof.Smmuv3Command.cfgi_cd(1)])
    assert e.value.errno == 5 and e.value.done == 1
    with iof.Machine("arm") as m, m.open() as ctx:
        dev = ctx.bind(0)
        viommu = ctx.viommu(dev, ctx.hwpt(dev, ctx.ioas(), HwptFlag.NEST_PARENT))
        with pytest.raises(iof.NotFound, match=r"vdevice\(\) first"):
            dev.attach(ctx.hwpt(dev, viommu, data=iof.Smmuv3Stage1.translate(0)))
        dev.attach(ctx.hwpt(dev, viommu, data=iof.Smmuv3Stage1.abort()))
        with pytest.raises(iof.DmaFault):
            dev.dma_read(0, 1)
    g.close()


def test_what_arm_and_riscv_are():
    with iof.Machine("arm", groups=[1]) as m, m.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        info = dev.hw_info
        assert info.type is iof.HwInfoType.ARM_SMMUV3 and len(info.data) == 40 and info.max_pasid_log2 == 20
        assert info.decoded.pasid_bits == 20 and info.decoded.output_bits == 48
        assert info.decoded.granules == (4096, 16384, 65536) and info.capabilities & iof.HwCapability.DIRTY_TRACKING
        dev.attach(ioas)
        assert ioas.iova_ranges() == [(0, 0x7FFFFFF), (0x8100000, (1 << 48) - 1)]
    with iof.Machine("riscv", groups=[1]) as m, m.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        assert (int(dev.hw_info.type), dev.hw_info.data, dev.hw_info.max_pasid_log2) == (0, b"", 0)
        hwpt = dev.attach(ioas)
        assert ioas.iova_ranges() == [(0, (1 << 47) - 1)] and hwpt.stats().page_sizes == 0x8040211000
        with ioas.map(bytearray(b"riscv")) as mapping:
            assert dev.dma_read(mapping.iova, 5) == b"riscv"
        for flags in range(1, 16):
            with pytest.raises(iof.NotSupported):
                ctx.hwpt(dev, ioas, flags)


@pytest.mark.parametrize("preset", ["arm", "riscv"])
def test_a_life_on_the_new_presets(preset):
    """Maps of all alignments, partial walks, replace: what the other tests do on intel and amd."""
    with iof.Machine(preset, groups=[2]) as m, m.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        dev.attach(ioas)
        buf = np.arange(1 << 20, dtype=np.uint8)
        maps = [ioas.map(buf[a : a + n]) for a, n in ((0, 4096), (4096, 8192), (100, 200_000), (65536, 65536 * 3))]
        for mapping, (a, n) in zip(maps, ((0, 4096), (4096, 8192), (100, 200_000), (65536, 65536 * 3)), strict=True):
            assert dev.dma_read(mapping.iova, n) == bytes(buf[a : a + n])
        other = ctx.ioas()
        dev.attach(other)
        with pytest.raises(iof.DmaFault):
            dev.dma_read(maps[0].iova, 1)
        dev.attach(ioas)
        maps[1].unmap()
        with pytest.raises(iof.DmaFault):
            dev.dma_read(maps[1].iova if not maps[1].closed else maps[0].iova + (1 << 30), 1)
        assert m.is_valid()


def test_dirty_tracking_of_an_smmu():
    with iof.Machine("arm") as m, m.open() as ctx:
        dev, ioas = ctx.bind(0), ctx.ioas()
        hwpt = ctx.hwpt(dev, ioas, HwptFlag.DIRTY_TRACKING)
        dev.attach(hwpt)
        buf = np.zeros(1 << 20, np.uint8)
        with ioas.map(buf) as a, ioas.map(np.zeros(PAGE, np.uint8)) as b:
            hwpt.dirty_tracking = True
            assert not list(hwpt.dirty())
            dev.dma_write(a.iova + 5 * PAGE, b"x")
            dev.dma_write(b.iova, b"y")
            found = [tuple(map(int, r)) for r in hwpt.dirty()]
            first = [(a.iova & -PAGE) + 5 * PAGE, b.iova & -PAGE]
            assert found == sorted((iova, iova + PAGE - 1) for iova in first)
            assert not list(hwpt.dirty())


# -- typed data -------------------------------------------------------------------------------------------------------


def test_words_of_amd():
    dte = iof.AmdGuest.of(0x8_1234_5000, glx=2, giov=False, levels=5, domain=0xBEEF).dte
    at = (dte[0] >> 58 & 7) << 12 | (dte[1] >> 16 & 0xFFFF) << 15 | dte[1] >> 43 << 31
    assert at == 0x8_1234_5000 and dte[0] >> 56 & 3 == 2 and not dte[0] >> 54 & 1 and dte[1] & 0xFFFF == 0xBEEF
    assert dte[2] == 1 << 54 and dte[3] == 0
    for wrong in ({"gcr3": 1}, {"gcr3": 0, "glx": 4}, {"gcr3": 0, "levels": 3}, {"gcr3": 0, "domain": 1 << 16}):
        with pytest.raises(ValueError, match=next(reversed(wrong))):
            iof.AmdGuest.of(**wrong)


def test_words_of_commands():
    command = iof.Smmuv3Command
    assert command.tlbi_va(0x1000, 3).cmd == (0x12 | 3 << 48, 0x1000 | 1 << 10)
    assert command.tlbi_va(0x1000).cmd[0] == 0x13
    for pages in (1, 32, 33, 512, 1000, 1 << 30):
        word = command.tlbi_va(0, pages=pages).cmd[0]
        covered = ((word >> 12 & 31) + 1) << (word >> 20 & 31)
        assert pages <= covered < pages * 1.07
    assert command.cfgi_cd(5, 6).cmd == (5 | 6 << 12 | 5 << 32, 0) and command.cfgi_cd(5).cmd == (6 | 5 << 32, 0)
    assert command.tlbi_asid(7).cmd == (0x11 | 7 << 48, 0)
    with pytest.raises(ValueError, match="asid"):
        command.tlbi_asid(1 << 16)


def test_wrong_data():
    g = Guest("intel")
    with pytest.raises(iof.NotSupported):
        g.ctx.hwpt(g.dev, g.parent, data=iof.AmdGuest.of(0x1000))
    with pytest.raises(ValueError, match="pgtbl_addr"):
        g.ctx.hwpt(g.dev, g.parent, data=iof.VtdStage1(-1))
    with pytest.raises(iof.Invalid):
        g.dev.attach(g.ctx.hwpt(g.dev, g.parent, data=iof.VtdStage1(0, addr_width=39)))
    hwpt = g.hwpt()
    with pytest.raises(TypeError, match="one type"):
        hwpt.invalidate([iof.VtdInvalidate(), iof.Smmuv3Command.tlbi_all()])
    with pytest.raises(TypeError, match="one type"):
        hwpt.invalidate([])
    assert hwpt.invalidate([iof.VtdInvalidate(0, 1), iof.VtdInvalidate(0x1000, 2, leaf=True)]) == 2
    assert hwpt.invalidate(uapi.InvalidateData.VTD_S1, None) == 0
    with pytest.raises(iof.Invalid):
        hwpt.invalidate(iof.VtdInvalidate(1, 1))
    g.close()


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures():
    with iof.open() as ctx:
        ioas = ctx.ioas()
        buf = np.zeros(8 << 20, np.uint8)
        assert "nothing is mapped" in ioas._repr_svg_()
        with ioas.map(buf):
            assert "sizes of mappings" in ioas._repr_svg_()
            dev = ctx.bind(iof.SoftDevice("intel"))
            hwpt = dev.attach(ioas)
            picture = ioas._repr_svg_()
            assert picture.startswith("<svg") and "4 KiB pages" in picture and "sizes of mappings" not in picture
            assert hwpt._repr_svg_().count("<rect") == picture.count("<rect")
            leaves = list(hwpt.leaves())
            assert sum(leaf.size for leaf in leaves) >= buf.nbytes and all(leaf.prot == "rw" for leaf in leaves)
            start = leaves[3].iova
            assert list(hwpt.leaves(start + 5, start + 5)) == [leaves[3]]
            assert list(hwpt.leaves(5, 4)) == []
            dev.detach()
    assert ioas._repr_svg_() is None
