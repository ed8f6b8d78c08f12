# SPDX-License-Identifier: Apache-2.0
"""Every program in tests/c, under AddressSanitizer with UBSan, and under ThreadSanitizer where it asks for it.

A line ``needs: tsan`` near the top of a file asks for the second. Warnings are errors in both.
"""

from __future__ import annotations

import os
import re
import warnings
from functools import cache
from pathlib import Path

import pytest
from support import ASAN, RELEASE, ROOT, TSAN, CBuild, compiler, run, tool

PROGRAMS = ROOT / "tests" / "c"
EXAMPLES = ROOT / "examples" / "c"
NAMES = sorted(path.stem for path in PROGRAMS.glob("test_*.c"))
ASAN_ENV = {
    "ASAN_OPTIONS": "detect_leaks={leaks}:allow_user_segv_handler=1:handle_segv=1:handle_sigbus=1:abort_on_error=0:"
    "strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
TSAN_ENV = {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}
LAST_LINE = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)


def wants_tsan(name: str) -> bool:
    return bool(re.search(r"needs:\s*tsan", (PROGRAMS / f"{name}.c").read_text()[:4000]))


@cache
def core(build: CBuild) -> str:
    """What the compiler has to say about the core in this configuration; nothing is good."""
    done = build.make("static", keep_going=True)
    return done.stdout if done.returncode else ""


@cache
def build_all(build: CBuild, names: tuple[str, ...]) -> None:
    """All programs of a configuration in parallel; one that does not compile is named by its own test."""
    build.make(*(build.out / "bin" / name for name in names), programs=PROGRAMS, keep_going=True)


def program(build: CBuild, name: str, names: list[str]) -> Path:
    assert not core(build), "the core does not compile: see test_core_compiles"
    build_all(build, tuple(names))
    binary = build.out / "bin" / name
    done = build.make(binary, programs=PROGRAMS)
    assert done.returncode == 0, f"{name}.c does not compile\n{done.stdout}"
    return binary


@cache
def trivial(sanitizer: str) -> Path:
    """A program that does nothing, to learn whether this machine lets a sanitizer work at all."""
    folder = ASAN.out.parent / "ctest-trivial"
    folder.mkdir(parents=True, exist_ok=True)
    source, binary = folder / "trivial.c", folder / f"trivial-{sanitizer}"
    source.write_text("int main(void) { return 0; }\n")
    done = run(*compiler().split(), f"-fsanitize={sanitizer}", "-o", binary, source)
    assert done.returncode == 0, f"the compiler has no -fsanitize={sanitizer} (Debian: apt install gcc)\n{done.stdout}"
    return binary


@cache
def leaks_are_found() -> bool:
    done = run(trivial("address"), env={"ASAN_OPTIONS": "detect_leaks=1"})
    if done.returncode:
        warnings.warn(f"LeakSanitizer cannot run here (ptrace not allowed?): {done.stdout.strip()[:300]}", stacklevel=1)
    return done.returncode == 0


@cache
def tsan_prefix() -> list[str] | None:
    """What to put in front: where addresses are randomised too widely, setarch -R helps. None: nothing does."""
    for prefix in ([], ["setarch", "-R"]):
        try:
            if run(*prefix, trivial("thread")).returncode == 0:
                return prefix
        except FileNotFoundError:
            continue
    return None


def check(done, name: str) -> None:
    last = LAST_LINE.search(done.stdout)
    assert done.returncode == 0 and last, f"{name}: exit status {done.returncode}\n{done.stdout[-20000:]}"
    assert int(last[1]) > 0 and int(last[2]) == 0, f"{name} ran no test\n{done.stdout}"


@pytest.mark.parametrize("build", [ASAN, TSAN, RELEASE], ids=lambda build: build.name)
def test_core_compiles(build):
    """Without a warning."""
    assert not core(build), core(build)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("default:LeakSanitizer")
def test_asan_ubsan(name):
    binary = program(ASAN, name, NAMES)
    env = {k: v.format(leaks=int(leaks_are_found())) for k, v in ASAN_ENV.items()}
    check(run(binary, env=env, cwd=ROOT, timeout=400), name)


@pytest.mark.parametrize("name", [name for name in NAMES if wants_tsan(name)])
def test_tsan(name):
    prefix = tsan_prefix()
    if prefix is None:
        pytest.skip("ThreadSanitizer does not start on this machine, not even an empty program under setarch -R")
    binary = program(TSAN, name, [name for name in NAMES if wants_tsan(name)])
    longer = {k: v for k, v in os.environ.items() if k == "IOF_STRESS_PHASES"}
    check(run(*prefix, binary, env=TSAN_ENV | longer, cwd=ROOT, timeout=400), name)


PLANTED = {
    "leak": ("address", "void *volatile p; TEST(planted) { p = malloc(8); p = NULL; }"),
    "overflow": ("address", "TEST(planted) { char *volatile p = malloc(8); CHECK(p[8] != 77); free(p); }"),
    "undefined": ("undefined", "TEST(planted) { volatile int n = 31; CHECK(1 << (n + 1) != 3); }"),
    "race": (
        "thread",
        "#include <pthread.h>\nint n; static void *add(void *p) { n++; return p; }\n"
        "TEST(planted) { pthread_t t; pthread_create(&t, NULL, add, NULL); n++; pthread_join(t, NULL); }",
    ),
    "check": ("undefined", "TEST(planted) { CHECK_EQ(1, 2); }"),
    "nothing": ("undefined", ""),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_runner_sees_a_planted_fault(fault, tmp_path):
    sanitizer, body = PLANTED[fault]
    prefix = (tsan_prefix() if sanitizer == "thread" else []) or []
    if (fault == "leak" and not leaks_are_found()) or (fault == "race" and tsan_prefix() is None):
        pytest.skip("this machine does not let the sanitizer run")
    source, binary = tmp_path / "planted.c", tmp_path / "planted"
    source.write_text(f'#include "check.h"\n{body}\n')
    flags = [
        "-std=gnu11",
        "-g",
        f"-fsanitize={sanitizer}",
        "-fno-sanitize-recover=undefined",
        "-pthread",
        f"-I{PROGRAMS}",
    ]
    done = run(*compiler().split(), *flags, "-o", binary, source)
    assert done.returncode == 0, done.stdout
    env = {k: v.format(leaks=1) for k, v in (ASAN_ENV | TSAN_ENV).items()}
    with pytest.raises(AssertionError):
        check(run(*prefix, binary, env=env), fault)


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """The core installed as a system library would be, from its own Makefile and without Python."""
    prefix = tmp_path_factory.mktemp("prefix")
    done = RELEASE.make("install", f"PREFIX={prefix}")
    assert done.returncode == 0, done.stdout
    return prefix


def pkg_config(prefix: Path, *what: str) -> list[str]:
    tool("pkg-config", "pkgconf")
    done = run(
        "pkg-config",
        *what,
        "iommufd_fast",
        env={"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split()


def test_pkg_config_names_what_was_installed(installed):
    assert pkg_config(installed, "--cflags") == [f"-I{installed}/include"]
    assert pkg_config(installed, "--libs") == [f"-L{installed}/lib", "-liommufd_fast"]
    for name in (
        "lib/libiommufd_fast.so",
        "lib/libiommufd_fast.so.0",
        "lib/libiommufd_fast.a",
        "include/iommufd_fast.h",
    ):
        assert (installed / name).exists(), name


def test_header_stands_alone(installed, tmp_path):
    """In strict C11, with nothing included before it."""
    source = tmp_path / "one.c"
    source.write_text("#include <iommufd_fast.h>\nint main(void) { return sizeof(struct iof_handle *) == 0; }\n")
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-std=c11", *pkg_config(installed, "--cflags")]
    done = run(*compiler().split(), *flags, "-c", "-o", tmp_path / "one.o", source)
    assert done.returncode == 0, done.stdout


def test_there_are_examples():
    assert sorted(EXAMPLES.glob("*.c")), "examples/c has no C example"


@pytest.mark.parametrize("how", ["shared", "static"])
@pytest.mark.parametrize("source", sorted(EXAMPLES.glob("*.c")), ids=lambda path: path.stem)
def test_example(installed, tmp_path, source, how):
    """As a reader would: pkg-config's flags, nothing from this tree."""
    binary = tmp_path / source.stem
    libs = pkg_config(installed, "--libs", "--static") if how == "static" else pkg_config(installed, "--libs")
    if how == "static":
        libs = ["-l:libiommufd_fast.a" if lib == "-liommufd_fast" else lib for lib in libs]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", *pkg_config(installed, "--cflags")]
    done = run(*compiler().split(), *flags, "-o", binary, source, *libs, f"-Wl,-rpath,{installed}/lib")
    assert done.returncode == 0, done.stdout
    done = run(binary)
    assert done.returncode == 0, f"{source.name}: exit status {done.returncode}\n{done.stdout}"
    assert done.stdout.strip(), f"{source.name} says nothing"
