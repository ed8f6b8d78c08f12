# SPDX-License-Identifier: Apache-2.0
"""The C core's tests for 64-bit ARM, cross-compiled and run under QEMU's user-mode emulation.

    make test-arm64     needs Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static

What the emulator does not have is listed below, test by test; anything else that fails is a failure. A listed test that
passes is one too: then the list is wrong. The last line is ``N passed, M failed, K skipped``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "arm64"
TOOLS = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64-static": "qemu-user-static",
    "make": "make",
}

MREMAP = "mremap() of shared memory with an old size of 0 is ENOMEM there"
CHILD = "memory and threads of another emulated process cannot be read"
FILES = "the emulator opens descriptors of its own"
START = "/proc/PID/stat of an emulated process tells another start time"
RESIDENT = "freed pages of a shared mapping stay resident"
EMULATOR = {
    ("test_change_process", "without_a_limit_the_counts_stay"): FILES,
    ("test_change_process", "a_child_that_lives"): CHILD,
    ("test_change_process", "a_child_whose_first_thread_has_ended"): CHILD,
    ("test_change_process", "private_memory_of_a_child"): CHILD,
    ("test_contract_failures", "trusting_intel"): MREMAP,
    ("test_contract_failures", "probing_amd_with_identities"): MREMAP,
    ("test_contract_nested", "mmap_rules"): MREMAP,
    ("test_contract_stress", "storm_of_every_command"): MREMAP,
    ("test_map_file", "a_child_uses_what_the_parent_mapped"): FILES,
    ("test_pages_identity", "processes_have_names"): START,
    ("test_util_arena", "arena_runs_merge_and_go_back_to_the_system"): RESIDENT,
}


def build() -> list[Path]:
    settings = {
        "CC": "aarch64-linux-gnu-gcc",
        "AR": "aarch64-linux-gnu-ar",
        "OUT": OUT,
        "DEBUG": "1",
        "WERROR": "1",
        "LDFLAGS": "-static",
        "FROM": ROOT / "tests" / "c",
    }
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS")}
    jobs = f"-j{os.cpu_count() or 1}"
    command = ["make", "--no-print-directory", "-s", "-C", str(ROOT / "csrc"), jobs, "programs"]
    done = subprocess.run([*command, *(f"{k}={v}" for k, v in settings.items())], env=env, stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit("the C core or its tests do not compile for arm64")
    return sorted(p for p in (OUT / "bin").glob("test_*") if not p.suffix)


def judge(name: str, code: int, text: str) -> tuple[int, list[str], list[str]]:
    """(tests passed, failures, tests that the emulator cannot do) of one program's output."""
    last = re.search(r"^(\d+) passed, (\d+) failed", text, re.M)
    failed = re.findall(r"^FAILED (\w+)", text, re.M)
    if not last or code not in (0, 1):
        return 0, [f"{name} ended with {code}:\n{text[-2000:]}"], []
    known = [test for program, test in EMULATOR if program == name]
    bad = [f"{name}: {test}" for test in failed if test not in known]
    bad += [f"{name}: {test} passes; take it off the list" for test in known if test not in failed]
    return int(last[1]), bad, [test for test in failed if test in known]


def run(program: Path) -> tuple[int, list[str], list[str]]:
    command = ["qemu-aarch64-static", str(program)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return 0, [f"{program.name} did not end within 600 s"], []
    passed, failed, skipped = judge(program.name, done.returncode, done.stdout)
    print(f"{program.name:28}{passed:4} passed" + "".join(f"\n  FAILED {f}" for f in failed), flush=True)
    for test in skipped:
        print(f"  not judged: {test}: {EMULATOR[program.name, test]}", flush=True)
    return passed, failed, skipped


def main() -> int:
    for name, packages in TOOLS.items():
        if not shutil.which(name):
            print(
                f"{name} was not found (Debian: apt install {packages}); nothing was run\n0 passed, 0 failed, 1 skipped"
            )
            return 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = list(pool.map(run, build()))
    passed, failed, skipped = (
        sum(r[0] for r in results),
        sum(len(r[1]) for r in results),
        sum(len(r[2]) for r in results),
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
