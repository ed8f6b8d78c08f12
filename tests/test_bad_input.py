# SPDX-License-Identifier: Apache-2.0
"""Bad input gives a precise error, and leaves the state as it was: compared by digest after each."""

from __future__ import annotations

import errno
import mmap
import os

import numpy as np
import pytest

import iommufd_fast as iof

PAGE = mmap.PAGESIZE
MSI = 0xFEE00000


class World:
    """One context with a mapping at 0x100000 in an attached IOAS, another IOAS without page table, and buffers."""

    def __init__(self, machine):
        self.machine, self.ctx = machine, machine.open()
        self.dev, self.ioas, self.bare = self.ctx.bind(0), self.ctx.ioas(), self.ctx.ioas()
        self.dev.attach(self.ioas)
        self.buf = np.frombuffer(mmap.mmap(-1, 4 * PAGE), np.uint8)
        self.at = self.buf.ctypes.data
        self.m = self.ioas.map(self.buf, iova=0x100000)
        self.readonly = mmap.mmap(-1, PAGE, prot=mmap.PROT_READ)

    def state(self):
        return self.ctx.digest(), self.ioas.live_handles, len(self.ctx.devices), len(self.ctx.ioases)


@pytest.fixture
def w():
    with iof.Machine("intel") as machine:
        world = World(machine)
        yield world
        world.ctx.close()
        assert machine.is_valid()


def gone() -> int:
    """An address where nothing is mapped: inside a wide gap of this process's memory, with nothing near."""
    with open("/proc/self/maps") as maps:
        areas = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in maps]
    gaps = zip((end for _, end in areas), (start for start, _ in areas[1:]), strict=False)
    return next(end + 4096 * PAGE for end, start in gaps if start - end >= 65536 * PAGE)


# what, call, exception, errno or None, words of the sentence
MAP = [
    ("unaligned address", lambda w: w.ioas.map(w.at + 1, PAGE), iof.Invalid, errno.EINVAL, ["multiples", "alignment"]),
    ("unaligned length", lambda w: w.ioas.map(w.at, 100), iof.Invalid, errno.EINVAL, ["0x64 bytes", "alignment"]),
    ("unaligned iova", lambda w: w.ioas.map(w.at, PAGE, iova=0x200800), iof.Invalid, errno.EINVAL, ["0x200800"]),
    ("offset of iova", lambda w: w.ioas.map(w.buf, iova=0x200800), ValueError, None, ["iova", "offset"]),
    ("zero length", lambda w: w.ioas.map(w.at, 0), ValueError, None, ["0 bytes"]),
    ("empty object", lambda w: w.ioas.map(b"", access="r"), ValueError, None, ["0 bytes"]),
    ("too long", lambda w: w.ioas.map(w.buf, 5 * PAGE), ValueError, None, ["0x5000", "0x4000"]),
    ("no length", lambda w: w.ioas.map(w.at), TypeError, None, ["length"]),
    ("wrapping address", lambda w: w.ioas.map(2**64 - PAGE, 2 * PAGE), ValueError, None, ["wraps"]),
    (
        "wrapping iova",
        lambda w: w.ioas.map(w.at, 2 * PAGE, iova=2**64 - PAGE),
        iof.RangeOverflow,
        errno.EOVERFLOW,
        ["wraps"],
    ),
    (
        "overlapping",
        lambda w: w.ioas.map(w.at, PAGE, iova=0x101000),
        iof.RangeExists,
        errno.EEXIST,
        ["0x101000", "overlaps"],
    ),
    ("overlapping end", lambda w: w.ioas.map(w.at, 2 * PAGE, iova=0xFF000), FileExistsError, errno.EEXIST, ["unmap"]),
    (
        "out of aperture",
        lambda w: w.ioas.map(w.at, PAGE, iova=1 << 48),
        iof.Invalid,
        errno.EINVAL,
        ["iova_ranges", "aperture"],
    ),
    (
        "over the end",
        lambda w: w.ioas.map(w.at, 2 * PAGE, iova=(1 << 48) - PAGE),
        iof.Invalid,
        errno.EINVAL,
        ["aperture"],
    ),
    ("reserved", lambda w: w.ioas.map(w.at, PAGE, iova=MSI), iof.Invalid, errno.EINVAL, [f"{MSI:#x}", "reserved"]),
    ("no memory", lambda w: w.ioas.map(gone(), PAGE), iof.BadAddress, errno.EFAULT, ["not mapped in this process"]),
    (
        "read-only memory",
        lambda w: w.ioas.map(np.frombuffer(w.readonly, np.uint8).ctypes.data, PAGE),
        iof.BadAddress,
        errno.EFAULT,
        ["read-only", "access='r'"],
    ),
    ("read-only object", lambda w: w.ioas.map(w.readonly), ValueError, None, ["read-only", "access='r'"]),
    ("read-only array", lambda w: w.ioas.map(np.frombuffer(bytes(PAGE), np.uint8)), ValueError, None, ["read-only"]),
    ("every second byte", lambda w: w.ioas.map(w.buf[::2]), ValueError, None, ["not contiguous", "ascontiguousarray"]),
    ("strided view", lambda w: w.ioas.map(memoryview(w.buf)[::2]), ValueError, None, ["not contiguous"]),
    ("array of objects", lambda w: w.ioas.map(np.array([[], {}], dtype=object)), TypeError, None, ["Python objects"]),
    ("float address", lambda w: w.ioas.map(float(w.at), PAGE), TypeError, None, ["float"]),
    ("negative address", lambda w: w.ioas.map(-PAGE, PAGE), ValueError, None, ["address", "-4096"]),
    ("huge address", lambda w: w.ioas.map(2**64, PAGE), ValueError, None, ["address", "2**64"]),
    ("bool address", lambda w: w.ioas.map(True, PAGE), TypeError, None, ["address", "bool"]),
    ("float length", lambda w: w.ioas.map(w.at, 4096.0), TypeError, None, ["length", "float"]),
    ("negative iova", lambda w: w.ioas.map(w.at, PAGE, iova=-1), ValueError, None, ["iova", "-1"]),
    ("text iova", lambda w: w.ioas.map(w.at, PAGE, iova="0x1000"), TypeError, None, ["iova", "str"]),
    ("access", lambda w: w.ioas.map(w.buf, access="rwx"), ValueError, None, ["'r', 'w' or 'rw'", "rwx"]),
    ("no access", lambda w: w.ioas.map(w.buf, access=None), ValueError, None, ["access"]),
    ("neither", lambda w: w.ioas.map(None), TypeError, None, ["NoneType", "neither"]),
    ("text", lambda w: w.ioas.map("memory"), TypeError, None, ["str"]),
    ("unknown argument", lambda w: w.ioas.map(w.buf, adress=1), TypeError, None, ["adress"]),
]
BATCH = [
    ("entry 2", lambda w: w.ioas.map_many([w.at, w.at + PAGE, w.at + 1], PAGE), iof.Invalid, errno.EINVAL, ["entry 2"]),
    (
        "entry 1 fixed",
        lambda w: w.ioas.map_many([w.at] * 3, PAGE, iovas=[0x200000, 0x100000, 0x300000]),
        iof.RangeExists,
        errno.EEXIST,
        ["entry 1", "overlaps"],
    ),
    (
        "its own entry",
        lambda w: w.ioas.map_many([w.at] * 2, PAGE, iovas=[0x200000] * 2),
        iof.RangeExists,
        errno.EEXIST,
        ["entry 1"],
    ),
    ("no memory", lambda w: w.ioas.map_many([w.at, gone()], PAGE), iof.BadAddress, errno.EFAULT, ["entry 1"]),
    ("lengths", lambda w: w.ioas.map_many([w.at] * 3, [PAGE, PAGE]), ValueError, None, ["lengths", "2", "3"]),
    ("two dimensions", lambda w: w.ioas.map_many(np.zeros((2, 2), np.uint64), PAGE), ValueError, None, ["dimension"]),
    ("floats", lambda w: w.ioas.map_many([1.5], PAGE), TypeError, None, ["addresses[0]", "float"]),
    ("float array", lambda w: w.ioas.map_many(np.array([0.0]), PAGE), TypeError, None, ["addresses", "float"]),
    ("negative entry", lambda w: w.ioas.map_many([w.at, -1], PAGE), ValueError, None, ["addresses[1]"]),
    ("negative", lambda w: w.ioas.map_many(np.array([-PAGE]), PAGE), ValueError, None, ["-4096"]),
    ("unmap floats", lambda w: w.ioas.unmap_many([0.5], PAGE), TypeError, None, ["iovas", "float"]),
    ("translate floats", lambda w: w.ioas.translate([0.5]), TypeError, None, ["iovas"]),
    ("translate nowhere", lambda w: w.bare.translate([1]), iof.NoDevice, errno.ENODEV, ["page table", "attach"]),
]
OTHER = [
    ("unmap a hole", lambda w: w.ioas.unmap(0x900000, PAGE), iof.NotFound, errno.ENOENT, ["0x900000"]),
    ("unmap half", lambda w: w.ioas.unmap(0x100000, PAGE), iof.NotFound, errno.ENOENT, ["sticks out", "mappings()"]),
    ("unmap nothing", lambda w: w.ioas.unmap(0x100000, 0), iof.Invalid, errno.EINVAL, ["0x0 bytes"]),
    ("unmap wrapping", lambda w: w.ioas.unmap(2**64 - PAGE, 2 * PAGE), iof.RangeOverflow, errno.EOVERFLOW, ["wraps"]),
    ("unmap float", lambda w: w.ioas.unmap(1.0, PAGE), TypeError, None, ["iova", "float"]),
    (
        "copy a hole",
        lambda w: w.ioas.copy_to(w.bare, 0x100000, 5 * PAGE),
        iof.NotFound,
        errno.ENOENT,
        ["not wholly mapped"],
    ),
    (
        "copy onto",
        lambda w: w.ioas.copy_to(w.ioas, 0x100000, PAGE, dst_iova=0x100000),
        iof.RangeExists,
        errno.EEXIST,
        ["overlaps"],
    ),
    ("copy to what", lambda w: w.ioas.copy_to(2, 0x100000, PAGE), TypeError, None, ["Ioas", "int"]),
    ("allow one byte", lambda w: w.ioas.allow([(5, 5)]), iof.Invalid, errno.EINVAL, ["start < last"]),
    ("allow overlap", lambda w: w.ioas.allow([(0, 0xFFFF), (0x8000, 0x1FFFF)]), iof.Invalid, errno.EINVAL, ["overlap"]),
    (
        "allow reserved",
        lambda w: w.ioas.allow([(MSI, MSI + PAGE)]),
        iof.RangeReserved,
        errno.EADDRINUSE,
        ["iova_ranges"],
    ),
    ("allow float", lambda w: w.ioas.allow([(0.0, 5)]), TypeError, None, ["start"]),
    ("huge pages", lambda w: setattr(w.ioas, "huge_pages", False), iof.Invalid, errno.EINVAL, ["detach"]),
    ("destroy attached", lambda w: w.ioas.close(), iof.Busy, errno.EBUSY, ["HWPT 4", "device 1"]),
    ("destroy automatic", lambda w: w.ctx.destroy(4), iof.Busy, errno.EBUSY, ["object 4"]),
    ("destroy a device", lambda w: w.ctx.destroy(w.dev.id), iof.Busy, errno.EBUSY, ["object 1"]),
    ("destroy nothing", lambda w: w.ctx.destroy(77), iof.NotFound, errno.ENOENT, ["77"]),
    ("destroy 0", lambda w: w.ctx.destroy(0), iof.NotFound, errno.ENOENT, ["0"]),
    ("destroy float", lambda w: w.ctx.destroy(1.0), TypeError, None, ["id"]),
    ("bind twice", lambda w: w.ctx.bind(0), iof.Invalid, errno.EINVAL, ["open already"]),
    ("bind nothing", lambda w: w.ctx.bind(9), iof.NoDevice, errno.ENODEV, ["device 9", "plug"]),
    ("bind text", lambda w: w.ctx.bind("intel"), TypeError, None, ["device", "str"]),
    ("bind negative", lambda w: w.ctx.bind(-1), ValueError, None, ["device"]),
    ("attach an id", lambda w: w.dev.attach(w.ioas.id), TypeError, None, ["Ioas or a Hwpt", "int"]),
    ("attach to itself", lambda w: w.dev.attach(w.dev), TypeError, None, ["Device"]),
    ("hwpt of what", lambda w: w.ctx.hwpt(w.dev, w.dev), TypeError, None, ["Ioas"]),
    ("hwpt flags", lambda w: w.ctx.hwpt(w.dev, w.ioas, 1 << 20), iof.NotSupported, errno.EOPNOTSUPP, ["flags"]),
    ("rlimit", lambda w: setattr(w.ctx, "rlimit_mode", 1), (iof.Busy, iof.NotPermitted), None, ["mode"]),
    ("dma float", lambda w: w.dev.dma_read(1.5, 1), TypeError, None, ["iova"]),
    ("dma no length", lambda w: w.dev.dma_read(0x100000), TypeError, None, ["length"]),
    ("dma byte", lambda w: w.dev.dma_fill(0x100000, 1, 256), ValueError, None, ["byte", "256"]),
    ("dma wrapping", lambda w: w.dev.dma_fill(2**64 - 1, 2), iof.Invalid, errno.EINVAL, ["wraps"]),
    ("offset", lambda w: w.m.translate(4 * PAGE), ValueError, None, ["offset", "16383"]),
]


@pytest.mark.parametrize(("call", "error", "number", "words"), [c[1:] for c in MAP + BATCH + OTHER],
                         ids=[c[0] for c in MAP + BATCH + OTHER])  # fmt: skip
def test_bad_call(call, error, number, words, w):
    before = w.state()
    with pytest.raises(error) as e:
        call(w)
    assert w.state() == before and w.machine.is_valid()
    if number is not None:
        assert e.value.errno == number and isinstance(e.value, iof.IommufdError)
    assert not [word for word in words if word not in str(e.value)], str(e.value)
    w.m.unmap()


def test_wrong_id_and_wrong_type_of_id(w):
    """Through the raw door, since handles cannot be mistaken for each other."""
    command = np.zeros((), iof.uapi.IOAS_UNMAP)
    for number in (0, 77, w.dev.id, 2**32 - 1):
        command["size"], command["ioas_id"], command["iova"], command["length"] = 24, number, 0x100000, 4 * PAGE
        before = w.state()
        with pytest.raises(iof.NotFound):
            w.ctx.ioctl(iof.uapi.Command.IOAS_UNMAP, command)
        assert w.state() == before and not w.m.stale


def test_handles_of_another_context(w):
    with iof.Machine("intel") as machine, machine.open() as other:
        ioas, dev = other.ioas(), other.bind(0)
        for call in (
            lambda: w.dev.attach(ioas),
            lambda: w.ioas.copy_to(ioas, 0x100000, PAGE),
            lambda: w.ctx.hwpt(dev, w.ioas),
            lambda: w.ctx.hwpt(w.dev, ioas),
            lambda: w.ctx.bind(iof.SoftDevice("intel", machine=machine)),
        ):
            with pytest.raises(ValueError, match=r"another|belong"):
                call()


def test_closed_handles(w):
    w.m.close()
    hwpt = w.ctx.hwpt(w.dev, w.bare)
    hwpt.close()
    w.dev.close()
    w.bare.close()
    w.ioas.close()
    calls = [
        (lambda: w.ioas.map(w.buf), "was destroyed"),
        (lambda: w.ioas.map_many([w.at], PAGE), "was destroyed"),
        (lambda: w.ioas.unmap(0, PAGE), "was destroyed"),
        (lambda: w.ioas.unmap_all(), "was destroyed"),
        (lambda: w.ioas.translate([1]), "was destroyed"),
        (lambda: w.ioas.translate_one(1), "was destroyed"),
        (lambda: w.ioas.stats(), "was destroyed"),
        (lambda: list(w.ioas.mappings()), "was destroyed"),
        (lambda: w.ioas.huge_pages, "was destroyed"),
        (lambda: w.dev.attach(w.ioas), "closed"),
        (lambda: w.dev.dma_read(0, 1), "intel-soft-0 is closed"),
        (lambda: w.dev.endpoints, "closed"),
        (lambda: w.m.translate(), "closed"),
        (lambda: hwpt.stats(), "closed"),
        (lambda: hwpt.translate([1]), "closed"),
        (lambda: w.m.__enter__(), "closed"),
        (lambda: w.ioas.__enter__(), "was destroyed"),
        (lambda: w.dev.__enter__(), "closed"),
    ]
    for call, words in calls:
        with pytest.raises(ValueError, match=words):
            call()
    w.ctx.close()
    for call in (
        w.ctx.ioas,
        lambda: w.ctx.bind(0),
        w.ctx.digest,
        w.ctx.fileno,
        lambda: w.ctx.endpoints,
        w.ctx.__enter__,
    ):
        with pytest.raises(ValueError, match=r"context \d+.* closed"):
            call()
    for handle in (w.ctx, w.ioas, w.dev, w.m, hwpt, w.bare):
        assert handle.closed and "closed" in repr(handle)
        handle.close()


@pytest.mark.parametrize("cls", [iof.Iommufd, iof.Device, iof.Ioas, iof.Hwpt, iof.Mapping])
def test_no_public_constructor(cls):
    with pytest.raises(TypeError, match="made by"):
        cls()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "arm9"}, "'intel', 'amd'"),
        ({"preset": 1}, "'intel', 'amd'"),
        ({"groups": [1, 0]}, r"groups\[1\]"),
        ({"groups": [-1]}, r"groups\[0\]"),
        ({"groups": [1.5]}, r"groups\[0\]"),
        ({"policy": "hope"}, "'trust', 'probe'"),
        ({"addresses": "pfn"}, "'va', 'synthetic'"),
        ({"accounting": "me"}, "'none'"),
    ],
)
def test_bad_machines(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        iof.Machine(**arguments)


def test_bad_open():
    with pytest.raises(ValueError, match=r"'cuda'.*'engine'"):
        iof.open("cuda")
    with pytest.raises(TypeError, match="provider"):
        iof.open(3.5)
    with open(os.devnull) as other, pytest.raises(ValueError, match=r"is no open /dev/iommu"):
        iof.open(other.fileno())
    with pytest.raises(ValueError, match=r"descriptor -1 "):
        iof.open(-1)
    with pytest.raises(TypeError, match="Machine"):
        iof.open(machine="intel")
    with pytest.raises(ValueError, match="preset"):
        iof.SoftDevice("mock")
    machine = iof.Machine()
    machine.close()
    machine.close()
    for call in (machine.open, lambda: machine.devices, machine.plug, machine.is_valid):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_pins_needs_synthetic_addresses(w):
    with pytest.raises(iof.NotSupported, match="synthetic"):
        w.machine.pins(w.at)
    with iof.Machine("intel", addresses="synthetic") as m, m.open() as ctx:
        ioas = ctx.ioas()
        ctx.bind(0).attach(ioas)
        assert m.pins(w.at) == 0
        with ioas.map(w.buf), ioas.map(w.buf, PAGE):
            assert m.pins(w.at) > 0 and m.pins(w.at + PAGE) > 0
        assert m.pins(w.at) == 0
