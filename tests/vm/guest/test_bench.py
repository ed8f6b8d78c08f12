# SPDX-License-Identifier: Apache-2.0
"""The benchmark on the guest's kernel: a small matrix, both ways in, on the mock device and on edu."""

from __future__ import annotations

import json

import pytest
import raw

from iommufd_fast.bench import schema
from iommufd_fast.bench.kernelpath import KernelCPath, KernelPythonPath
from iommufd_fast.bench.matrix import Case, kernel_plan
from iommufd_fast.bench.paths import WrongAnswer
from iommufd_fast.bench.run import run

TINY = {"live": (0, 50), "lengths": (4096, 65536), "batches": (1, 8), "memory": ("anonymous",), "rounds": 2,
        "seconds": 0.002}  # fmt: skip


@pytest.mark.parametrize("device", ["mock", "edu"])
def test_a_small_matrix(device):
    address = raw.edu_addresses()[0] if device == "edu" else device
    document = schema.check(json.loads(json.dumps(run(kernel_plan(address, **TINY)))))
    assert document["provider"]["name"] == "kernel" and document["provider"]["in_kernel"].startswith("tracefs")
    rows = document["results"]
    assert {(r["path"], r["iova"]) for r in rows} == {("c", "own"), ("c", "kernel"), ("python", "own")}
    for row in rows:
        assert (row["in_kernel"] is None) == (row["op"] == "translate"), row
        assert row["in_kernel"] is None or row["in_kernel"] > 0


@pytest.mark.parametrize("way", [KernelCPath, KernelPythonPath])
def test_the_proof_is_one(way):
    """What is mapped is found in the mock device's page table; other memory is not."""
    from iommufd_fast.bench.clock import c_clock
    from iommufd_fast.bench.work import Work

    case = Case(preset="kernel", policy="pin")
    path, work = way(case, c_clock(), "mock"), Work(case)
    iova = path.map_one(work)
    path.prove(iova, work.views[0], 0, None)
    with pytest.raises(WrongAnswer):
        path.prove(iova, work.views[1], 0, None)
    path.unmap_one(iova, work)
    with pytest.raises(WrongAnswer):
        path.prove(iova, work.views[0], 0, None)
    path.close()
