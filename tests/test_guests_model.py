# SPDX-License-Identifier: Apache-2.0
"""DMA through guests' tables against a dict of pages: random maps of the guest's, of the host's, and invalidations."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import iommufd_fast as iof
from iommufd_fast._core.pagetable import PageTable
from iommufd_fast.uapi import HwptFlag

PAGE, GPA, VA = 4096, 0x4000_0000, 0x7F00_0000_0000
TABLES, PAGES = 64, 8  # of guest memory: tables first, which stay mapped, then pages that come and go
ROOT = GPA + PAGE

pages, places = st.integers(0, PAGES - 1), st.integers(0, 11)


class Nested(RuleBasedStateMachine):
    """`guest`: place -> (page, writable) as its table says now. `cached`: what the IOTLB may still say instead."""

    preset = "intel"

    @initialize()
    def begin(self):
        self.machine = iof.Machine(self.preset)
        self.ctx = self.machine.open()
        self.dev, self.ioas = self.ctx.bind(0), self.ctx.ioas()
        self.tables, self.memory = (np.frombuffer(mmap.mmap(-1, n * PAGE), np.uint8) for n in (TABLES, PAGES))
        self.memory[:] = np.repeat(np.arange(1, PAGES + 1, dtype=np.uint8), PAGE)
        self.kept = self.ioas.map(self.tables, iova=GPA)
        parent = self.ctx.hwpt(self.dev, self.ioas, HwptFlag.NEST_PARENT)
        self.table = PageTable("arm_s1" if self.preset == "arm" else "x86_64", va_bits=48, oa_bits=48)
        on, data = parent, iof.VtdStage1(ROOT)
        if self.preset == "arm":
            on = self.viommu = self.ctx.viommu(self.dev, parent)
            on.vdevice(self.dev, 9)
            self.tables[:64] = np.frombuffer(iof.smmuv3_descriptor(ROOT, asid=1), np.uint8)
            data = iof.Smmuv3Stage1.translate(GPA)
        self.guest, self.cached, self.host = {}, {}, {}
        self.show()
        self.nested = self.ctx.hwpt(self.dev, on, data=data)
        self.dev.attach(self.nested)

    def show(self):
        image = self.table.image(ROOT).view(np.uint8)
        self.tables[PAGE : PAGE + image.nbytes] = image

    @rule(place=places, page=pages, writable=st.booleans())
    def guest_maps(self, place, page, writable):
        if place in self.guest:
            self.table.unmap(VA + place * PAGE, PAGE)
        self.table.map(VA + place * PAGE, GPA + (TABLES + page) * PAGE, PAGE, "rw" if writable else "r")
        self.guest[place] = (page, writable)
        self.show()

    @rule(place=places)
    def guest_unmaps(self, place):
        if place in self.guest:
            self.table.unmap(VA + place * PAGE, PAGE)
            del self.guest[place]
            self.show()

    @rule(first=places, count=st.integers(1, 12))
    def guest_invalidates(self, first, count):
        if self.preset == "arm":
            self.viommu.invalidate(iof.Smmuv3Command.tlbi_va(VA + first * PAGE, 1, pages=count))
        else:
            self.nested.invalidate(iof.VtdInvalidate(VA + first * PAGE, count))
        self.cached = {p: v for p, v in self.cached.items() if not first <= p < first + count}

    @rule(page=pages)
    def host_maps(self, page):
        if page not in self.host:
            part = self.memory[page * PAGE : (page + 1) * PAGE]
            self.host[page] = self.ioas.map(part, iova=GPA + (TABLES + page) * PAGE)

    @rule(page=pages)
    def host_unmaps(self, page):
        if page in self.host:
            self.host.pop(page).unmap()
            self.cached = {}  # all of two stages goes

    @rule(place=places, write=st.booleans())
    def device(self, place, write):
        """What the table said when it was last walked is done, until the guest invalidates."""
        says = self.cached[place] if place in self.cached else self.guest.get(place)
        works = says is not None and says[0] in self.host and (says[1] or not write)
        try:
            if write:
                self.dev.dma_write(VA + place * PAGE + 7, bytes([says[0] + 1 if says else 0]))
            else:
                assert self.dev.dma_read(VA + place * PAGE, 1)[0] == says[0] + 1
            assert works
        except iof.DmaFault as fault:
            assert not works
            assert fault.stage == (2 if says is not None and says[0] not in self.host else 1)
        if says is not None and says[0] in self.host:
            self.cached[place] = says

    @invariant()
    def valid(self):
        assert not hasattr(self, "machine") or self.machine.is_valid()
        if hasattr(self, "memory"):
            assert (self.memory.reshape(PAGES, PAGE) == np.arange(1, PAGES + 1)[:, None]).all()

    def teardown(self):
        if hasattr(self, "ctx"):
            self.ctx.close()
            self.machine.close()


@pytest.mark.parametrize("preset", ["intel", "arm"])
def test_guests_agree_with_a_dict(preset):
    model = type("Model", (Nested,), {"preset": preset})
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
