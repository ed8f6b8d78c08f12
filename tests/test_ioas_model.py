# SPDX-License-Identifier: Apache-2.0
"""Ioas against a model of dicts and lists: random maps, copies, unmaps, attachments, allowed ranges and options.

The model knows the contract (behaviour.md chapters 2, 3 and 6) and nothing of the engine: where an automatic IOVA
goes,
which errno comes first, what each device sees. After each step the whole engine is re-derived and both are compared.
"""

from __future__ import annotations

import errno
import mmap
from itertools import count
from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import iommufd_fast as iof

PAGE = 4096
LAST = 2**64 - 1
SERIALS = count()
APERTURE = {"intel": (1 << 48) - 1, "amd": LAST}
RESERVED = {"intel": [(0xFEE00000, 0xFEEFFFFF)], "amd": [(0xFEE00000, 0xFEEFFFFF), (0xFD00000000, 0xFFFFFFFFFF)]}
ALLOWED = [[], [(0x200000, 0x2FFFFF)], [(0x3000, 0x8FFF), (0x9000, 0xFFFF)], [(0xFED00000, 0xFF0FFFFF)], [(7, 7)],
           [(0x1000, 0x5FFF), (0x4000, 0x8FFF)], [(1 << 50, (1 << 50) + 0xFFFFF)]]  # fmt: skip

MEMORY = np.frombuffer(mmap.mmap(-1, 6 << 20), np.uint8)
BASE = (MEMORY.ctypes.data + (2 << 20) - 1) & -(2 << 20)  # 2 MiB aligned, 4 MiB usable

offsets = st.integers(0, 600).map(lambda n: n * PAGE)
sizes = st.one_of(st.integers(1, 6), st.sampled_from([16, 64, 512])).map(lambda n: n * PAGE)
iovas = st.one_of(
    st.integers(0, 40).map(lambda n: n * PAGE),
    st.sampled_from(
        [0xFEE00000, 0xFEDFF000, 0x200000, 0x3FF000, 1 << 47, (1 << 48) - PAGE, 1 << 48, 0x1800, LAST - 4095]
    ),
)


class Area(NamedTuple):
    last: int
    address: int
    access: str
    serial: int  # which of all that were ever mapped


class Refused(Exception):
    def __init__(self, number: int) -> None:
        self.errno = number


class Model:
    """One IOAS: areas by start, devices {name: preset} and what they imply."""

    def __init__(self) -> None:
        self.areas: dict[int, Area] = {}
        self.made: list[int] = []  # serials of the last map or copy
        self.devices: dict[str, str] = {}
        self.allowed: list[tuple[int, int]] = []
        self.huge = True

    @property
    def alignment(self) -> int:
        return PAGE if self.devices or not self.huge else 1

    @property
    def reserved(self) -> list[tuple[int, int]]:
        found = []
        for preset in self.devices.values():
            found += RESERVED[preset]
            if APERTURE[preset] < LAST:
                found.append((APERTURE[preset] + 1, LAST))
        return found

    def free(self, start: int, last: int) -> bool:
        return not any(s <= last and start <= e for s, (e, *_) in self.areas.items())

    def usable(self, start: int, last: int) -> bool:
        return not any(s <= last and start <= e for s, e in self.reserved)

    def place(self, address: int, length: int) -> int:
        """The automatic IOVA: R3.6bis, word by word."""
        if not length or length >= LAST // 2:
            raise Refused(errno.EOVERFLOW)
        want = 1 << (length - 1).bit_length()
        if address:
            want = min(want, address & -address)
        want = min(want, 2 << 20)
        if want < self.alignment:
            raise Refused(errno.EINVAL)

        def fit(start: int, last: int) -> int | None:
            a = -(-start // want) * want | address % PAGE
            return a if a <= LAST and a < last and last - a >= length - 1 else None

        low, high = PAGE, LAST - PAGE
        used = sorted([(s, e) for s, (e, *_) in self.areas.items()] + self.reserved)
        for window in self.windows(low, high):
            at = fit(*window)
            if at is None:
                continue
            for hole in holes(used, at, window[1]):
                found = fit(*hole)
                if found is not None:
                    return found
        raise Refused(errno.ENOSPC)

    def windows(self, low: int, high: int) -> list[tuple[int, int]]:
        merged: list[list[int]] = []
        for start, last in sorted(self.allowed) or [(low, high)]:
            if merged and merged[-1][1] + 1 >= start:
                merged[-1][1] = max(merged[-1][1], last)
            else:
                merged.append([start, last])
        return [(max(s, low), min(e, high)) for s, e in merged if max(s, low) <= min(e, high)]

    def check_fixed(self, iova: int, length: int) -> None:
        if iova % self.alignment:
            raise Refused(errno.EINVAL)
        if iova + length - 1 > LAST:
            raise Refused(errno.EOVERFLOW)
        if not self.usable(iova, iova + length - 1):
            raise Refused(errno.EINVAL)
        if not self.free(iova, iova + length - 1):
            raise Refused(errno.EEXIST)

    def map(self, pieces: list[tuple[int, int]], iova: int | None, access: str) -> int:
        """Map [(address, length), …] one after the other."""
        length = sum(n for _, n in pieces)
        if not length or length % self.alignment:
            raise Refused(errno.EINVAL)
        if iova is None:
            iova = self.place(pieces[0][0], length)
        else:
            self.check_fixed(iova, length)
        if any(address % PAGE % self.alignment for address, _ in pieces):
            raise Refused(errno.EINVAL)
        at, self.made = iova, []
        for address, size in pieces:
            self.areas[at] = Area(at + size - 1, address, access, next(SERIALS))
            self.made.append(self.areas[at].serial)
            at += size
        return iova

    def collect(self, iova: int, length: int) -> list[tuple[int, int]]:
        pieces, at, last = [], iova, iova + length - 1
        while at <= last:
            area = next(((s, a) for s, a in self.areas.items() if s <= at <= a[0]), None)
            if area is None:
                raise Refused(errno.ENOENT)
            start, (end, address, *_) = area
            pieces.append((address + at - start, min(end, last) - at + 1))
            at = end + 1
        return pieces

    def unmap(self, iova: int, length: int) -> int:
        last, gone = iova + length - 1, 0
        if last > LAST:
            raise Refused(errno.EOVERFLOW)
        for start in sorted(self.areas):
            end = self.areas[start][0]
            if end < iova or start > last:
                continue
            if start < iova or end > last:
                raise Refused(errno.ENOENT)
            del self.areas[start]
            gone += end - start + 1
        if not gone:
            raise Refused(errno.ENOENT)
        return gone

    def attach(self, name: str, preset: str) -> None:
        new = RESERVED[preset] + ([(APERTURE[preset] + 1, LAST)] if APERTURE[preset] < LAST else [])
        clash = any(not self.free(s, e) or any(a <= e and s <= b for a, b in self.allowed) for s, e in new)
        if clash:
            raise Refused(errno.EADDRINUSE)
        if any(n % PAGE for s, (e, a, *_) in self.areas.items() for n in (s, e + 1, a)):
            raise Refused(errno.EADDRINUSE)
        self.devices[name] = preset

    def allow(self, ranges: list[tuple[int, int]]) -> None:
        for i, (start, last) in enumerate(ranges):
            if start >= last or any(s <= last and start <= e for s, e in ranges[:i]):
                raise Refused(errno.EINVAL)
        if any(s <= last and start <= e for start, last in ranges for s, e in self.reserved):
            raise Refused(errno.EADDRINUSE)
        self.allowed = ranges

    def set_huge(self, on: bool) -> None:
        if on == self.huge:
            return
        if not on and self.devices and self.areas:
            raise Refused(errno.EINVAL)
        if not on and any(n % PAGE for s, (e, a, *_) in self.areas.items() for n in (s, e + 1, a)):
            raise Refused(errno.EADDRINUSE)
        self.huge = on


def holes(used: list[tuple[int, int]], start: int, last: int) -> list[tuple[int, int]]:
    """The maximal unused ranges inside [start, last]."""
    found = []
    for s, e in used:
        if s > last:
            break
        if s > start:
            found.append((start, s - 1))
        start = max(start, e + 1)
    if start <= last:
        found.append((start, last))
    return found


class IoasMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.machine = iof.Machine("intel", groups=[1, 1])
        self.machine.plug("amd")
        self.ctx = self.machine.open()
        self.devs = {d.name: self.ctx.bind(d) for d in self.machine.devices}
        self.presets = {d.name: d.preset for d in self.machine.devices}
        self.spaces = [self.ctx.ioas(), self.ctx.ioas()]
        self.models = [Model(), Model()]
        self.handles: list[tuple[int, iof.Mapping, list[int]]] = []

    def both(self, expected, call):
        """Run model and engine; they agree on the result or on the errno. Returns the engine's result or None."""
        try:
            want = expected()
        except Refused as refused:
            try:
                got = call()
            except iof.IommufdError as e:
                assert e.errno == refused.errno, f"{errno.errorcode[refused.errno]} expected, got {e}"
                return None
            raise AssertionError(f"{errno.errorcode[refused.errno]} expected, got {got}") from None
        got = call()
        result = got.iova if isinstance(got, iof.Mapping) else got
        assert want is None or want == result, (want, result)
        return got

    @rule(which=st.integers(0, 1), offset=offsets, size=sizes, iova=st.none() | iovas,
          access=st.sampled_from(["rw", "r", "w"]), odd=st.sampled_from([0, 0, 0, 0, 0x800, 1]))  # fmt: skip
    def map(self, which, offset, size, iova, access, odd):
        address, size = BASE + offset + odd, size - odd if odd else size
        made = self.both(
            lambda: self.models[which].map([(address, size)], iova, access),
            lambda: self.spaces[which].map(address, size, iova=iova, access=access, trusted=True),
        )
        if made is not None:
            self.handles.append((which, made, self.models[which].made))

    @rule(which=st.integers(0, 1), entries=st.lists(st.tuples(offsets, sizes, iovas), max_size=6), fixed=st.booleans())
    def map_many(self, which, entries, fixed):
        model, before = self.models[which], dict(self.models[which].areas)

        def expected():
            try:
                return [model.map([(BASE + o, n)], i if fixed else None, "rw") for o, n, i in entries]
            except Refused:
                model.areas = before  # all or nothing
                raise

        where = np.array([i for *_, i in entries], np.uint64) if fixed else None
        self.both(
            expected,
            lambda: self.spaces[which].map_many(
                np.array([BASE + o for o, *_ in entries], np.uint64),
                np.array([n for _, n, _ in entries], np.uint64), iovas=where, trusted=True).tolist(),
        )  # fmt: skip

    @rule(source=st.integers(0, 1), into=st.integers(0, 1), iova=iovas, size=sizes, dst=st.none() | iovas,
          data=st.data())  # fmt: skip
    def copy(self, source, into, iova, size, dst, data):
        if self.models[source].areas and data.draw(st.booleans()):
            iova = data.draw(st.sampled_from(sorted(self.models[source].areas)))
        if iova + size - 1 > LAST:
            return

        def expected():
            pieces = self.models[source].collect(iova, size)
            return self.models[into].map(pieces, dst, "r")

        made = self.both(
            expected, lambda: self.spaces[source].copy_to(self.spaces[into], iova, size, dst_iova=dst, access="r")
        )
        if made is not None:
            self.handles.append((into, made, self.models[into].made))

    @rule(which=st.integers(0, 1), iova=iovas, size=sizes, data=st.data())
    def unmap(self, which, iova, size, data):
        if self.models[which].areas and data.draw(st.booleans()):
            iova = data.draw(st.sampled_from(sorted(self.models[which].areas)))
        self.both(lambda: self.models[which].unmap(iova, size), lambda: self.spaces[which].unmap(iova, size))

    @rule(which=st.integers(0, 1), data=st.data())
    def unmap_many(self, which, data):
        starts = data.draw(st.lists(st.sampled_from([*sorted(self.models[which].areas), 5591040]), max_size=5))
        want = []
        for start in starts:
            try:
                self.models[which].unmap(start, 2 * PAGE)
                want.append(0)
            except Refused as e:
                want.append(e.errno)
        assert self.spaces[which].unmap_many(np.array(starts, np.uint64), 2 * PAGE).tolist() == want

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def close_a_handle(self, data):
        which, m, serials = self.handles.pop(data.draw(st.integers(0, len(self.handles) - 1)))
        m.close()
        areas = self.models[which].areas
        for start in [s for s, a in areas.items() if a.serial in serials]:
            del areas[start]

    @rule(which=st.integers(0, 1), name=st.sampled_from(["intel-soft-0", "intel-soft-1", "amd-soft-2"]))
    def attach(self, which, name):
        if any(name in m.devices for m in self.models):
            for m in self.models:
                m.devices.pop(name, None)
            self.devs[name].detach()
        self.both(
            lambda: self.models[which].attach(name, self.presets[name]),
            lambda: self.devs[name].attach(self.spaces[which]) and None,
        )

    @rule(name=st.sampled_from(["intel-soft-0", "intel-soft-1", "amd-soft-2"]))
    def detach(self, name):
        for m in self.models:
            m.devices.pop(name, None)
        self.devs[name].detach()

    @rule(which=st.integers(0, 1), ranges=st.sampled_from(ALLOWED))
    def allow(self, which, ranges):
        self.both(lambda: self.models[which].allow(ranges), lambda: self.spaces[which].allow(ranges))

    @rule(which=st.integers(0, 1), on=st.booleans())
    def huge_pages(self, which, on):
        self.both(lambda: self.models[which].set_huge(on), lambda: setattr(self.spaces[which], "huge_pages", on))

    @rule(which=st.integers(0, 1), probes=st.lists(iovas, min_size=1, max_size=8), inside=st.integers(0, 5000))
    def translate(self, which, probes, inside):
        model, space = self.models[which], self.spaces[which]
        probes = [min(p + inside, LAST) for p in [*probes, *sorted(model.areas)[:8]]]
        if not model.devices:
            try:
                space.translate(probes)
            except iof.NoDevice:
                return
            raise AssertionError("an IOAS without page table translated")
        want = []
        for p in probes:
            area = next(((s, a) for s, a in model.areas.items() if s <= p <= a[0]), None)
            want.append(LAST if area is None else area[1][1] + p - area[0])
        for table in space.hwpts:
            assert table.translate(probes)[0].tolist() == want
        assert space.translate(probes)[0].tolist() == want

    @invariant()
    def engine_agrees(self):
        if not hasattr(self, "machine"):
            return
        assert self.machine.is_valid()
        for space, model in zip(self.spaces, self.models, strict=True):
            seen = {m.iova: (m.last, m.address, m.access) for m in space.mappings()}
            assert seen == {start: area[:3] for start, area in model.areas.items()}
            assert space.alignment == model.alignment and space.huge_pages == model.huge
            assert space.iova_ranges() == holes(sorted(model.reserved), 0, LAST)
            assert {e.device for e in space.endpoints} == {self.devs[n].index for n in model.devices}
        for which, m, serials in self.handles:
            live = {a.serial for a in self.models[which].areas.values()} & set(serials)
            assert m.stale == (len(live) < len(serials)) and m.closed == (not live)

    def teardown(self):
        if hasattr(self, "machine"):
            self.ctx.close()
            for _, m, _ in self.handles:
                assert m.closed
                m.close()
            assert self.machine.is_valid()
            self.machine.close()


TestIoasModel = IoasMachine.TestCase
TestIoasModel.settings = settings(stateful_step_count=40)
