# SPDX-License-Identifier: Apache-2.0
"""PinnedPages against a list of intervals: two containers of one memfd, in every mode of addresses."""

from __future__ import annotations

import mmap
import os
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iommufd_fast._core.pages import PinnedPages

PAGE = 4096
SLOTS = 12
WHICH = st.integers(0, 1)
INTERVAL = st.tuples(st.integers(0, SLOTS - 1), st.integers(0, SLOTS - 1)).map(lambda ends: tuple(sorted(ends)))


class Pages(RuleBasedStateMachine):
    """`held[w]` counts the intervals that are held of container w; both containers are the same pages."""

    @initialize(mode=st.sampled_from(["va", "synthetic"]), policy=st.sampled_from(["trust", "probe"]))
    def begin(self, mode, policy):
        fd = os.memfd_create("model")
        os.ftruncate(fd, SLOTS * PAGE)
        self.areas = [mmap.mmap(fd, SLOTS * PAGE) for _ in range(2)]
        os.close(fd)
        self.pages = [PinnedPages(a, address=mode, policy=policy, accounting="none") for a in self.areas]
        self.held = [Counter(), Counter()]
        self.mode = mode

    def count(self, which, slot):
        return sum(n for (first, last), n in self.held[which].items() if first <= slot <= last)

    @rule(which=WHICH, interval=st.one_of(INTERVAL, st.just((0, SLOTS - 1))))
    def hold(self, which, interval):
        self.pages[which].hold(*interval)
        self.held[which][interval] += 1

    @rule(which=WHICH, intervals=st.lists(INTERVAL, max_size=5))
    def hold_many(self, which, intervals):
        self.pages[which].hold_many([i[0] for i in intervals], [i[1] for i in intervals])
        self.held[which].update(intervals)

    @rule(which=WHICH, interval=INTERVAL)
    def release_any(self, which, interval):
        if self.held[which][interval]:
            self.pages[which].release(*interval)
            self.held[which][interval] -= 1
        else:
            with pytest.raises(ValueError):
                self.pages[which].release(*interval)

    @rule(which=WHICH, data=st.data())
    def release_some(self, which, data):
        """A part of what is held, in any order; with one interval too many, nothing happens."""
        there = sorted(self.held[which].elements())
        some = data.draw(st.permutations(there)) if there else []
        some = some[: data.draw(st.integers(0, len(some)))]
        extra = data.draw(st.lists(INTERVAL, max_size=1))
        asked = some + extra
        firsts, lasts = [i[0] for i in asked], [i[1] for i in asked]
        if Counter(asked) <= self.held[which]:
            self.pages[which].release_many(firsts, lasts)
            self.held[which] -= Counter(asked)
        else:
            with pytest.raises(ValueError, match="none was released"):
                self.pages[which].release_many(firsts, lasts)

    @invariant()
    def counts_agree(self):
        for which, p in enumerate(getattr(self, "pages", ())):
            counts = [self.count(which, slot) for slot in range(SLOTS)]
            assert [p.holds(slot) for slot in range(SLOTS)] == counts
            assert p.pinned == sum(n > 0 for n in counts)
            assert p.stats()["intervals"] == self.held[which].total()
            assert p.is_valid()

    @rule()
    def pages_have_addresses_and_pins(self):
        for slot in range(SLOTS):
            holders = [w for w in (0, 1) if self.count(w, slot)]
            seen = {int(self.pages[w].runs(slot, slot)[0][0]) for w in holders}
            if self.mode == "synthetic":
                assert len(seen) <= 1
                assert all(self.pages[w].pins(slot) == len(holders) for w in holders)
            else:
                assert seen == {self.pages[w].address + slot * PAGE for w in holders}

    def teardown(self):
        for p in getattr(self, "pages", ()):
            p.close()
            assert p.stats()["pinned"] == 0
        for area in getattr(self, "areas", ()):
            area.close()


TestPages = Pages.TestCase
