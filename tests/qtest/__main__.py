# SPDX-License-Identifier: Apache-2.0
"""``python tests/qtest``: QEMU's IOMMU models against our walker, without a guest kernel.

Each model that an installed QEMU has gets page tables of ours in its memory, its registers programmed, and DMA from a
PCI device; data and fault records are compared with what our walker says of the same tables. QEMU=FILE or QEMU=DIR
chooses a QEMU instead of those on PATH. Models that are not there are skipped, each with a line that says so.
The last line is ``N passed, M failed, K skipped``. Exit status: 0 nothing failed, 1 something did, 2 a model that
``--require`` names was not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from random import Random

import amd
import riscv
import smmu
import vtd
from cases import CASES, Different
from protocol import version_of

FAMILIES = {
    "vtd": ("qemu-system-x86_64", vtd.models),
    "amd": ("qemu-system-x86_64", amd.models),
    "smmu": ("qemu-system-aarch64", smmu.models),
    "riscv": ("qemu-system-riscv64", riscv.models),
}
skipped = 0


def skip(what: str, why: str) -> None:
    global skipped
    skipped += 1
    print(f"skip  {what}: {why}")


def find(name: str) -> str | None:
    """A QEMU: one file, or whatever a folder or PATH has."""
    given = os.environ.get("QEMU")
    if given and Path(given).is_dir():
        return shutil.which(name, path=given)
    if given:
        return given if Path(given).name == name else None
    return shutil.which(name)


def run_model(title: str, make, seed: int) -> tuple[int, int]:
    passed = failed = 0
    for case, (function, rounds) in CASES.items():
        dmas = through = faults = 0
        start, model, error = time.monotonic(), make(title), ""
        if case not in model.cases:
            model.close()
            continue
        try:
            for i in range(rounds):
                world = function(model, Random(f"{seed} {title} {case} {i}"))
                dmas, through, faults = dmas + world.dmas, through + world.through, faults + world.faults
            if not through or not faults:
                error = f"{dmas} DMAs, {through} pieces through, {faults} faults: too little to compare"
        except (Different, RuntimeError) as e:
            error = str(e)
        finally:
            model.close()
        passed, failed = passed + (not error), failed + bool(error)
        print(f"{'FAIL' if error else 'ok'}    {title}, {case}: ", end="")
        spent = time.monotonic() - start
        print(error or f"{dmas} DMAs, {through} pieces through, {faults} faults, {spent:.1f} s", flush=True)
    return passed, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--require", action="append", default=[], choices=FAMILIES, help="fail when it is not there")
    parser.add_argument("--only", default="", help="a part of a model's name")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    passed = failed = 0
    named: set[tuple[str, tuple[int, ...]]] = set()
    for family, (program, models) in FAMILIES.items():
        path = find(program)
        if path is None:
            skip(family, f"{program} is not installed")
            if family in options.require:
                print(f"{family} is required")
                return 2
            continue
        version = version_of(path)
        if (path, version) not in named:
            named.add((path, version))
            print(f"QEMU {'.'.join(map(str, version))}, {path}")
        for title, make in models(path, version):
            if options.only not in title:
                continue
            if isinstance(make, str):
                skip(title, make)
                continue
            more = run_model(title, make, options.seed)
            passed, failed = passed + more[0], failed + more[1]
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
