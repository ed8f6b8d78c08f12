# SPDX-License-Identifier: Apache-2.0
"""Runs a plan: places, cases, rounds; checks each case; makes the result document."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from . import growth, kerneltime, machine, memory, stats
from .clock import Clock, c_clock, python_clock
from .cpath import CPath
from .kernelpath import KernelCPath, KernelPythonPath
from .kerneltime import KernelTime
from .matrix import Case, Plan, by_place
from .paths import Path, Times, WrongAnswer
from .pypath import PythonPath
from .schema import VERSION
from .work import Live, Work, slots_of

BURST = 64  # calls between two clock readings when throughput is measured
_MOST = 20_000  # single calls per round
_TRACED = 256  # system calls, when time inside the kernel is told

Progress = Callable[[int, int, str], None]


class _Measured:
    """One case: its memory, and what its rounds gave."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.work = Work(case)
        self.rounds: list[Times] = []
        self.groups: list[Times] = []
        self.calls = self.bursts = 0
        self.leaves: dict[int, int] = {}
        self.inside: dict[str, float] = {}

    def once(self, path: Path, live: Live, n: int, rng: np.random.Generator) -> Times:
        if self.case.pattern == "churn":
            return path.churn(live, n, rng)
        if self.case.batch > 1:
            return path.batch(self.work, n, self.case.batch)
        return path.pair(self.work, live, n, rng)

    def size(self, path: Path, live: Live, seconds: float, rng: np.random.Generator) -> None:
        """A warm-up that also tells how many calls fill a round."""
        for n in (8, 32):
            start = time.perf_counter()
            self.once(path, live, n, rng)
            each = (time.perf_counter() - start) / n
        share = 0.7 if self.has_bursts else 1.0
        self.calls = int(min(max(seconds * share / each, 16), _MOST))
        self.bursts = int(min(max(seconds * 0.3 / (each * BURST), 3), 1000)) if self.has_bursts else 0

    @property
    def has_bursts(self) -> bool:
        return self.case.pattern == "pair" and self.case.batch == 1

    def round(self, path: Path, live: Live, rng: np.random.Generator) -> None:
        self.rounds.append(self.once(path, live, self.calls, rng))
        if self.bursts:
            self.groups.append(path.burst(self.work, live, self.bursts, BURST, rng))

    def verify(self, path: Path, rng: np.random.Generator) -> None:
        """The proof at both ends of a mapping that it leads to its memory."""
        before = path.leaves()
        iova = path.map_one(self.work)
        after = path.leaves()
        self.leaves = {s: after.get(s, 0) - before.get(s, 0) for s in after if after.get(s, 0) != before.get(s, 0)}
        try:
            for offset in {0, self.case.length - 64}:
                path.prove(iova, self.work.views[0], offset, rng)
        except WrongAnswer as e:
            raise WrongAnswer(f"{self.case}: {e}") from e
        path.unmap_one(iova, self.work)

    def trace(self, tracer: KernelTime, path: Path, live: Live, rng: np.random.Generator) -> None:
        """Some calls more, for the median time of a system call inside the kernel."""
        n = max(min(self.calls, _TRACED // self.case.batch), 1)
        seen = tracer.measure(lambda: self.once(path, live, n, rng))
        self.inside = {op: round(float(np.median(ns)), 2) for op, ns in seen.items()}

    def results(self) -> Iterable[dict[str, Any]]:
        for op in self.rounds[0]:
            per_round = [r[op] / self.case.batch for r in self.rounds]
            sample = np.concatenate(per_round)
            steady = [g[op] / BURST for g in self.groups] if self.bursts else per_round
            medians = [float(np.median(r)) for r in steady]
            rate = stats.throughput(np.concatenate(steady))
            yield asdict(self.case) | {
                "op": op,
                **{k: round(v, 2) if isinstance(v, float) else v for k, v in stats.summary(sample).items()},
                "per_call": round(1e9 / rate, 2) if rate else 0.0,
                "per_second": round(rate, 1),
                "bytes_per_second": round(rate * self.case.length, 1),
                "round_medians": [round(m, 2) for m in medians],
                "noise": round(stats.noise(medians), 4),
                "quantiles": stats.quantiles(sample),
                "in_kernel": self.inside.get(op),
                "leaves": {str(k): v for k, v in sorted(self.leaves.items())},
                "huge_bytes": self.work.region.huge_bytes() if self.case.memory in ("thp", "memfd") else None,
            }


@dataclass(frozen=True)
class _Tools:
    """What all cases of a run are measured with."""

    plan: Plan
    clocks: dict[str, Clock]
    tracer: KernelTime | None
    tick: Callable[[str], None]
    hurry: float  # when the remaining cases get two rounds each

    def path(self, case: Case) -> Path:
        clock = self.clocks[case.path]
        if self.plan.provider == "kernel":
            return (KernelCPath if case.path == "c" else KernelPythonPath)(case, clock, self.plan.device)
        return (CPath if case.path == "c" else PythonPath)(case, clock)


def _case(case: Case, tools: _Tools, path: Path, live: Live, rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    plan = tools.plan
    measured = _Measured(case)
    measured.verify(path, rng)
    measured.size(path, live, plan.seconds, rng)
    for _ in range(plan.rounds if time.perf_counter() < tools.hurry else min(plan.rounds, 2)):
        measured.round(path, live, rng)
    if tools.tracer:
        measured.trace(tools.tracer, path, live, rng)
    return measured.results()


def _place(cases: list[Case], tools: _Tools, missing: dict[str, str]) -> list[dict[str, Any]]:
    first = cases[0]
    rng = np.random.default_rng([tools.plan.seed, first.live])
    path, tick = tools.path(first), tools.tick
    try:
        tick(f"{first}: filling" if first.live else str(first))
        live = Live(first)
        path.fill(live)
        results: list[dict[str, Any]] = []
        for case in cases:
            tick(str(case))
            try:
                results += _case(case, tools, path, live, rng)
            except memory.Unavailable as e:  # somebody else took it since the plan was looked through
                missing[case.memory] = str(e)
            tick("")
        if len(live.iovas) and not np.array_equal(path.translate(live.iovas), live.addresses):
            raise WrongAnswer(f"{first}: a live mapping does not translate to its page any more")
        return results
    finally:
        path.close()


def _split(cases: Iterable[Case]) -> tuple[list[Case], dict[str, str]]:
    """What can be measured here, and why the rest cannot."""
    able: list[Case] = []
    reasons: dict[str, str] = {}
    for case in cases:
        reason = memory.why_not(case.memory, slots_of(case) * case.length)
        if reason:
            reasons[case.memory] = reason
        else:
            able.append(case)
    return able, reasons


@contextmanager
def _tracer(plan: Plan) -> Iterator[tuple[KernelTime | None, str]]:
    """What tells the time inside the kernel, and a sentence about it."""
    reason = "no kernel is asked" if plan.provider != "kernel" else kerneltime.why_not()
    if reason:
        yield None, f"not available: {reason}"
        return
    with KernelTime() as tracer:
        yield tracer, f"tracefs, of which {tracer.overhead_ns:.0f} ns for an empty command are subtracted"


def run(plan: Plan, progress: Progress | None = None) -> dict[str, Any]:
    """Measure every case of a plan that this machine can run.

    Parameters
    ----------
    plan : Plan
    progress : callable(done, total, what), optional
        Called before and after each case.

    Returns
    -------
    dict
        The document described by :data:`iommufd_fast.bench.schema.SCHEMA`.

    Raises
    ------
    WrongAnswer, OSError
        The engine did something else than asked; there are no figures then.
    """
    started, begin, facts = datetime.now(UTC), time.perf_counter(), machine.facts()
    clocks = {"c": c_clock(), "python": python_clock()}
    cases, missing = _split(plan.cases)
    results: list[dict[str, Any]] = []
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        done += not what
        if progress:
            progress(done, len(cases), what)

    with _tracer(plan) as (tracer, in_kernel):
        tools = _Tools(plan, clocks, tracer, tick, begin + plan.limit)
        for group in by_place(cases):
            results += _place(group, tools, missing)
    most, reason = growth.room(plan.growth)
    if reason:
        missing["growth"] = reason
    points = growth.measure(clocks["c"], most, plan.seed, lambda what: progress and progress(done, len(cases), what))
    return {
        "schema": VERSION,
        "tool": "iommufd-fast bench",
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - begin, 2),
        "plan": {
            "rounds": plan.rounds,
            "seconds_per_round": plan.seconds,
            "seed": plan.seed,
            "quick": plan.quick,
            "cross": plan.cross,
        },
        "provider": {"name": plan.provider, "device": plan.device or None, "in_kernel": in_kernel},
        "machine": facts,
        "clocks": {name: clock.facts() for name, clock in clocks.items()},
        "grid": list(stats.GRID),
        "missing": list(missing.values()),
        "results": results,
        "growth": points,
    }
