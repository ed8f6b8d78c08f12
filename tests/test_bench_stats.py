# SPDX-License-Identifier: Apache-2.0
"""Statistics of the benchmark, by properties; units; the clocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iommufd_fast.bench import stats
from iommufd_fast.bench.clock import c_clock, python_clock
from iommufd_fast.report import units

TIMES = arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1e9, allow_nan=False))


@given(TIMES, st.floats(0, 1))
def test_percentile_is_the_smallest_value_with_that_share_below_or_at_it(ns, q):
    value = stats.percentile(np.sort(ns), q)
    assert value in ns
    assert np.count_nonzero(ns <= value) >= q * len(ns) - 1e-6
    assert value == ns.min() or np.count_nonzero(ns < value) < q * len(ns) + 1e-6


def test_percentile_by_hand():
    values = np.arange(1.0, 101.0)
    assert [stats.percentile(values, q) for q in (0, 0.01, 0.5, 0.9, 0.99, 1)] == [1, 1, 50, 90, 99, 100]
    with pytest.raises(ValueError, match="no values"):
        stats.percentile(np.array([]), 0.5)


@given(TIMES)
def test_summary_is_ordered_and_does_not_depend_on_order(ns):
    s = stats.summary(ns)
    assert s["n"] == len(ns)
    assert s["min"] <= s["p50"] <= s["p90"] <= s["p99"] <= s["max"]
    assert s["min"] <= s["mean"] * (1 + 1e-9) and s["mean"] <= s["max"] * (1 + 1e-9)
    again = stats.summary(ns[::-1])
    assert again == pytest.approx(s)


@given(TIMES)
def test_quantiles_climb_from_smallest_to_largest(ns):
    q = stats.quantiles(ns)
    assert len(q) == len(stats.GRID)
    assert all(a <= b for a, b in pairwise(q))
    assert q[0] == pytest.approx(ns.min(), abs=0.01) and q[-1] == pytest.approx(ns.max(), abs=0.01)


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20), st.floats(0.1, 1e3))
def test_noise_has_no_unit_and_is_nothing_for_equal_rounds(medians, scale):
    assert stats.noise(medians) >= 0
    assert stats.noise([m * scale for m in medians]) == pytest.approx(stats.noise(medians), abs=1e-9, rel=1e-6)
    assert stats.noise([medians[0]] * 5) == 0
    assert stats.noise(medians[:1]) == 0


def test_noise_by_hand():
    assert stats.noise([90, 100, 120]) == pytest.approx(0.3)


@given(TIMES, st.floats(0, 1e6))
def test_correction_takes_off_the_overhead_and_never_goes_below_nothing(ns, overhead):
    out = stats.correct(ns, overhead)
    assert (out >= 0).all()
    assert np.array_equal(out[ns >= overhead], (ns - overhead)[ns >= overhead])


@given(TIMES)
def test_throughput_is_the_inverse_of_the_median(ns):
    rate, middle = stats.throughput(ns), float(np.median(ns))
    assert rate == 0 if middle == 0 else rate * middle == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (4.7, "4.70 ns"), (99.96, "100 ns"), (999.6, "1.00 µs"), (174226, "174 µs"), (2.5e9, "2.50 s")],
)
def test_times_for_people(ns, text):
    assert units.time_text(ns) == text


def test_rates_for_people():
    assert units.rate_text(7_720_000) == "7.72 M/s"
    assert units.speed_text(1.5e9) == "1.50 GB/s"
    assert units.percent_text(0.25) == "25 %"


def test_the_c_clock_runs_at_the_speed_of_time():
    clock = c_clock()
    assert 0 < clock.overhead_ns < 2000, clock
    again = c_clock()
    assert again.ns_per_tick == pytest.approx(clock.ns_per_tick, rel=0.01)
    assert 0 < python_clock().overhead_ns < 5000
