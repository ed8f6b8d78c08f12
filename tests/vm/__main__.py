# SPDX-License-Identifier: Apache-2.0
"""Tests on a real kernel in QEMU: ``python tests/vm KERNEL`` boots it with VT-d and an edu device and runs
tests/vm/guest there, over the same files.

The last line is ``N passed, M failed, K skipped``; the exit status is 0 when nothing failed. Without QEMU, busybox or a
kernel it says so and skips everything; ``--require`` makes that a failure.
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

from iommufd_fast import vm

ROOT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).resolve().parent / "guest"
# Only what is needed: under emulation every plugin costs its import.
PYTEST = ("-p", "no:hypothesispytest", "-p", "no:benchmark", "-p", "no:cacheprovider", "--confcutdir", str(GUEST))


def count_tests() -> int:
    """How many test functions there are, for the last line when none can run."""
    return sum(len(re.findall(r"^ *def test_", file.read_text(), re.M)) for file in GUEST.glob("test_*.py"))


def counts(report: Path) -> tuple[int, int, int]:
    """Passed, failed, skipped, from pytest's JUnit file."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    total, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    return total - failed - skipped, failed, skipped


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def test(kernel: Path, timeout: float, words: list[str]) -> tuple[int, int, int]:
    """Boot and run; the three numbers."""
    with TemporaryDirectory(prefix="iof-test-vm-") as share:
        report = Path(share) / "report.xml"
        command = [sys.executable, "-m", "pytest", *PYTEST, f"--junitxml={report}", *(words or [str(GUEST)])]
        env = {"IOF_IN_GUEST": "1", "IOF_HOST_KERNEL": platform.release()}
        done = vm.run(vm.Guest(kernel), command, env=env, cwd=ROOT, share=share, timeout=timeout, on_output=write)
        if not report.exists():
            print(f"pytest made no report; its exit status was {done.code}")
            return 0, 1, 0
        passed, failed, skipped = counts(report)
        return passed, failed or int(done.code != 0), skipped


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/vm", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("kernel", nargs="?", default="", metavar="KERNEL", help="a bzImage")
    parser.add_argument("--require", action="store_true", help="fail where there is no QEMU, busybox or kernel")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for all  [600]")
    parser.add_argument("words", nargs="*", metavar="ARG", help="arguments of pytest, after --")
    given = parser.parse_args()
    try:
        if not given.kernel:
            raise vm.Missing("no kernel: say where one is, make test-vm KERNEL=PATH")
        passed, failed, skipped = test(Path(given.kernel).resolve(), given.timeout, given.words)
    except vm.Missing as e:
        print(f"skipped: {e}")
        passed, failed, skipped = 0, int(given.require), count_tests()
    except vm.GuestError as e:
        print(e)
        passed, failed, skipped = 0, 1, 0
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
