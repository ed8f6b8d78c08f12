# SPDX-License-Identifier: Apache-2.0
"""The engine and a real kernel, compared system call by system call: ``make differential KERNEL=PATH``.

Generates sequences of ioctls from a seed, runs them on the kernel in a guest and over the preload library, and compares
every return value, errno and output byte. Prints the table of (command, errno) pairs that were reached, against those
that the contract names; then differences, shrunk. The exit status is 0 when nothing differed.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import time
from collections.abc import Iterator
from collections.abc import Sequence as Many
from itertools import islice
from pathlib import Path

from iommufd_fast import vm

from . import recorded
from .compare import Difference, difference, differences
from .coverage import Coverage, name_of
from .describe import outcome_text, sequence_text
from .engine import NotPermitted, compile_executor, run_engine
from .found import FOUND
from .generate import sequences
from .kernel import Kernel
from .script import Sequence
from .shrink import shrink

ROOT = Path(__file__).resolve().parents[2]
BATCH = 120  # sequences
SHOWN = 12  # differences that are shrunk


class Run:
    """One comparison: both sides, what was covered, what differed."""

    def __init__(self, kernel: Kernel, executor: Path, library: Path) -> None:
        self.kernel, self.executor, self.library = kernel, executor, library
        self.coverage = Coverage()
        self.found: list[Difference] = []

    def both(self, many: Many[Sequence]):
        """Traces of both sides: the kernel works while the engine does."""
        self.kernel.start(many)
        engine = run_engine(self.executor, self.library, many)
        return engine, self.kernel.finish()

    def batch(self, many: Many[Sequence]) -> None:
        engine, kernel = self.both(many)
        for s, trace in zip(many, kernel, strict=True):
            self.coverage.add(s, trace)
        self.found += differences(many, engine, kernel)

    def judge(self, many: Many[Sequence]) -> list[Difference | None]:
        return [difference(*three) for three in zip(many, *self.both(many), strict=True)]

    def show(self, found: Difference) -> None:
        small = shrink(found, self.judge)
        engine, kernel = self.both([small.sequence])
        print(f"\nDIFFERENCE in sequence {found.sequence.number}, {len(small.sequence.steps)} steps are left of it:")
        print(sequence_text(small.sequence, engine[0], kernel[0]))


def batches(seed: int, steps: int) -> Iterator[list[Sequence]]:
    source = sequences(seed, steps)
    while batch := list(islice(source, BATCH)):
        yield batch


def distinct(found: list[Difference]) -> list[Difference]:
    """One of each kind: most differences of a kind have one cause."""
    kinds: dict[str, Difference] = {}
    for d in found:
        kinds.setdefault(d.step.name if d.step else "end", d)
    return list(kinds.values())[:SHOWN]


def old_ones(run: Run) -> bool:
    """What was found once is still so, on both sides."""
    many = [f.sequence(i) for i, f in enumerate(FOUND)]
    good = True
    for f, engine, kernel in zip(FOUND, *run.both(many), strict=True):
        for side, trace in (("engine", engine), ("kernel", kernel)):
            last = trace.outcomes[-1]
            if not f.as_expected(last, name_of):
                print(f"{f.name}: the {side} says {outcome_text(last)}, expected is {f.result} {f.changes or ''}")
                good = False
    return good


def record(kernel: Kernel, seed: int, steps: int) -> None:
    many = list(sequences(seed, steps))
    traces = kernel.run(many)
    recorded.save(b"".join(s.encode() for s in many), kernel.raw)
    print(f"{sum(len(t.outcomes) for t in traces)} steps are in {recorded.FILE}: {recorded.FILE.stat().st_size} bytes")


def compare(run: Run, seed: int, steps: int) -> bool:
    begin = time.monotonic()
    good = old_ones(run)
    for batch in batches(seed, steps):
        run.batch(batch)
    print(f"{run.coverage.steps} steps in {run.coverage.sequences} sequences, {time.monotonic() - begin:.0f} s")
    print(run.coverage.report())
    for found in distinct(run.found):
        run.show(found)
    for line in run.kernel.complaints():
        print(f"the kernel complained: {line}")
    return good and not run.found


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m differential", description=(__doc__ or "").partition("\n\n")[0])
    p.add_argument("kernel", nargs="?", default="", metavar="KERNEL", help="a bzImage with CONFIG_IOMMUFD_TEST")
    p.add_argument("--seed", type=int, metavar="N", help="of the sequences  [a new one]")
    p.add_argument("--steps", type=int, default=20000, metavar="M", help="[20000]")
    p.add_argument("--record", action="store_true", help="only write down what the kernel says, for make test")
    p.add_argument("--library", type=Path, required=True, metavar="PATH", help="libiommufd_fast_preload.so")
    p.add_argument("--out", type=Path, default=ROOT / "build/differential", help="where the executor is built")
    p.add_argument("--require", action="store_true", help="fail where there is no QEMU, busybox or kernel")
    return p


def main() -> int:
    given = parser().parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed} (again: make differential KERNEL={given.kernel} SEED={seed} STEPS={given.steps})", flush=True)
    try:
        if not given.kernel:
            raise vm.Missing("no kernel: say where one is, make differential KERNEL=PATH")
        executor = compile_executor(given.out)
        with Kernel(Path(given.kernel).resolve(), executor) as kernel:
            if given.record:
                record(kernel, seed, given.steps)
                return 0
            same = compare(Run(kernel, executor, given.library), seed, given.steps)
    except (vm.Missing, NotPermitted) as e:
        print(f"skipped: {e}")
        return int(given.require)
    print("no differences" if same else "the engine and the kernel differ")
    return int(not same)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
