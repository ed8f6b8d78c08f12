# SPDX-License-Identifier: Apache-2.0
"""The provider on a real kernel, with the edu device behind VT-d and with the kernel's mock device."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import resource
import signal
import subprocess
import sys
import time

import edu
import numpy as np
import pytest
import raw

import iommufd_fast as iof
from iommufd_fast import uapi
from iommufd_fast._core import kernelfile


@pytest.fixture
def ctx():
    with iof.open("/dev/iommu") as c:
        yield c


@pytest.fixture
def dev(ctx):
    return edu.bind(ctx)


@pytest.fixture
def ioas(ctx, dev):
    space = ctx.ioas()
    space.allow([edu.REACH])
    dev.attach(space)
    return space


def pages(n: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, n * 4096), np.uint8)


def dmesg() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


# -- opening ----------------------------------------------------------------------------------------------------------


def test_auto_takes_the_kernel_and_says_why():
    with iof.open("auto") as c:
        assert c.provider == "kernel" and "vfio0" in c.why


def test_open_descriptors():
    fd = os.open("/dev/iommu", os.O_RDWR)
    device = os.open(raw.vfio_path(edu.address()), os.O_RDWR)
    with iof.open(fd) as c:
        assert c.fileno() == fd
        dev = c.bind(iof.VfioDevice(device))
        assert dev.endpoints[0].blocked and dev.group == int(
            os.path.basename(os.readlink(f"/sys/bus/pci/devices/{edu.address()}/iommu_group"))
        )
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parametrize("how", ["address", "name", "path"])
def test_names_of_a_device(ctx, how):
    path = raw.vfio_path(edu.address())
    dev = ctx.bind(iof.VfioDevice({"address": edu.address(), "name": path.name, "path": path}[how]))
    assert ctx.devices == (dev,) and dev.hw_info.type is not None and dev.info.num_regions >= 9
    dev.close()
    assert ctx.devices == ()


def test_a_device_that_is_not_there(ctx):
    with pytest.raises(iof.NoDevice, match="lspci"):
        ctx.bind(iof.VfioDevice("0000:7f:00.0"))
    with pytest.raises(iof.NotFound):
        ctx.bind(iof.VfioDevice("vfio77"))
    with pytest.raises(iof.IommufdError, match="driver_override") as e:
        ctx.bind(iof.VfioDevice("0000:00:00.0"))
    assert e.value.errno == errno.ENXIO


# -- DMA --------------------------------------------------------------------------------------------------------------


def test_dma_in_both_directions(dev, ioas):
    source, target = pages(2), pages(2)
    source[:] = np.frombuffer(os.urandom(source.size), np.uint8)
    with ioas.map(source, access="r") as a, ioas.map(target) as b:
        assert a.iova + a.length <= 1 << 28 and b.iova + b.length <= 1 << 28
        edu.to_device(dev, a.iova + 4096, edu.MOST)
        edu.to_memory(dev, b.iova + 7, edu.MOST)
        assert target[7 : 7 + edu.MOST].tobytes() == source[4096 : 4096 + edu.MOST].tobytes()
        assert not target[:7].any() and not target[7 + edu.MOST :].any()
        assert a.translate(5) == source.ctypes.data + 5
    assert ioas.stats().mappings == 0


def test_dma_of_a_memfd(dev, ioas):
    fd = os.memfd_create("edu")
    os.pwrite(fd, b"from a file" + bytes(8181), 0)
    target = pages(1)
    with os.fdopen(fd, "r+b") as file, ioas.map(file) as a, ioas.map(target) as b:
        assert a.offset == 0 and next(iter(ioas.mappings())).kind == "file"
        edu.to_device(dev, a.iova, 64)
        edu.to_memory(dev, b.iova, 64)
    assert bytes(target[:11]) == b"from a file"


def test_unmapped_dma_is_refused(dev, ioas):
    secret, target = pages(1), pages(1)
    secret[:] = 0x5A
    with ioas.map(secret) as a, ioas.map(target) as b:
        edu.to_device(dev, a.iova, 256)
        before = dmesg().count("DMAR")
        gone, kept = b.iova, target.copy()
        b.close()
        edu.to_memory(dev, gone, 256)  # nowhere
        assert (target == kept).all()
        edu.to_device(dev, gone, 256)  # what it reads there is not memory
        assert dmesg().count("DMAR") > before
    with ioas.map(target) as b:
        edu.to_memory(dev, b.iova, 256)
        assert (target[:256] != 0x5A).all() or not target[:256].any()


def test_read_only_memory_is_not_written(dev, ioas):
    data, target = pages(1), pages(1)
    data[:] = 1
    with ioas.map(data) as a, ioas.map(target, access="r") as b:
        edu.to_device(dev, a.iova, 64)
        edu.to_memory(dev, b.iova, 64)
    assert not target.any()


def test_detached_means_blocked(dev, ioas):
    data, target = pages(1), pages(1)
    data[:] = 9
    with ioas.map(data) as a, ioas.map(target) as b:
        edu.to_device(dev, a.iova, 64)
        hwpt = dev.hwpt
        dev.detach()
        assert hwpt.closed and dev.endpoints[0].blocked and not ioas.endpoints
        edu.to_memory(dev, b.iova, 64)
        assert not target.any()
        dev.attach(ioas)
        edu.to_memory(dev, b.iova, 64)
        assert (target[:64] == 9).all()


def test_close_in_the_middle_of_dma():
    target = pages(1)
    with iof.open("kernel") as c:
        d, space = edu.bind(c), c.ioas()
        space.allow([edu.REACH])
        d.attach(space)
        m = space.map(target)
        edu.start(d, edu.BUFFER, m.iova, 64, edu.TO_MEMORY)
        d.close()
    before = target.copy()
    time.sleep(0.3)  # the transfer's time comes, and the device is nobody's
    assert (target == before).all() and m.closed
    with iof.open("kernel") as c:
        assert edu.bind(c).region(0).read32(0) >> 16 == 0x0100


DYING = """
import os, signal, sys
sys.path.insert(0, {here!r})
import edu, mmap, numpy as np, iommufd_fast as iof
c = iof.open("kernel"); d = edu.bind(c); s = c.ioas(); s.allow([edu.REACH]); d.attach(s)
m = s.map(np.frombuffer(mmap.mmap(-1, 1 << 20), np.uint8))
edu.start(d, edu.BUFFER, m.iova, 64, edu.TO_MEMORY)
print("started", flush=True)
{then}
"""


def child(then: str) -> subprocess.Popen[str]:
    code = DYING.format(here=os.path.dirname(__file__), then=then)
    made = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None and made.stdout.readline() == "started\n"
    made.stdout.close()
    return made


def test_death_in_the_middle_of_dma(ctx):
    dead = child("os.kill(os.getpid(), signal.SIGKILL)")
    assert dead.wait(30) == -signal.SIGKILL
    dev, space, target = edu.bind(ctx), ctx.ioas(), pages(1)
    space.allow([edu.REACH])
    dev.attach(space)
    with space.map(target) as m:
        time.sleep(0.3)
        edu.to_memory(dev, m.iova, 16)


# -- who owns it ------------------------------------------------------------------------------------------------------


def test_two_processes_fight_over_a_group(ctx):
    other = child("signal.pause()")
    try:
        with pytest.raises(iof.IommufdError) as e:
            ctx.bind(iof.VfioDevice(edu.address()))
        assert e.value.errno == errno.EINVAL and "another process" in str(e.value)
        assert ctx.devices == () and ctx.endpoints == ()
    finally:
        other.kill()
        other.wait()
    assert edu.bind(ctx).endpoints[0].blocked


def test_a_legacy_group_that_is_open(ctx):
    group = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{edu.address()}/iommu_group"))
    fd = os.open(f"/dev/vfio/{group}", os.O_RDWR)
    try:
        with pytest.raises(iof.IommufdError) as e:
            ctx.bind(iof.VfioDevice(edu.address()))
        assert e.value.errno == errno.EBUSY and "/dev/vfio/" in str(e.value)
    finally:
        os.close(fd)
    assert edu.bind(ctx)


def test_a_forked_child_cannot_use_it_and_does_no_harm(dev, ioas):
    target = pages(1)
    with ioas.map(target) as m:
        pid = os.fork()
        if pid == 0:
            bad = 0
            for call in (dev.reset, lambda: dev.region(0).read32(0), ioas.stats):
                try:
                    call()
                    bad = 1
                except iof.ForkedError:
                    pass
            dev.close()
            ioas.context.close()
            os._exit(bad)
        assert os.waitpid(pid, 0)[1] == 0
        edu.to_memory(dev, m.iova, 16)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_mapping_in_the_way_is_named(ctx, dev):
    space = ctx.ioas()
    with space.map(pages(1), iova=0xFEE00000):
        with pytest.raises(iof.RangeReserved, match="IOVA 0xfee00000"):
            dev.attach(space)
        assert dev.endpoints[0].blocked and not ctx.hwpts
    dev.attach(space)


def test_our_own_places_are_never_in_the_way(ctx, dev):
    space = ctx.ioas()
    maps = [space.map(pages(1)) for _ in range(50)]
    dev.attach(space)
    assert len({m.iova for m in maps}) == 50 and space.stats().mappings == 50
    assert kernelfile.counts(ctx._h, space.id)[0] == 50
    for m in maps:
        m.close()


def test_device_memory_cannot_be_pinned(dev, ioas):
    with memoryview(dev.region(0)) as bar, pytest.raises(iof.BadAddress, match="dma-buf"):
        ioas.map(bar)


def test_the_limit_of_locked_memory_is_named(dev, ioas):
    old = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, old[1]))
    os.seteuid(65534)  # root may pin without limit
    try:
        with pytest.raises(iof.OutOfMemory, match=r"1048576 bytes are to be pinned.*65536 bytes.*ulimit -l 10"):
            ioas.map(pages(256))
    finally:
        os.seteuid(0)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, old)
    ioas.map(pages(256)).close()


def test_errors_of_maps(ioas):
    with ioas.map(pages(1), iova=0x200000), pytest.raises(iof.RangeExists):
        ioas.map(pages(1), iova=0x200000)
    with pytest.raises(iof.BadAddress):
        ioas.map(1 << 45, 4096)
    with pytest.raises(iof.Invalid):
        ioas.map(pages(1), iova=1 << 60)
    assert ioas.stats().mappings == 0


def test_wrong_order(ctx):
    dev, space = ctx.bind(iof.VfioDevice(edu.address())), ctx.ioas()
    dev.attach(space)
    with pytest.raises(iof.Busy, match=r"HWPT \d+.*device 1"):
        space.close()
    dev.close()
    space.close()


# -- registers, interrupts, reset -------------------------------------------------------------------------------------


def test_registers(dev):
    bar = dev.region(0)
    assert bar.mapped and len(bar) == 1 << 20 and bar is dev.region(0)
    assert bar.read32(0) & 0xFF == 0xED
    bar.write32(4, 0x12345678)
    assert bar.read32(4) == 0xEDCBA987
    bar.doorbell(4)(1)
    assert bar.read32(4) == 0xFFFFFFFE
    with pytest.raises(ValueError, match="not inside"):
        bar.read32(1 << 20)
    with pytest.raises(ValueError, match="multiple of 4"):
        bar.read32(2)
    with pytest.raises(OverflowError):
        bar.write32(4, 1 << 32)
    assert dev.config.read16(0) == 0x1234 and not dev.config.mapped and dev.config.read32(0) == 0x11E81234
    dev.close()
    with pytest.raises(ValueError, match="closed"):
        bar.read32(0)


def test_message_interrupts(dev):
    bar = dev.region(0)
    with dev.interrupts("msi", 1) as irqs:
        assert irqs.poll() == {}
        bar.write32(0x60, 4)
        assert irqs.wait(10) == {0: 1} and bar.read32(0x24) == 4
        bar.write32(0x64, 4)

        async def two() -> dict[int, int]:
            asyncio.get_running_loop().call_later(0.05, irqs.trigger)
            return await asyncio.wait_for(irqs.wait_async(), 10)

        assert asyncio.run(two()) == {0: 1}
        assert irqs.wait(0.05) == {}
    assert irqs.closed


def test_intx_is_masked_until_it_is_unmasked(dev):
    bar = dev.region(0)
    with dev.interrupts("intx") as irqs:
        bar.write32(0x60, 1)
        assert irqs.wait(10) == {0: 1}
        assert irqs.wait(0.1) == {}  # it is still up, and masked
        bar.write32(0x64, 1)
        irqs.unmask()
        assert irqs.wait(0.1) == {}
        bar.write32(0x60, 2)
        assert irqs.wait(10) == {0: 1}
        bar.write32(0x64, 2)


def test_dma_with_an_interrupt(dev, ioas):
    target = pages(1)
    with dev.interrupts("msi", 1) as irqs, ioas.map(target) as m:
        edu.start(dev, edu.BUFFER, m.iova, 128, edu.TO_MEMORY | edu.WITH_IRQ)
        assert irqs.wait(10) == {0: 1}
        dev.region(0).write32(0x64, 0x100)


def test_reset_or_a_clear_refusal(dev):
    if dev.info.flags & 1:
        dev.reset()
        assert dev.region(0).read32(0) & 0xFF == 0xED
    else:
        with pytest.raises(iof.IommufdError, match="no reset"):
            dev.reset()


# -- the mock device --------------------------------------------------------------------------------------------------


@pytest.fixture
def mocked(ctx):
    space = ctx.ioas()
    made = raw.mock(ctx.fileno(), raw.MOCK_DOMAIN, space.id)
    yield space, int(made["out_hwpt_id"])
    space.unmap_all()


def check(ctx, hwpt: int, iova: int, buffer: np.ndarray) -> None:
    raw.mock(ctx.fileno(), raw.CHECK_MAP, hwpt, iova=iova, length=buffer.size, uptr=buffer.ctypes.data)


def test_a_device_that_came_behind_our_back(ctx, mocked):
    space, hwpt = mocked  # attached by an ioctl that the ledger does not know
    buffers = [pages(n) for n in (1, 3, 600)]
    for buffer in buffers:
        m = space.map(buffer)
        check(ctx, hwpt, m.iova, buffer)
        m.close()
        with pytest.raises(OSError):
            check(ctx, hwpt, m.iova, buffer)
    assert kernelfile.counts(ctx._h, space.id)[3] >= 2  # its aperture was found out


def test_batches_on_the_mock_device(ctx, mocked):
    space, hwpt = mocked
    buffer = pages(64)
    addresses = buffer.ctypes.data + 4096 * np.arange(64, dtype=np.uint64)
    iovas = space.map_many(addresses, 4096)
    for i in (0, 31, 63):
        check(ctx, hwpt, int(iovas[i]), buffer[i * 4096 : (i + 1) * 4096])
    assert [m.address for m in space.mappings()] == sorted(addresses.tolist(), key=lambda a: iovas[addresses.tolist().index(a)])
    addresses[40] = 1 << 45
    with pytest.raises(iof.BadAddress) as e:
        space.map_many(addresses, 4096)
    assert e.value.index == 40 and space.stats().mappings == 64
    errors = space.unmap_many(iovas, 4096)
    assert not errors.any() and space.stats().mappings == 0


def test_foreign_mappings_are_gone_around(ctx, mocked):
    space, hwpt = mocked
    flags = uapi.MapFlag.FIXED_IOVA | uapi.MapFlag.WRITEABLE | uapi.MapFlag.READABLE
    first = space.map(pages(1))
    strange = pages(8)
    fixed = {"flags": flags, "ioas_id": space.id, "iova": first.iova + 4096, "length": strange.size}
    raw.ask(ctx.fileno(), uapi.Command.IOAS_MAP, uapi.IOAS_MAP, user_va=strange.ctypes.data, **fixed)
    buffer = pages(1)
    maps = [space.map(buffer) for _ in range(4)]
    for m in maps:
        check(ctx, hwpt, m.iova, buffer)
    own, kernel, foreign, _ = kernelfile.counts(ctx._h, space.id)
    assert foreign >= 7 and own + kernel == 5
    for m in (first, *maps):
        m.close()


def test_the_raw_door_keeps_the_ledger_true(ctx, mocked):
    space, _ = mocked
    buffer = pages(2)
    command = np.zeros((), uapi.IOAS_MAP)
    command["size"], command["flags"], command["ioas_id"] = command.itemsize, 6, space.id
    command["user_va"], command["length"] = buffer.ctypes.data, buffer.size
    ctx.ioctl(uapi.Command.IOAS_MAP, command)
    (info,) = space.mappings()
    assert (info.iova, info.address, info.length) == (int(command["iova"]), buffer.ctypes.data, buffer.size)
    m = space.map(pages(1))
    space.unmap_all()
    assert m.stale and not list(space.mappings())


@pytest.mark.parametrize("iova", ["kernel", "va"])
def test_other_choosers(iova):
    with iof.open("/dev/iommu", iova=iova) as c:
        space, buffer = c.ioas(), pages(1)
        m = space.map(buffer)
        assert m.iova == (4096 if iova == "kernel" else buffer.ctypes.data)
        m.close()


def test_the_example():
    example = os.path.join(os.path.dirname(__file__), "..", "..", "..", "examples", "edu_dma.py")
    done = subprocess.run([sys.executable, example, edu.address()], capture_output=True, text=True)
    assert done.stdout == "edu copied 2000 bytes: equal\n", done.stdout + done.stderr
