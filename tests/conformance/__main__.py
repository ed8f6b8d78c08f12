# SPDX-License-Identifier: Apache-2.0
"""Runs Linux's own iommufd selftests, unmodified, over the preload shim: ``python tests/conformance LINUX_TREE``.

Builds ``iommufd`` and ``iommufd_fail_nth`` from the tree, twice: plainly, and with _FORTIFY_SOURCE=3, which makes
programs call other functions. Reserves 80 huge pages of 2 MiB for the time of the run. Prints what failed, with the
test's own words, and a last line ``N passed, M failed, K skipped`` about the plain build; a result that differs in the
fortified build counts as a failure. The exit status is 0 when nothing failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("iommufd", "iommufd_fail_nth")
BUILDS = {"plain": ["-O2"], "fortified": ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]}
HUGE_PAGES = 80
NR_HUGE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
CAP_SYS_RESOURCE = 24
TIMEOUT = 900
RESULT = re.compile(r"^(ok|not ok) \d+ (\S+)( # SKIP.*)?$")


class Missing(Exception):
    """Something that the run needs is not there; the text says what, and how to get it."""


def compiler() -> list[str]:
    return os.environ.get("CC", "cc").split()


def build(linux: Path, out: Path) -> None:
    """Both programs in both builds. Their sources are read where they are."""
    tests = linux / "tools/testing/selftests"
    for name in PROGRAMS:
        if not (tests / "iommu" / f"{name}.c").exists():
            raise Missing(f"{tests}/iommu/{name}.c: say LINUX=PATH of a Linux tree (with its headers in usr/include)")
    probe = subprocess.run(
        [*compiler(), "-xc", "-E", "-"], input="#include <sys/capability.h>\n", text=True, capture_output=True
    )
    if probe.returncode:
        raise Missing("sys/capability.h: install libcap's headers (Debian, Ubuntu: apt install libcap-dev)")
    for kind, flags in BUILDS.items():
        (out / kind).mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            command = [*compiler(), *flags, "-D_GNU_SOURCE=", "-I", linux / "usr/include", "-I", tests]
            done = subprocess.run(
                [*command, tests / "iommu" / f"{name}.c", "-o", out / kind / name, "-lcap"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                raise Missing(f"{name} does not compile:\n{done.stdout}")


def read_number(path: Path) -> int:
    return int(path.read_text())


@contextlib.contextmanager
def huge_pages(wanted: int) -> Iterator[str]:
    """Has so many huge pages free for the time of the block; yields what is wrong, or nothing. Gives them back."""
    pool = NR_HUGE / "nr_hugepages"
    if not pool.exists():
        yield "this kernel has no huge pages of 2 MiB"
        return
    before = read_number(pool)
    lacking = wanted - read_number(NR_HUGE / "free_hugepages")
    if lacking <= 0:
        yield ""
        return
    try:
        pool.write_text(str(before + lacking))
    except OSError as e:
        yield f"{pool} cannot be written ({e.strerror}): huge pages need root, or {wanted} that are free already"
        return
    try:
        free = read_number(NR_HUGE / "free_hugepages")
        yield "" if free >= wanted else f"only {free} of {wanted} huge pages of 2 MiB were to be had: memory is short"
    finally:
        pool.write_text(str(before))


def capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)[1], 16)


def has_namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "--map-root-user", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def chooses_namespace() -> bool:
    """Whether to run in a user namespace when nobody said: only for a capability that this process lacks."""
    if capabilities() >> CAP_SYS_RESOURCE & 1 or not has_namespaces():
        return False
    print("no CAP_SYS_RESOURCE here: the tests run in a user namespace, which has it (USERNS=0: without)")
    return True


def complaints(user_namespace: bool) -> Iterator[str]:
    """What this process lacks that some tests need."""
    if os.geteuid() != 0 and not user_namespace:
        yield "not root: tests that raise limits or drop capabilities will fail"
    elif not user_namespace and not capabilities() >> CAP_SYS_RESOURCE & 1:
        yield (
            "no CAP_SYS_RESOURCE: setting RLIMIT_MODE is refused, as Linux would, and global_options and two of "
            "change_process fail for that (in a user namespace, USERNS=1, they do not)"
        )


def run(program: Path, library: Path, user_namespace: bool) -> str:
    env = os.environ | {"LD_PRELOAD": str(library), "IOMMUFD_FAST_MACHINE": "mock"}
    front = ["unshare", "--map-root-user"] if user_namespace else []
    # The namespace's own program must not be preloaded: env sets the variables behind it.
    command = [*front, "env", *(f"{k}={env[k]}" for k in ("LD_PRELOAD", "IOMMUFD_FAST_MACHINE")), program]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    )
    try:
        return child.communicate(timeout=TIMEOUT)[0]
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise


def results(text: str) -> dict[str, tuple[str, list[str]]]:
    """Name of each test: passed, failed or skipped, and what was said about it."""
    found, said = {}, []
    for line in text.splitlines():
        match = RESULT.match(line)
        if not match:
            said.append(line)
            continue
        verdict = "skipped" if match[3] else "passed" if match[1] == "ok" else "failed"
        found[match[2]] = verdict, said
        said = []
    return found


def planned(text: str) -> int:
    match = re.search(r"^1\.\.(\d+)$", text, re.M)
    return int(match[1]) if match else 0


def count(found: dict[str, tuple[str, list[str]]], verdict: str) -> int:
    return sum(v == verdict for v, _ in found.values())


def summary(found: dict[str, tuple[str, list[str]]]) -> str:
    return ", ".join(f"{count(found, verdict)} {verdict}" for verdict in ("passed", "failed", "skipped"))


def run_build(kind: str, out: Path, library: Path, user_namespace: bool) -> dict[str, tuple[str, list[str]]]:
    """Every test of one build, with one line about each program and a few about each failure."""
    every = {}
    for name in PROGRAMS:
        text = run(out / kind / name, library, user_namespace)
        (out / kind / f"{name}.tap").write_text(text)
        found = results(text)
        if not found or len(found) != planned(text):
            found[f"{name}: ended early"] = "failed", text.splitlines()[-10:]
        print(f"{name} ({kind}): {summary(found)}")
        for test, (verdict, said) in found.items():
            if verdict == "failed":
                print(f"  not ok {test}")
                print("".join(f"    {line}\n" for line in said if not re.match(r"#  +(RUN|FAIL)", line)), end="")
        every |= found
    return every


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__.splitlines()[0])
    parser.add_argument("linux", type=Path)
    parser.add_argument("--library", type=Path, required=True, help="libiommufd_fast_preload.so")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "conformance")
    parser.add_argument(
        "--userns",
        type=int,
        choices=(0, 1),
        help="run in a user namespace of its own; default: when CAP_SYS_RESOURCE is lacking and one can be had",
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        build(args.linux.resolve(), args.out)
        if args.userns and not shutil.which("unshare"):
            raise Missing("unshare (Debian, Ubuntu: apt install util-linux)")
        if args.userns and not has_namespaces():
            raise Missing("user namespaces: unshare --map-root-user is refused here (USERNS=0: without)")
    except Missing as e:
        print(f"missing: {e}")
        return 2
    user_namespace = chooses_namespace() if args.userns is None else bool(args.userns)
    for complaint in complaints(user_namespace):
        print(f"missing: {complaint}")
    with huge_pages(HUGE_PAGES) as complaint:
        if complaint:
            print(f"missing: {complaint}; the tests with huge pages will fail")
        found = {kind: run_build(kind, args.out, args.library.resolve(), user_namespace) for kind in reversed(BUILDS)}
    plain = found["plain"]
    for test in sorted(plain.keys() | found["fortified"].keys()):
        now, then = plain.get(test, ("absent",))[0], found["fortified"].get(test, ("absent",))[0]
        if now != then:
            print(f"differs: {test} {now} plainly, {then} with _FORTIFY_SOURCE=3")
            plain[test] = "failed", []
    print(summary(plain))
    return int(count(plain, "failed") > 0)


if __name__ == "__main__":
    sys.exit(main())
