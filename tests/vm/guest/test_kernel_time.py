# SPDX-License-Identifier: Apache-2.0
"""Time inside the kernel, by tracefs: every call is seen, and none takes longer inside than it did as a whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import raw

from iommufd_fast import uapi
from iommufd_fast.bench.kerneltime import KernelTime, why_not

CALLS = 50
FLAGS = uapi.MapFlag.WRITEABLE | uapi.MapFlag.READABLE
C = uapi.Command


def test_map_and_unmap_are_seen_inside():
    assert why_not() is None
    kernel = os.open("/dev/iommu", os.O_RDWR)
    space = int(raw.ask(kernel, C.IOAS_ALLOC, uapi.IOAS_ALLOC)["out_ioas_id"])
    raw.mock(kernel, raw.MOCK_DOMAIN, space)
    _buffer, address = raw.memory(4096)
    whole: dict[str, list[int]] = {"map": [], "unmap": []}

    def timed(op: str, *words, **fields):
        start = time.perf_counter_ns()
        done = raw.ask(kernel, *words, ioas_id=space, length=4096, **fields)
        whole[op].append(time.perf_counter_ns() - start)
        return done

    def work() -> None:
        for _ in range(CALLS):
            made = timed("map", C.IOAS_MAP, uapi.IOAS_MAP, flags=FLAGS, user_va=address)
            timed("unmap", C.IOAS_UNMAP, uapi.IOAS_UNMAP, iova=made["iova"])

    with KernelTime() as tracer:
        inside = tracer.measure(work)
        assert tracer.overhead_ns > 0
    for op, times in inside.items():
        assert len(times) == CALLS and (times <= whole[op]).all() and times.any(), (op, times, whole[op])
    assert set(inside) == {"map", "unmap"} and not any(Path("/sys/kernel/tracing/instances").iterdir())
    os.close(kernel)
