# SPDX-License-Identifier: Apache-2.0
"""The growth curves: what is measured, and the peers' curves beside it in the report."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from click.testing import CliRunner

from iommufd_fast._core.benchrig import Rig
from iommufd_fast._core.benchthreads import storm
from iommufd_fast.bench import growth, run
from iommufd_fast.bench.clock import c_clock
from iommufd_fast.bench.matrix import Plan
from iommufd_fast.bench.paths import OPS, WrongAnswer
from iommufd_fast.cli.root import cli
from iommufd_fast.report import growth as plots
from iommufd_fast.report import html, peers

MOST = 10_000
SMALL = {"paths": ("c",), "live": (0,), "lengths": (4096, 65536), "batches": (1,), "memory": ("anonymous",)}


@pytest.fixture(scope="module")
def document():
    seen = []
    made = run.run(Plan(**SMALL, rounds=1, seconds=0.001, growth=MOST), lambda *step: seen.append(step[2]))
    assert any(what.startswith("growth: ") for what in seen)
    return json.loads(json.dumps(made))


@pytest.fixture
def stored():
    figures = {
        "iommufd:domains=1 live=0 length=4096/map": [700.0, 600.0],
        "iommufd:domains=1 live=20000 length=4096/map": [150_000.0],
        "iommufd:domains=0 live=0 length=4096/map": [1.0],
        "gtree:find/1000": [70.0],
        "ioas:trust/domain/0/map_4k": [90.0],
    }
    machine = {"cpu": "A <cpu>", "cpus": 2, "kernel": "6.1", "compiler": "GCC"}
    return {"schema": peers.VERSION, "made": "2026-01-02T03:04:05", "machine": machine, "runs": 2, "figures": figures}


def test_every_curve_has_its_points(document):
    found = {}
    for point in document["growth"]:
        found.setdefault(point["curve"], []).append(point["x"])
    live = [100, 1000, 10_000]
    threads = growth.counts(len(os.sched_getaffinity(0)))
    assert found == (
        {f"live/{op}": live for op in OPS}
        | {"memory": live[1:], "ranges/find": live[1:], "ranges/find_many": live[1:]}
        | {f"threads/{kind}": threads for kind in growth.KINDS}
    )
    assert all(point["y"] > 0 for point in document["growth"])
    assert {p["unit"] for p in document["growth"] if p["curve"] == "memory"} == {"B"}


def test_numbers_of_threads():
    assert [growth.counts(n) for n in (1, 2, 6, 300)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8, 16, 32, 64]]


def test_none_is_asked_for_none_is_measured():
    assert growth.measure(c_clock(), 0, 1, lambda what: pytest.fail(what)) == []


def test_a_machine_with_little_memory_measures_less_and_says_so(monkeypatch):
    monkeypatch.setattr(growth, "meminfo", lambda key: 20 << 20)
    most, reason = growth.room(10_000_000)
    assert most == 100_000 and "10000000 live mappings may take 1525 MiB, 20 MiB are free" in reason
    made = run.run(Plan(**SMALL, rounds=1, seconds=0.001, growth=0))
    assert made["growth"] == [] and made["missing"] == []


def test_a_wrong_translation_is_found_out(monkeypatch):
    monkeypatch.setattr(growth.CPath, "translate", lambda self, iovas: iovas + np.uint64(4096))
    with pytest.raises(WrongAnswer, match="a live mapping of 100 does not translate"):
        list(growth.by_live(c_clock(), 100, np.random.default_rng(1)))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("import sys; sys.exit('WrongAnswer: not so')", WrongAnswer, "^not so$"),
        ("import sys; sys.exit('no memory')", OSError, "ended with status 1: no memory"),
    ],
)
def test_what_fails_in_the_other_process_fails_here(monkeypatch, tmp_path, text, error, message):
    program = tmp_path / "python"
    program.write_text(f"#!{growth.sys.executable}\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr(growth.sys, "executable", str(program))
    with pytest.raises(error, match=message):
        growth.alone(100, 1)


@pytest.mark.parametrize(("base", "batch"), [(0, 0), (1 << 40, 0), (0, 8)])
def test_a_storm_begins_in_time_and_leaves_nothing(base, batch):
    rig = Rig()
    pages = (1 << 44) + np.arange(64, dtype=np.uint64) * np.uint64(4096)
    start = time.monotonic_ns() + 2_000_000
    began, ended = storm(rig, pages, 3, start, base=base, batch=batch)
    assert start <= began < ended <= time.monotonic_ns() and not sum(rig.leaves.values())


def test_a_storm_tells_of_calls_that_fail():
    rig = Rig()
    pages = (1 << 44) + np.arange(8, dtype=np.uint64) * np.uint64(4096)
    with pytest.raises(OSError, match="map and unmap 8 pages, round 1"):
        storm(rig, pages, 3, 0, base=1 << 63)  # beyond the aperture
    with pytest.raises(ValueError, match="no whole number of batches of 3"):
        storm(rig, pages, 3, 0, batch=3)


def test_the_best_run_of_a_peer_counts_and_zero_stays(stored):
    assert peers.points(stored, peers.CURVES[0]) == ([0, 20_000], [600.0, 150_000.0])
    assert peers.points(stored, peers.CURVES[1]) == ([], [])


def test_the_package_ships_the_curves_of_the_peers_and_nothing_else(stored):
    made = peers.reduced(stored)
    assert set(made["figures"]) == {c for c in stored["figures"] if c.startswith(("iommufd:domains=1", "gtree"))}
    shipped = peers.load()
    assert shipped == peers.reduced(shipped) and shipped["machine"]["cpu"]
    for curve in peers.CURVES[:4]:
        assert len(peers.points(shipped, curve)[0]) >= 4, curve.name


def test_the_report_says_where_the_peers_were_measured(document, stored):
    text = html.page(document, stored)
    assert "* Not of this run, but measured 2026-01-02 on A &lt;cpu&gt;, 2 CPUs, Linux 6.1, GCC." in text
    assert text.count("Linux 7.2, map *") == 2 and "GTree (C) *" in text and "sortedcontainers *" not in text
    assert all(f'id="{name}-' in text for name in plots.PLOTS)
    without = html.page(document | {"growth": []}, stored)
    assert "Growth" not in without and "Linux 7.2" not in without


def test_what_is_no_run_of_make_peers_is_refused(tmp_path, stored, document):
    file = tmp_path / "peers.json"
    for text, message in (
        ("{", "is not JSON"),
        (json.dumps(document), "is no result of make peers"),
        (json.dumps({k: v for k, v in stored.items() if k != "made"}), "'made' is missing"),
    ):
        file.write_text(text)
        with pytest.raises(peers.PeersError, match=message):
            peers.load(file)


def test_the_commands_take_a_stored_run(tmp_path, stored, document):
    for name, made in (("bench.json", document), ("peers.json", stored)):
        (tmp_path / name).write_text(json.dumps(made))
    files = [str(tmp_path / name) for name in ("bench.json", "peers.json", "r.html")]
    done = CliRunner().invoke(cli, ["report", files[0], "--peers", files[1], "--html", files[2]])
    assert done.exit_code == 0 and "measured 2026-01-02" in (tmp_path / "r.html").read_text(), done.output
    done = CliRunner().invoke(cli, ["bench", "--quick", "--peers", files[0], "--html", files[2]])
    assert done.exit_code == 1 and "is no result of make peers" in done.output


def test_growth_is_of_the_engine_and_of_a_whole_run():
    from iommufd_fast.cli.bench import _engine_settings

    assert _engine_settings({})["growth"] == 10_000_000 and _engine_settings({"growth": 7})["growth"] == 7
    assert "growth" not in _engine_settings({"live": (0,)})
    done = CliRunner().invoke(cli, ["bench", "--provider", "kernel", "--device", "mock", "--growth", "1k"])
    assert done.exit_code == 2 and "--growth is about the engine" in done.output
    done = CliRunner().invoke(cli, ["bench", "--growth", "many"])
    assert done.exit_code == 2 and "'many' is not a count" in done.output
