# SPDX-License-Identifier: Apache-2.0
"""The shim: C programs that know nothing of it use /dev/iommu with it preloaded.

``preload/symbols.c`` has one test for each function that it interposes, the other programs what follows from them. All
of it runs plainly compiled and with _FORTIFY_SOURCE=3.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from support import ASAN, CSRC, RELEASE, ROOT, compiler, run, tool

PROGRAMS = ROOT / "tests" / "preload"
PRELOAD = CSRC / "preload"
BUILDS = {"plain": ["-O2"], "fortified": ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]}
FLAGS = ["-std=gnu11", "-g", "-pthread", "-Wno-nonnull", f"-I{CSRC}", f"-I{CSRC}/include"]
# Program and machine.
RUNS = {"symbols": "mock", "behaviour": "mock", "soft-intel": "intel", "soft-amd": "amd"}


def source(name: str) -> Path:
    return PROGRAMS / f"{name.partition('-')[0]}.c"


def cases(name: str) -> list[str]:
    """The tests in a program, those that its macros make too."""
    text = re.sub(r"#define (?:.*\\\n)*.*\n", "", source(name).read_text())
    macros = re.findall(r"^#define (\w+)\(name(?:, \.\.\.)?\)", source(name).read_text(), re.M)
    return re.findall(rf"^(?:{'|'.join(['TEST', *macros])})\((\w+)", text, re.M)


@cache
def library() -> Path:
    done = RELEASE.make("preload")
    if done.returncode:
        pytest.fail(f"the preload library does not build:\n{done.stdout}", pytrace=False)
    return RELEASE.out / "libiommufd_fast_preload.so"


def preloaded(machine: str, **more: str) -> dict[str, str]:
    return os.environ | {"LD_PRELOAD": str(library()), "IOMMUFD_FAST_MACHINE": machine} | more


@cache
def program(name: str, build: str) -> Path:
    binary = RELEASE.out / "preload-programs" / build / source(name).stem
    binary.parent.mkdir(parents=True, exist_ok=True)
    done = run(*compiler().split(), *FLAGS, *BUILDS[build], source(name), "-o", binary)
    assert done.returncode == 0, done.stdout
    return binary


@cache
def output(name: str, build: str) -> str:
    return run(program(name, build), env=preloaded(RUNS[name], IOMMUFD_FAST_GROUPS="2")).stdout


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("name", "case"), [(name, case) for name in RUNS for case in cases(name)])
def test_program(name, case, build):
    text = output(name, build)
    ended = re.search(r"^(\d+) passed, (\d+) failed$", text, re.M)
    assert ended, f"{name} ended early\n{text}"
    assert int(ended[1]) + int(ended[2]) == len(cases(name)), "the list of cases is not what the program has"
    assert f"FAILED {case}\n" not in text, text


def names_in(path: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, path.read_text(), re.M))


def exported() -> set[str]:
    tool("nm", "binutils")
    done = run("nm", "-D", "--defined-only", "--format=posix", library())
    assert done.returncode == 0, done.stdout
    return {line.split()[0] for line in done.stdout.splitlines()}


def test_every_interposed_function_has_a_test():
    listed = names_in(PRELOAD / "real.h", r"^\tX\((\w+),")
    assert len(listed) > 35
    assert exported() == listed, "real.h and exports.map name different functions"
    assert not listed - set(cases("symbols"))


def test_the_programs_need_the_shim():
    """Every test of a function fails without the library, so none is green for nothing."""
    done = run(program("symbols", "plain"))
    missing = set(cases("symbols")) - set(re.findall(r"^FAILED (\w+)$", done.stdout, re.M))
    assert not missing, f"without the shim these pass too: {missing}\n{done.stdout}"


def test_the_host_sees_nothing():
    """A program that has nothing to do with us: same output, same descriptors, same signals, nothing said."""
    code = (
        "import os, signal; print(sorted(os.listdir('/proc/self/fd')), signal.getsignal(11), signal.getsignal(7));"
        # SigQ counts the signals queued for all of the user's processes
        "print([l for l in open('/proc/self/status') if l.startswith('Sig') and not l.startswith('SigQ')]);"
        "print([l for l in open('/proc/self/maps') if 'arena' in l])"
    )
    bare, with_us = run(sys.executable, "-c", code), run(sys.executable, "-c", code, env=preloaded("intel"))
    assert bare.returncode == 0
    assert with_us.stdout == bare.stdout


def test_a_shell_works():
    script = "exec 5>&1 3</dev/zero 4<&3; (echo a | cat; head -c 3 <&4 | wc -c) 2>&1; exec 3<&-; ls /proc/self/fd"
    bare, with_us = run("sh", "-c", script), run("sh", "-c", script, env=preloaded("mock"))
    assert bare.returncode == 0
    assert with_us.stdout == bare.stdout


def test_the_library_stands_alone():
    """It needs libc only, so it can be preloaded into anything; a host that brings the engine itself keeps its own."""
    text = run("readelf", "-d", library()).stdout
    assert set(re.findall(r"NEEDED.*\[(.+)\]", text)) <= {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


@pytest.fixture(scope="session")
def embedded(tmp_path_factory) -> Path:
    done = ASAN.make("static")
    assert done.returncode == 0, done.stdout
    binary = tmp_path_factory.mktemp("mock") / "embedded"
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    sources = [PROGRAMS / "embedded.c", *sorted(PRELOAD.glob("mock*.c")), ASAN.out / "libiommufd_fast.a"]
    done = run(*compiler().split(), *FLAGS, *flags, *sources, "-o", binary)
    assert done.returncode == 0, done.stdout
    return binary


def test_mock_as_an_embedder(embedded):
    """On a heap machine, without the shim, under AddressSanitizer: every step fails once, nothing leaks."""
    done = run(embedded, env={"ASAN_OPTIONS": "allow_user_segv_handler=1"})
    assert re.search(r"^[1-9]\d* passed, 0 failed$", done.stdout, re.M) and done.returncode == 0, done.stdout


def test_mock_uses_the_public_api_only():
    """The mock is outside the engine: it includes the public headers and what they include."""
    public = {"iommufd_fast.h", "iommufd_fast_embed.h", "util/alloc.h", "util/lock.h", "util/guard.h"}
    for path in PRELOAD.glob("mock*.[ch]"):
        named = names_in(path, r'^#include "([^"]+)"')
        assert named <= public | {"preload/mock.h", "preload/mock_priv.h"}, path.name
