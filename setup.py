# SPDX-License-Identifier: Apache-2.0
"""Builds everything: the C core (through csrc/Makefile) and the Cython modules that link it.

One shared library, ``libiommufd_fast.so``, sits in the package; the extension modules in ``iommufd_fast/_core`` find
it through ``$ORIGIN/..``. Beside it lies ``libiommufd_fast_preload.so`` for ``iommufd-fast run``: it has a core of its
own, and Python never loads it. Everything compiled is kept in ``build/<configuration>`` and only rebuilt when something
it was made from has changed, so a second build starts at once; finished files are then copied to where they belong.

Environment:
    IOF_TEST_BUILD=1   the test configuration: Cython's bounds and overflow checks, assertions, -DIOF_DEBUG
    IOF_SANITIZE=LIST  address,undefined or thread, for core and modules (python then needs the runtime preloaded)
    IOF_STRICT=1       Cython's performance hints and warnings, and the C core's warnings, are errors
    IOF_JOBS=N         compile N files at a time (default: the number of processors)
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
PACKAGE = "iommufd_fast"
LIBRARY = "libiommufd_fast.so"
PRELOAD = "libiommufd_fast_preload.so"

TEST = bool(os.environ.get("IOF_TEST_BUILD"))
SANITIZE = os.environ.get("IOF_SANITIZE", "")
STRICT = bool(os.environ.get("IOF_STRICT"))
JOBS = int(os.environ.get("IOF_JOBS") or os.cpu_count() or 1)
CONFIG = ("test" if TEST else "release") + ("-" + SANITIZE.replace(",", "-") if SANITIZE else "")
# Absolute: sub-commands of an editable build run with temporary directories of their own.
BUILD = ROOT / "build" / f"{CONFIG}-{sys.implementation.cache_tag}{sys.abiflags}"

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "cdivision": True,
    "freethreading_compatible": True,
    "boundscheck": TEST,
    "wraparound": False,
    "initializedcheck": TEST,
    "nonecheck": TEST,
    "overflowcheck": TEST,
}


def core_modules() -> list[Extension]:
    """Every .pyx of _core is one extension module."""
    link = ["-Wl,-Bsymbolic-functions"] + ([f"-fsanitize={SANITIZE}"] if SANITIZE else [])
    flags = ["-std=gnu11", "-O1" if TEST else "-O2", "-g", "-fno-semantic-interposition", "-Wno-unused-function"]
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
    return [
        Extension(
            f"{PACKAGE}._core.{path.stem}",
            [path.relative_to(ROOT).as_posix()],
            include_dirs=[str(CSRC), str(CSRC / "include")],
            library_dirs=[str(BUILD / "core")],
            libraries=["iommufd_fast"],
            runtime_library_dirs=["$ORIGIN/.."],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")] + ([("IOF_DEBUG", "1")] if TEST else []),
            undef_macros=["NDEBUG"] if TEST else [],
            extra_compile_args=flags,
            extra_link_args=link,
        )
        for path in sorted((ROOT / PACKAGE / "_core").glob("*.pyx"))
    ]


def place(source: Path, target: Path) -> None:
    """Copy when different, and as one step, so that a process that has the old file mapped keeps it whole."""
    if (
        target.exists()
        and target.stat().st_mtime >= source.stat().st_mtime
        and target.read_bytes() == source.read_bytes()
    ):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.copyfile(source, new)
    shutil.copymode(source, new)
    os.replace(new, target)


def dependencies(depfile: Path) -> list[str]:
    """What a make rule written by a compiler names behind its colon."""
    if not depfile.exists():
        return []
    return depfile.read_text().replace("\\\n", " ").partition(": ")[2].split()


def newer_than(target: Path, depfile: Path) -> bool:
    """Is the target newer than all that the compiler said it was made from (and than this file)?"""
    if not (target.exists() and depfile.exists()):
        return False
    made, stamps = target.stat().st_mtime, [Path(__file__), *map(Path, dependencies(depfile))]
    return all(p.exists() and p.stat().st_mtime <= made for p in stamps)


def depfile_of(ext: Extension) -> Path:
    """Where the compiler says what a module was made from."""
    return BUILD / "cython" / f"{ext.name.rpartition('.')[2]}.c.d"


class Build(build):
    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = str(BUILD)


class BuildPy(build_py):
    """Python files, and the headers that get_include() promises."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # A build directory that is used again must not ship what the source tree no longer has.
        kept = {os.path.abspath(f) for f in self.get_outputs(include_bytecode=False)}
        top = Path(self.build_lib).resolve() / PACKAGE
        for path in [p for ext in ("py", "pyi", "pyx", "pxd") for p in top.rglob(f"*.{ext}")]:
            if str(path) not in kept:
                path.unlink()


class BuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = JOBS
        self.build_temp = str(BUILD / "obj")
        self.wanted_lib = self.build_lib

    def run(self) -> None:
        BUILD.mkdir(parents=True, exist_ok=True)
        with open(BUILD / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once take turns
            self.make_core()
            super().run()
            self.prune(Path(self.wanted_lib) / PACKAGE / "_core")
            for source, target in self.placed(Path(self.wanted_lib) / PACKAGE):
                place(source, target)
            if self.inplace:
                self.refresh_include(ROOT / PACKAGE / "include")
                self.prune(ROOT / PACKAGE / "_core")
                for source, target in self.placed(ROOT / PACKAGE):
                    place(source, target)

    def make_core(self) -> None:
        make = shutil.which("make") or sys.exit("make was not found; install it (Debian: apt install make gcc)")
        settings = {"OUT": BUILD / "core", "SONAME": LIBRARY, "SANITIZE": SANITIZE}
        settings |= {"DEBUG": "1"} if TEST else {}
        settings |= {"WERROR": "1"} if STRICT else {}
        variables = [f"{name}={value}" for name, value in settings.items()]
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS")}
        command = [make, "--no-print-directory", "-C", CSRC, f"-j{JOBS}", "shared", "preload", *variables]
        if subprocess.run(command, env=env, stdout=sys.stderr).returncode:
            sys.exit("the C core did not compile; the compiler's messages are above")

    def placed(self, package: Path) -> list[tuple[Path, Path]]:
        """What goes beside the modules: the libraries and the headers of all floors, csrc/include at the top."""
        pairs = [(BUILD / "core" / name, package / name) for name in (LIBRARY, PRELOAD)]
        for header in sorted(CSRC.rglob("*.h")):
            relative = header.relative_to(CSRC)
            if relative.parts[0] == "include":
                relative = relative.relative_to("include")
            pairs.append((header, package / "include" / relative))
        return pairs

    def prune(self, folder: Path) -> None:
        """A module whose .pyx is gone must not be importable any more."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        kept = {ext.name.rpartition(".")[2] + suffix for ext in self.extensions}
        for path in folder.glob(f"*{suffix}"):
            if path.name not in kept:
                path.unlink()

    def refresh_include(self, folder: Path) -> None:
        kept = {target for _, target in self.placed(folder.parent)}
        for path in folder.rglob("*.h"):
            if path not in kept:
                path.unlink()

    def build_extensions(self) -> None:
        """Make the modules in our own directory, where what is up to date stays, then hand them out."""
        import numpy

        for ext in self.extensions:
            ext.include_dirs.append(numpy.get_include())
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(self.translate, self.extensions))
        self.build_lib = str(BUILD / "modules")
        for ext in self.extensions:
            if not depfile_of(ext).exists():  # nobody knows any more what it was made from
                Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        try:
            super().build_extensions()
            made = [(ext, Path(self.get_ext_fullpath(ext.name))) for ext in self.extensions]
        finally:
            self.build_lib = self.wanted_lib
        for ext, path in made:
            place(path, Path(self.get_ext_fullpath(ext.name)))

    def translate(self, ext: Extension) -> None:
        """Cython to C, when the .pyx or anything it cimports has changed; then say what the C file depends on."""
        source = ROOT / ext.sources[0]
        out = BUILD / "cython" / f"{source.stem}.c"
        log = out.with_suffix(".log")
        depfile = Path(f"{out}.dep")
        if not newer_than(out, depfile):
            out.parent.mkdir(parents=True, exist_ok=True)
            options = [arg for k, v in DIRECTIVES.items() for arg in ("-X", f"{k}={v}")]
            command = [
                sys.executable,
                "-m",
                "cython",
                "--depfile",
                "-I",
                str(ROOT),
                "--module-name",
                ext.name,
                *options,
            ]
            print(f"  CYTHON  {ext.sources[0]}", file=sys.stderr)
            done = subprocess.run([*command, "-o", str(out), str(source)], cwd=ROOT, capture_output=True, text=True)
            log.write_text(done.stdout + done.stderr)
            if done.returncode:
                out.unlink(missing_ok=True)
                sys.exit(f"{log.read_text()}\nCython refused {ext.sources[0]}")
            print(log.read_text(), end="", file=sys.stderr)
        if STRICT and ("performance hint" in log.read_text() or "warning:" in log.read_text()):
            sys.exit(f"{log.read_text()}\nIOF_STRICT: Cython has remarks on {ext.sources[0]}")
        ext.sources = [os.path.relpath(out, ROOT)]
        # Of its own: the modules were given one list.
        ext.extra_compile_args = [*ext.extra_compile_args, "-MMD", "-MF", str(depfile_of(ext))]
        ext.depends = [__file__, *dependencies(depfile_of(ext))]

    def get_outputs(self) -> list[str]:
        return super().get_outputs() + [str(t) for _, t in self.placed(Path(self.build_lib) / PACKAGE)]

    def get_output_mapping(self) -> dict[str, str]:
        mapping = dict(super().get_output_mapping())
        if self.inplace:
            here, there = self.placed(ROOT / PACKAGE), self.placed(Path(self.build_lib) / PACKAGE)
            mapping |= {str(to): str(at) for (_, at), (_, to) in zip(here, there, strict=True)}
        return mapping


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True  # the C core, even where no module is


setup(
    distclass=BinaryDistribution,
    cmdclass={"build": Build, "build_py": BuildPy, "build_ext": BuildExt},
    ext_modules=core_modules(),
)
