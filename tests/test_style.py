# SPDX-License-Identifier: Apache-2.0
"""What can be checked about the sources without reading them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from support import CSRC, RELEASE, ROOT, compiler, release_core, run, tool

LINES = {".c": 600, ".h": 250, ".pyx": 250, ".pxd": 250, ".py": 300, ".pyi": 300}
FOLDERS = ["csrc", "iommufd_fast", "benchmarks", "examples", "tests"]

# Every writable object of the core, and why there is no other way. (file, symbol) -> reason.
WRITABLE = {
    ("util/guard", "guard"): "a signal's disposition belongs to the process, so its handler's state does too",
    ("util/stripe", "next"): "threads of a process take numbers in turn, whatever they use",
    # The preload library is the process's own: nobody could hand it its state.
    ("preload/real", "real_table"): "the functions behind the interposed ones",
    ("preload/start", "shim_root"): "the engine that this process and its children share",
    ("preload/start", "shim_me"): "this process in it",
    ("preload/start", "start_lock"): "one thread makes the engine",
    ("preload/knobs", "countdowns"): "failures asked for, by thread",
}
# Thread-local objects: caches of what the system knows about the thread, never engine state.
THREAD_LOCAL = {
    ("util/lock", "iofi_self_tid"): "the thread's id, which never changes",
    ("util/stripe", "iof_stripe_own"): "the thread's number, which never changes",
    ("preload/calls_descriptor", "unborn"): "the process that this thread's fork() is about to make",
}


def sources() -> list[Path]:
    found = [ROOT / "setup.py"]
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            skipped = {"__pycache__", "build"} & set(path.parts) or ROOT / "iommufd_fast" / "include" in path.parents
            generated = path.suffix == ".c" and path.parent.name == "_core"
            if path.is_file() and path.suffix in LINES and not skipped and not generated:
                found.append(path)
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_is_something_to_look_at():
    kinds = Counter(path.suffix for path in sources())
    assert kinds[".c"] > 5 and kinds[".h"] > 5 and kinds[".py"] > 5, kinds


def test_files_are_short():
    long = {}
    for path in sources():
        count = len(path.read_text().splitlines())
        if count > LINES[path.suffix] and ROOT / "tests" not in path.parents:
            long[name(path)] = count
    assert not long, f"split by purpose: {long}"


def test_license_line_on_top():
    tag = "SPDX-License-Identifier: Apache-2.0"
    missing = [name(p) for p in sources() if not any(tag in line for line in p.read_text().splitlines()[:2])]
    assert not missing, missing


def test_no_trailing_blanks_and_a_final_newline():
    found = []
    for path in sources():
        text = path.read_text()
        if text and not text.endswith("\n"):
            found.append(f"{name(path)}: no newline at the end")
        found += [f"{name(path)}:{n}" for n, line in enumerate(text.split("\n"), 1) if line != line.rstrip()]
    assert not found, found


def test_core_is_plain_c():
    found = [name(p) for p in CSRC.rglob("*.[ch]") if re.search(r"#\s*include\s*[<\"]Python\.h", p.read_text())]
    assert not found, found


def writable_objects() -> list[tuple[str, str, bool]]:
    """(object file, symbol, thread-local) of all that is in .data, .bss and their thread-local kin, release build."""
    tool("nm", "binutils")
    objects = release_core() / "obj"
    done = RELEASE.make("preload")
    assert done.returncode == 0, done.stdout
    found = []
    for path in sorted(objects.rglob("*.o")):
        if not (CSRC / path.relative_to(objects)).with_suffix(".c").exists():
            continue  # left over from a source that is gone
        for line in run("nm", "--format=sysv", "--defined-only", path).stdout.splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) == 7 and (local := is_writable(cells[6])) is not None:
                found.append((path.relative_to(objects).with_suffix("").as_posix(), cells[0].split(".")[0], local))
    return found


def is_writable(section: str) -> bool | None:
    """True: thread-local; False: a global; None: not writable (a constant table with pointers is in .data.rel.ro)."""
    if section.startswith((".tdata", ".tbss")):
        return True
    if section.startswith((".data", ".bss", "*COM*")) and not section.startswith(".data.rel.ro"):
        return False
    return None


def test_no_mutable_globals():
    found = []
    for file, symbol, local in writable_objects():
        allowed = THREAD_LOCAL if local else WRITABLE
        if (file, symbol) not in allowed:
            found.append(f"{file}.c: {symbol}" + (" (thread-local)" if local else ""))
    assert not found, f"mutable globals: {found}"
    unused = (WRITABLE.keys() | THREAD_LOCAL.keys()) - {(file, symbol) for file, symbol, _ in writable_objects()}
    assert not unused, f"the list allows what is not there: {unused}"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("int planted;", {("planted", False)}),
        ("static int planted = 3; int *f(void) { return &planted; }", {("planted", False)}),
        ("int f(void) { static int planted; return planted++; }", {("planted", False)}),
        ("_Thread_local int planted;", {("planted", True)}),
        ("int f(void); int (*const planted[])(void) = { f };", set()),
        ("const int planted = 3;", set()),
    ],
)
def test_a_planted_global_is_seen(text, seen, tmp_path):
    (tmp_path / "x.c").write_text(text + "\n")
    done = run(*compiler().split(), "-fPIC", "-O1", "-c", "-o", tmp_path / "x.o", tmp_path / "x.c")
    assert done.returncode == 0, done.stdout
    found = set()
    for line in run("nm", "--format=sysv", "--defined-only", tmp_path / "x.o").stdout.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and (local := is_writable(cells[6])) is not None:
            found.add((cells[0].split(".")[0], local))
    assert found == seen
