# SPDX-License-Identifier: Apache-2.0
"""Instruction budgets: how many instructions an operation of a hot path may take.

    make budgets                                    compare; fails when one has grown by more than 5 %
    make budgets-update REASON="what was changed"   write the figures of now, with the old ones and the reason

Instructions are counted by valgrind's callgrind, so the figures are the same on a busy machine and on an idle one. They
depend on the compiler and the architecture: `budgets.json` names those it was made with, and on others the figures are
printed but not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = Path(__file__).with_name("budgets.json")
SLACK = 0.05


def compiler() -> str:
    """The compiler's name and major version, as far as code generation is concerned."""
    cc = os.environ.get("CC", "cc").split()
    text = subprocess.run([*cc, "--version"], capture_output=True, text=True, check=True).stdout
    version = subprocess.run([*cc, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    return f"{'clang' if 'clang' in text else 'gcc'} {version.partition('.')[0].strip()}"


def count(command: list[str], inside: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """(instructions executed inside a function, what the program printed)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        valgrind = ["valgrind", "--tool=callgrind", f"--toggle-collect={inside}", f"--callgrind-out-file={out}"]
        env = None if environment is None else {**os.environ, **environment}
        done = subprocess.run([*valgrind, *command], capture_output=True, text=True, env=env)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        found = re.search(r"^summary: (\d+)", out.read_text(), re.M)
    if not found or not int(found[1]):
        sys.exit(f"callgrind saw nothing inside {inside}() of {' '.join(command)}")
    return int(found[1]), done.stdout


def measure(program: str) -> dict[str, float]:
    """Instructions per operation of every path."""
    names = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    figures = {}
    for name in names:
        instructions, printed = count([program, name], "measured")
        figures[name] = round(instructions / int(printed.split()[-1]), 1)
    return figures


def judge(
    figures: dict[str, float], budgets: dict[str, dict]
) -> tuple[list[tuple[str, float, float | None, str]], int]:
    """Rows of (path, now, budget, verdict), and how many of them are failures."""
    rows: list[tuple[str, float, float | None, str]] = []
    for name in sorted(figures.keys() | budgets.keys()):
        if name not in figures:
            rows.append((name, 0, budgets[name]["instructions"], "not measured"))
            continue
        now, entry = figures[name], budgets.get(name)
        if entry is None:
            rows.append((name, now, None, "no budget"))
            continue
        budget = entry["instructions"]
        verdict = "over" if now > budget * (1 + SLACK) else "under" if now < budget * (1 - SLACK) else "ok"
        rows.append((name, now, budget, verdict))
    return rows, sum(row[3] in ("over", "no budget", "not measured") for row in rows)


def update(document: dict, figures: dict[str, float], reason: str, where: dict[str, str]) -> dict:
    """The document with new figures; what it was before, and why, stays beside each that has moved."""
    paths = {}
    for name, now in sorted(figures.items()):
        before = document.get("paths", {}).get(name, {})
        entry = {"instructions": now}
        if before and abs(now - before["instructions"]) <= SLACK * before["instructions"]:
            entry = before
        elif before:
            entry |= {"was": before["instructions"], "reason": reason}
        else:
            entry |= {"reason": reason}
        paths[name] = entry
    return {**where, "paths": paths}


def show(rows: list[tuple[str, float, float | None, str]]) -> None:
    print(f"{'path':22}{'instructions':>14}{'budget':>10}{'change':>9}  verdict")
    for name, now, budget, verdict in rows:
        change = f"{(now / budget - 1) * 100:+.1f} %" if budget else ""
        print(f"{name:22}{now:14.1f}{'' if budget is None else f'{budget:.1f}':>10}{change:>9}  {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/budgets", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("program", help="the compiled paths.c")
    parser.add_argument("--update", metavar="REASON", help="write the figures of now into budgets.json")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind was not found; install it (Debian: apt install valgrind)")
        return 1
    figures = measure(options.program)
    where = {"compiler": compiler(), "architecture": platform.machine()}
    document = json.loads(BUDGETS.read_text()) if BUDGETS.exists() else {}
    if options.update is not None:
        if len(options.update.split()) < 3:
            print("a changed budget needs its reason: REASON='at least a few words'")
            return 1
        BUDGETS.write_text(json.dumps(update(document, figures, options.update, where), indent=1) + "\n")
        document = json.loads(BUDGETS.read_text())
    rows, failures = judge(figures, document.get("paths", {}))
    show(rows)
    made = {key: document.get(key) for key in where}
    if made != where:
        print(f"not judged: the budgets are for {made}, this is {where}")
        return 0
    print(f"{len(rows) - failures} within their budget, {failures} not (5 % are allowed)")
    if any(row[3] == "under" for row in rows):
        print("some take less than they may: make budgets-update REASON='...' keeps what was won")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
