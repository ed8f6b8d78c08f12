# SPDX-License-Identifier: Apache-2.0
"""Devices with PASIDs, page tables with flags, and what is known of the hardware."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest
from rig import INFO, Rig

import iommufd_fast as iof
from iommufd_fast import uapi
from iommufd_fast.hwinfo import AmdInfo, CmdqvInfo, IntelInfo, SelftestInfo, Smmuv3Info, hw_info

PAGE = 4096
PASID = uapi.HwptFlag.PASID


@pytest.fixture(params=["intel", "amd"])
def ctx(request):
    with iof.Machine(request.param, groups=[2]) as m, m.open() as c:
        yield c


@pytest.fixture
def dev(ctx):
    return ctx.bind(0)


def test_each_pasid_is_an_endpoint(ctx, dev):
    spaces = [ctx.ioas() for _ in range(3)]
    tables = [ctx.hwpt(dev, s, PASID) for s in spaces]
    bufs = [np.full(PAGE, i, np.uint8) for i in range(3)]
    with spaces[0].map(bufs[0]) as a, spaces[1].map(bufs[1]) as b, spaces[2].map(bufs[2]) as c:
        assert dev.attach(tables[0]) is tables[0]
        assert dev.attach(tables[1], pasid=7) is tables[1]
        dev.attach(tables[2], pasid=2)
        assert [(e.pasid, e.hwpt_id, e.ioas_id) for e in dev.endpoints] == [
            (None, tables[0].id, spaces[0].id),
            (2, tables[2].id, spaces[2].id),
            (7, tables[1].id, spaces[1].id),
        ]
        assert [e.pasid for e in spaces[1].endpoints] == [7] and dev.hwpt is tables[0]
        assert dev.dma_read(a.iova, 1) == b"\0"
        assert dev.dma_read(b.iova, 1, pasid=7) == b"\1"
        assert dev.dma_read([(c.iova, 1), (c.iova + 5, 2)], pasid=2) == b"\2\2\2"
        dev.dma_write(b.iova, b"w", pasid=7)
        dev.dma_fill(b.iova + 1, 1, ord("f"), pasid=7)
        dev.dma_copy(b.iova + 2, b.iova, 2, pasid=7)
        into = bytearray(4)
        dev.dma_read_into(b.iova, into, pasid=7)
        assert into == b"wfwf" == bytes(bufs[1][:4]) and not bufs[0].any()
        dev.replace(tables[2], pasid=7)
        assert dev.dma_read(c.iova, 1, pasid=7) == b"\2"
        dev.detach(pasid=7)
        with pytest.raises(iof.DmaFault, match="pasid 7") as e:
            dev.dma_read(b.iova, 1, pasid=7)
        assert e.value.reason == "blocked"
        dev.detach(pasid=7)  # again is fine
        assert dev.dma_read(c.iova, 1, pasid=2) == b"\2" and dev.dma_read(a.iova, 1) == b"\0"
    with pytest.raises(iof.Busy, match="device"):
        tables[2].close()
    dev.close()
    assert ctx.endpoints == () and ctx.machine.is_valid()


def test_pasids_need_page_tables_made_for_them(ctx, dev):
    ioas = ctx.ioas()
    plain, fitting = ctx.hwpt(dev, ioas), ctx.hwpt(dev, ioas, PASID)
    with pytest.raises(iof.Invalid):
        dev.attach(plain, pasid=1)
    dev.attach(fitting, pasid=1)
    with pytest.raises(iof.Invalid):
        dev.attach(plain)
    dev.attach(fitting)
    assert len(dev.endpoints) == 2


@pytest.mark.parametrize("pasid", [0, -1, 2**32])
def test_wrong_pasids(ctx, dev, pasid):
    hwpt = ctx.hwpt(dev, ctx.ioas(), PASID)
    with pytest.raises(ValueError, match="pasid"):
        dev.attach(hwpt, pasid=pasid)
    with pytest.raises(ValueError, match="pasid"):
        dev.detach(pasid=pasid)
    for wrong in (1.5, True, "1"):
        with pytest.raises(TypeError, match="pasid"):
            dev.attach(hwpt, pasid=wrong)


def test_a_pasid_beyond_what_the_device_has(ctx, dev):
    hwpt = ctx.hwpt(dev, ctx.ioas(), PASID)
    most = 1 << dev.hw_info.max_pasid_log2
    dev.attach(hwpt, pasid=most - 1)
    with pytest.raises(iof.Invalid):
        dev.attach(hwpt, pasid=most)


def test_flags_of_page_tables(ctx, dev):
    ioas = ctx.ioas()
    for flags in range(16):
        if flags & uapi.HwptFlag.FAULT_ID_VALID:
            with pytest.raises((iof.NotFound, iof.NotSupported)):  # no such queue; it cannot nest as well
                ctx.hwpt(dev, ioas, flags)
        else:
            ctx.hwpt(dev, ioas, flags).close()
    with pytest.raises(iof.NotSupported):
        ctx.hwpt(dev, ioas, 16)
    with pytest.raises(iof.NotSupported, match="nested"):
        ctx.hwpt(dev, ioas, data=(1, b"12345678"))
    with pytest.raises(TypeError):
        ctx.hwpt(dev, "ioas")
    with pytest.raises(TypeError, match="FaultQueue"):
        ctx.hwpt(dev, ioas, fault=3)


def test_what_soft_iommus_do_not_nest(ctx, dev):
    parent = ctx.hwpt(dev, ctx.ioas(), uapi.HwptFlag.NEST_PARENT)
    before = ctx.digest()
    with pytest.raises(iof.NotSupported, match="what flags or data ask for"):
        ctx.hwpt(dev, parent, data=(2, bytes(16)))  # an SMMU's words
    if ctx.machine.preset == "intel":
        with pytest.raises(iof.NotSupported, match="of the soft ones arm and amd"):
            ctx.viommu(dev, parent, 1)
    with pytest.raises(iof.Invalid, match="nested page tables and vIOMMUs") as e:
        parent.invalidate(1, None)
    assert e.value.done == 0
    with pytest.raises(iof.IommufdError, match="no vIOMMU") as e:
        ctx.mmap(4096, 4096)
    assert e.value.errno == 6 and ctx.digest() == before


def test_hardware_information(ctx, dev):
    info = dev.hw_info
    assert info is not dev.hw_info and info == dev.hw_info
    assert info.capabilities == iof.HwCapability.DIRTY_TRACKING | iof.HwCapability.ATS_NOT_SUPPORTED
    assert info.max_pasid_log2 == 20 == info.decoded.pasid_bits
    if ctx.machine.preset == "intel":
        assert info.type is iof.HwInfoType.INTEL_VTD and len(info.data) == 24
        assert info.decoded.address_width == 48 and info.decoded.large_pages == (1 << 21, 1 << 30)
        assert struct.unpack("=IIQQ", info.data)[2] == info.decoded.cap
    else:
        assert info.type is iof.HwInfoType.AMD and len(info.data) == 16
        assert struct.unpack("=QQ", info.data)[0] == info.decoded.efr
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.type = 3
    dev.close()
    with pytest.raises(ValueError, match="closed"):
        _ = dev.hw_info


def test_layouts_of_others():
    assert hw_info(1, struct.pack("=IIQQ", 1, 0, 2, 0), 0, 0).decoded == IntelInfo(1, 0, 2, 0)
    assert hw_info(1, bytes(24), 0, 0).decoded.pasid_bits == 0
    assert hw_info(4, struct.pack("=QQ", 5, 6), 0, 0).decoded == AmdInfo(5, 6)
    smmu = hw_info(2, struct.pack("=10I", *range(10)), 0, 0)
    assert smmu.decoded == Smmuv3Info(0, 1, (2, 3, 4, 5, 6, 7), 8, 9)
    assert hw_info(3, struct.pack("=I4B", 1, 2, 3, 4, 0), 0, 0).decoded == CmdqvInfo(1, 2, 3, 4)
    selftest = hw_info(0xFEEDBEEF, struct.pack("=II", 0, 0xDEADBEEF), 0, 0)
    assert selftest.type is iof.HwInfoType.SELFTEST and selftest.decoded == SelftestInfo(0, 0xDEADBEEF)
    assert hw_info(1, b"short", 0, 0).decoded is None and hw_info(77, bytes(64), 0, 0).type == 77


def test_hardware_information_of_an_embedder():
    with iof.Machine("intel", groups=()) as machine:
        rig = Rig(machine)
        assert [d.preset for d in machine.devices] == ["embedded", "embedded"]
        with machine.open() as ctx:
            info = ctx.bind(rig.first).hw_info
            assert (info.type, info.data, info.decoded) == (INFO, b"rig of tests", None)
            assert info.max_pasid_log2 == 16
