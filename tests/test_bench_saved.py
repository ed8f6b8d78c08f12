# SPDX-License-Identifier: Apache-2.0
"""`make benchmark` keeps a run, and `make benchmark-compare` sets another beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support import BUILD, ROOT, run

ONE = "benchmarks/test_iova.py::test_lookup[0-live]"


def benchmarks(folder, *options):
    saved = ["--benchmark-only", f"--benchmark-storage=file://{folder}", "-p", "no:cacheprovider", *options]
    return run(sys.executable, "-m", "pytest", ONE, *saved, cwd=ROOT)


@pytest.fixture(scope="module")
def kept():
    BUILD.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="test-benchmarks-", dir=BUILD) as folder:  # the plugin wants it below the tree
        done = benchmarks(folder, "--benchmark-save=run")
        assert done.returncode == 0, done.stdout
        (file,) = Path(folder).glob("*/*_run.json")
        yield file


def test_a_kept_run_says_on_which_machine_and_how_many_operations(kept):
    document = json.loads(kept.read_text())
    machine = document["machine_info"]["iommufd_fast"]
    assert machine["cpus"] >= 1 and machine["kernel"] and "load_1min" in machine
    assert document["benchmarks"][0]["extra_info"] == {"operations": 4096}


def test_a_run_on_another_machine_is_compared_and_what_differs_is_named(kept):
    document = json.loads(kept.read_text())
    document["machine_info"]["iommufd_fast"] |= {"cpu": "Another", "load_1min": 7.0}
    document["benchmarks"][0]["stats"]["min"] *= 1e6
    kept.write_text(json.dumps(document))
    done = benchmarks(kept.parents[1], "--benchmark-compare", "--benchmark-compare-fail=min:50%")
    assert done.returncode == 0, done.stdout
    assert "note: cpu differs: Another and " in done.stdout
    assert "note: the machine was busy (load 7.00) when the kept run began" in done.stdout
    assert "(0001_run)" in done.stdout and "(NOW)" in done.stdout


def test_what_has_become_slower_fails(kept):
    document = json.loads(kept.read_text())
    document["benchmarks"][0]["stats"]["min"] = 1e-12
    kept.write_text(json.dumps(document))
    done = benchmarks(kept.parents[1], "--benchmark-compare", "--benchmark-compare-fail=min:50%")
    assert done.returncode != 0 and "Performance has regressed" in done.stdout
