# SPDX-License-Identifier: Apache-2.0
"""From an address to its IOVA and back: against a dict, for objects and arrays, under changes from other threads."""

from __future__ import annotations

import errno
import threading

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from providers import PROVIDERS

import iommufd_fast as iof

PAGE = 4096
NOTHING = 2**64 - 1


@pytest.fixture(params=PROVIDERS)
def ioas(request):
    with PROVIDERS[request.param]() as world:
        yield world.ctx.ioas()


def pages(n: int) -> np.ndarray:
    """Whole pages."""
    area = np.zeros((n + 1) * PAGE, np.uint8)
    start = -area.ctypes.data % PAGE
    return area[start : start + n * PAGE]


def test_of_an_object(ioas):
    memory = np.zeros(10 * PAGE, np.uint8)
    with ioas.map(memory) as mapping:
        assert ioas.iova_of(memory) == mapping.iova
        assert ioas.iova_of(memory[5000:]) == mapping.iova + 5000
        assert ioas.iova_of(memory.ctypes.data + 123) == mapping.iova + 123
        assert ioas.iova_of(memory, 7) == mapping.iova
    with pytest.raises(iof.NotFound, match="nothing is mapped there") as caught:
        ioas.iova_of(memory)
    assert caught.value.errno == errno.ENOENT


def test_an_object_must_be_mapped_to_its_end(ioas):
    memory = np.zeros(10 * PAGE, np.uint8)
    with ioas.map(memory, 4 * PAGE) as mapping:
        assert ioas.iova_of(memory, 4 * PAGE) == mapping.iova
        with pytest.raises(iof.NotFound, match="one mapping has the first"):
            ioas.iova_of(memory)


def test_arguments(ioas):
    memory = bytearray(100)
    with pytest.raises(TypeError, match="neither a buffer nor an address"):
        ioas.iova_of(1.5)
    with pytest.raises(ValueError, match="length 0x65 is more"):
        ioas.iova_of(memory, 101)
    with pytest.raises(ValueError, match="address is -1"):
        ioas.iova_of(-1)
    with pytest.raises(TypeError, match=r"addresses\[0\] must be an integer"):
        ioas.iovas_of([1.5])
    with pytest.raises(TypeError, match="must hold integers"):
        ioas.iovas_of(np.array([1.5]))
    ioas.close()
    with pytest.raises(ValueError, match="destroyed"):
        ioas.iova_of(memory)


def test_of_many(ioas):
    memory = np.zeros(300 * PAGE, np.uint8)
    base = memory.ctypes.data
    with ioas.map(memory) as mapping:
        offsets = np.arange(0, memory.nbytes, 1000)
        iovas, lengths = ioas.iovas_of(base + offsets)
        assert iovas.dtype == lengths.dtype == np.uint64
        assert (iovas == mapping.iova + offsets).all()
        assert (lengths == mapping.range[1] - mapping.iova - offsets + 1).all()
        iovas, lengths = ioas.iovas_of([base + 1, 0, NOTHING])
        assert iovas.tolist() == [mapping.iova + 1, NOTHING, NOTHING]
        assert lengths.tolist()[1:] == [0, 0]
    assert ioas.iovas_of([])[0].shape == (0,)


def test_back(ioas):
    memory = np.zeros(3 * PAGE, np.uint8)
    with ioas.map(memory) as mapping:
        assert ioas.address_of(mapping.iova + 77) == memory.ctypes.data + 77
    with pytest.raises(iof.NotFound, match="no memory at IOVA"):
        ioas.address_of(mapping.iova)


def test_a_file_has_no_address(ioas, tmp_path):
    import os

    fd = os.memfd_create("x")
    os.ftruncate(fd, PAGE)
    with ioas.map_file(fd) as mapping, pytest.raises(ValueError, match="a file's, at offset 0x10"):
        ioas.address_of(mapping.iova + 16)
    os.close(fd)


def test_while_others_map(ioas):
    """What stays mapped is always found, at the place where it is."""
    kept, other = pages(64), pages(64)
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            with ioas.map(other), ioas.map(kept, iova=1 << 45):
                pass

    with ioas.map(kept, iova=1 << 30) as mapping:
        threads = [threading.Thread(target=churn) for _ in range(1)]
        [t.start() for t in threads]
        try:
            for i in range(3000):
                at = i % 64 * PAGE
                assert ioas.iova_of(kept[at : at + 8]) == mapping.iova + at
                iovas, lengths = ioas.iovas_of(kept.ctypes.data + np.arange(0, 64 * PAGE, PAGE))
                assert lengths.all() and (iovas == mapping.iova + np.arange(0, 64 * PAGE, PAGE)).all()
        finally:
            stop.set()
            [t.join() for t in threads]


class Model(RuleBasedStateMachine):
    """Against a dict of IOVA to (address, length): the lowest IOVA that covers an address is the answer."""

    provider = "engine"

    @initialize(early=st.booleans())
    def begin(self, early):
        self.stack = PROVIDERS[self.provider]()
        self.context = self.stack.__enter__().ctx
        self.ioas = self.context.ioas()
        self.memory = pages(40)
        self.base = self.memory.ctypes.data
        self.model = {}
        if early:
            self.ioas.iovas_of([])

    @rule(first=st.integers(0, 39), n=st.integers(1, 12), place=st.integers(1, 30), data=st.data())
    def map(self, first, n, place, data):
        address, length, iova = self.base + first * PAGE, min(n, 40 - first) * PAGE, place * 16 * PAGE
        if data.draw(st.integers(0, 9)) == 0:  # without page tables anything goes
            address, length = address + 100, length - 300
        taken = any(iova < at + size and at < iova + length for at, (_, size) in self.model.items())
        try:
            self.ioas.map_many([address], [length], iovas=[iova], trusted=True)
            assert not taken
            self.model[iova] = (address, length)
        except iof.RangeExists:
            assert taken

    @rule(data=st.data())
    def unmap(self, data):
        if self.model:
            iova = data.draw(st.sampled_from(sorted(self.model)))
            self.ioas.unmap(iova, self.model.pop(iova)[1])

    @rule(data=st.data(), place=st.integers(1, 30))
    def copy(self, data, place):
        if self.model:
            iova = data.draw(st.sampled_from(sorted(self.model)))
            address, length = self.model[iova]
            to = place * 16 * PAGE + (1 << 40)
            if not any(to < at + size and at < to + length for at, (_, size) in self.model.items()):
                self.ioas.context._h.ioas_copy(7, self.ioas.id, self.ioas.id, length, to, iova)
                self.model[to] = (address, length)

    @rule()
    def unmap_all(self):
        if self.model:
            self.ioas.unmap_all()
        self.model.clear()

    def expected(self, at):
        covering = [(iova, a, n) for iova, (a, n) in self.model.items() if a <= at < a + n]
        if not covering:
            return NOTHING, 0
        iova, address, length = min(covering)
        return iova + at - address, length - (at - address)

    @invariant()
    def agrees(self):
        if not hasattr(self, "ioas"):
            return
        places = np.concatenate([self.base + np.arange(0, 40 * PAGE, PAGE // 2), [self.base + 99, self.base + 100]])
        iovas, lengths = self.ioas.iovas_of(places)
        want = [self.expected(int(at)) for at in places]
        assert iovas.tolist() == [w[0] for w in want]
        assert lengths.tolist() == [w[1] for w in want]

    def teardown(self):
        if hasattr(self, "stack"):
            self.stack.__exit__(None, None, None)


class KernelModel(Model):
    provider = "kernel"


TestModel, TestKernelModel = Model.TestCase, KernelModel.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestKernelModel.settings = TestModel.settings
