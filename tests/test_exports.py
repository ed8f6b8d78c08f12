# SPDX-License-Identifier: Apache-2.0
"""What the built libraries show to the world, and that a third party can build against the package."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from support import CSRC, RELEASE, ROOT, compiler, release_core, run, tool

import iommufd_fast

PACKAGE = Path(iommufd_fast.__file__).resolve().parent
LIBRARY = PACKAGE / "libiommufd_fast.so"
PRELOAD = PACKAGE / "libiommufd_fast_preload.so"
MODULES = sorted((PACKAGE / "_core").glob("*.so"))


def symbols(path: Path, *options: str) -> set[str]:
    tool("nm", "binutils")
    done = run("nm", *options, "--defined-only", "--format=posix", path)
    assert done.returncode == 0, done.stdout
    return {line.split()[0] for line in done.stdout.splitlines() if len(line.split()) > 1}


@pytest.mark.parametrize("where", ["package", "alone"])
def test_shared_library_exports_iof_only(where):
    library = LIBRARY if where == "package" else release_core() / "libiommufd_fast.so"
    names = symbols(library, "-D")
    assert names, "no symbol at all is exported"
    assert not [name for name in names if not name.startswith("iof_")]


def test_static_library_stays_in_its_namespace():
    """A program that links the archive meets iof_ and iofi_ names, nothing that could clash."""
    names = symbols(release_core() / "libiommufd_fast.a", "--extern-only")
    assert names
    assert not [name for name in names if not name.startswith(("iof_", "iofi_"))]


def test_the_preloaded_library_and_the_others_do_not_rebuild_each_other():
    release_core()
    for target in ("preload", "all", "preload"):
        done = RELEASE.make(target)
        assert done.returncode == 0, done.stdout
    assert not re.findall(r"^  CC .*", done.stdout + RELEASE.make("all").stdout, re.M)


def interposed() -> set[str]:
    text = re.sub(r"/\*.*?\*/", "", (CSRC / "preload" / "exports.map").read_text(), flags=re.S)
    return set(re.search(r"global:(.*?)local:", text, re.S)[1].replace(";", " ").split())


def test_the_preloaded_library_exports_what_it_interposes_and_nothing_else():
    names = symbols(PRELOAD, "-D")
    assert {"open", "ioctl", "close", "fork"} <= interposed()
    assert names == interposed()


def test_the_preloaded_library_needs_nothing_but_libc():
    """It is loaded into strangers: the engine is inside."""
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic(PRELOAD))
    assert set(needed) <= {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}, needed
    assert not re.search(r"R(UN)?PATH", dynamic(PRELOAD))


PUBLIC_HEADERS = [*sorted((CSRC / "include").glob("*.h")), CSRC / "ioas" / "driver.h"]


@pytest.mark.parametrize("header", PUBLIC_HEADERS, ids=lambda path: path.name)
def test_every_public_function_is_exported(header):
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
    declared = set(re.findall(r"^[a-z][\w \t*]*?\b(iof_\w+)\(", text, flags=re.M))
    declared -= set(re.findall(r"static inline[^(]*?\b(iof_\w+)\(", text))
    assert declared, "no function was found in the public header"
    assert not declared - symbols(LIBRARY, "-D")


def dynamic(path: Path) -> str:
    tool("readelf", "binutils")
    return run("readelf", "-d", path).stdout


def test_modules_link_the_one_library():
    assert MODULES, "no extension module was built"
    offered = symbols(LIBRARY, "-D")
    for module in MODULES:
        done = run("nm", "-D", "--undefined-only", "--format=posix", module)
        wanted = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("iof")}
        assert not wanted - offered, f"{module.name} calls what the library does not have"
        text = dynamic(module)
        assert not wanted or re.search(r"NEEDED.*\[libiommufd_fast\.so\]", text), module.name
        assert re.search(r"R(UN)?PATH.*\$ORIGIN/\.\.", text), module.name
        extra = {name for name in symbols(module, "-D") if not name.startswith(("PyInit_", "__pyx_module_is_main_"))}
        assert not extra, f"{module.name} has a copy of its own of {extra}"


def test_the_library_knows_its_name():
    assert re.search(r"SONAME.*\[libiommufd_fast\.so\]", dynamic(LIBRARY))
    assert re.search(r"SONAME.*\[libiommufd_fast\.so\.0\]", dynamic(release_core() / "libiommufd_fast.so"))


def test_one_version():
    version = iommufd_fast.__version__
    assert re.search(rf"^VERSION := {re.escape(version)}$", (CSRC / "Makefile").read_text(), re.M)
    assert f'#define IOF_VERSION "{version}"' in (CSRC / "include" / "iommufd_fast.h").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


def test_include_folder_is_complete():
    """Every header of csrc is there and equal, so that what is compiled against is what runs."""
    there = Path(iommufd_fast.get_include())
    for header in CSRC.rglob("*.h"):
        relative = header.relative_to(CSRC)
        if relative.parts[0] == "include":
            relative = relative.relative_to("include")
        assert (there / relative).read_bytes() == header.read_bytes(), relative
    assert len(list(there.rglob("*.h"))) == len(list(CSRC.rglob("*.h")))


def test_third_party_cimport(tmp_path):
    """A stranger's module cimports every .pxd, calls the core, and runs, with the two documented folders only."""
    pxds = sorted(path.stem for path in (PACKAGE / "_core").glob("*.pxd") if not path.stem.startswith("_"))
    lines = [f"cimport iommufd_fast._core.{name}" for name in pxds]
    lines += ['cdef extern from "util/bits.h":', "    unsigned iof_log2(unsigned long long v)"]
    lines += ['cdef extern from "util/lock.h":', "    unsigned iof_lock_self_shared()"]
    lines += ["def ask(v):", "    return iof_log2(v), iof_lock_self_shared()"]
    (tmp_path / "stranger.pyx").write_text("# cython: language_level=3\n" + "\n".join(lines) + "\n")
    cython = [sys.executable, "-m", "cython", "-I", PACKAGE.parent, "stranger.pyx"]
    done = run(*cython, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    import numpy

    folders = [iommufd_fast.get_include(), numpy.get_include(), sysconfig.get_path("include")]
    library = iommufd_fast.get_library_dir()
    flags = ["-shared", "-fPIC", "-w", *(f"-I{folder}" for folder in folders), f"-L{library}", f"-Wl,-rpath,{library}"]
    target = tmp_path / f"stranger{sysconfig.get_config_var('EXT_SUFFIX')}"
    done = run(*compiler().split(), *flags, tmp_path / "stranger.c", "-liommufd_fast", "-o", target)
    assert done.returncode == 0, done.stdout
    code = "import os, stranger; assert stranger.ask(4096) == (12, os.getpid())"
    done = run(sys.executable, "-c", code, env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"})
    assert done.returncode == 0, done.stdout
