# SPDX-License-Identifier: Apache-2.0
"""What several test files need: where things are, and the C core compiled in other configurations."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
BUILD = ROOT / "build"
JOBS = os.cpu_count() or 1


def tool(name: str, package: str) -> str:
    """The path of a program that the tests cannot do without; a failure that says what to install."""
    found = shutil.which(shlex.split(name)[0])
    if not found:
        pytest.fail(f"{name} was not found; install it (Debian: apt install {package})", pytrace=False)
    return name


def compiler() -> str:
    """The C compiler: $CC, or cc."""
    return tool(os.environ.get("CC", "cc"), "gcc libc6-dev")


def run(*command: str | Path, timeout: float = 120, **options) -> subprocess.CompletedProcess[str]:
    """Run a program with its output as text, standard error folded in."""
    args = [str(part) for part in command]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(args, text=True, errors="replace", timeout=timeout, **options)


@dataclass(eq=False)
class CBuild:
    """The C core and a folder of programs, compiled in one configuration; what is up to date stays."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return BUILD / self.name

    def make(self, *targets: str | Path, programs: Path | None = None, keep_going: bool = False):
        """Call csrc/Makefile; two test runs at once take turns."""
        tool("make", "make")
        settings = {"OUT": self.out, "CC": compiler(), **self.settings}
        if programs:
            settings["FROM"] = programs
        self.out.mkdir(parents=True, exist_ok=True)
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS")}
        command = ["make", "--no-print-directory", "-C", CSRC, f"-j{JOBS}", *(["-k"] if keep_going else [])]
        with open(self.out / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return run(*command, *targets, *(f"{k}={v}" for k, v in settings.items()), env=env, timeout=600)


RELEASE = CBuild("ctest-release", {"WERROR": "1"})
ASAN = CBuild("ctest-asan", {"SANITIZE": "address,undefined", "DEBUG": "1", "WERROR": "1", "CFLAGS": "-O1 -g"})
TSAN = CBuild("ctest-tsan", {"SANITIZE": "thread", "DEBUG": "1", "WERROR": "1", "CFLAGS": "-O1 -g"})


@cache
def release_core() -> Path:
    """The folder of the core's shared and static library, built as a release and alone."""
    done = RELEASE.make("all")
    if done.returncode:
        pytest.fail(f"csrc does not build alone:\n{done.stdout}", pytrace=False)
    return RELEASE.out
