# SPDX-License-Identifier: Apache-2.0
"""The type stubs say what the extension modules are, by mypy's stubtest: name by name, argument by argument."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import iommufd_fast

PACKAGE = Path(iommufd_fast.__file__).parent
MODULES = sorted(p.stem for p in (PACKAGE / "_core").glob("*.pyx"))

# What Cython adds to a module and what it cannot tell about itself.
ALLOWED = r"""
.*\.__test__
.*\.__pyx_capi__
.*\.__reduce_cython__
.*\.__setstate_cython__
.*\.__pyx_unpickle_.*
.*\.__pyx_vtable__
"""


def stubtest(modules: list[str], path: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-unused-allowlist"]
    command += ["--ignore-disjoint-bases", "--allowlist", str(allowed), *modules]
    env = {**os.environ, "MYPYPATH": str(path), "PYTHONPATH": str(path)}
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)


def test_every_module_has_a_stub():
    assert MODULES
    missing = [name for name in MODULES if not (PACKAGE / "_core" / f"{name}.pyi").exists()]
    assert not missing, missing


def test_stubs_agree_with_the_modules(tmp_path):
    done = stubtest([f"iommufd_fast._core.{name}" for name in MODULES], PACKAGE.parent, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stub", "told"),
    [
        ("def f(a: int) -> int: ...\n", ""),
        ("def f(a: int, b: int) -> int: ...\n", "planted.f"),
        ("def f(a: int) -> int: ...\ndef g() -> None: ...\n", "planted.g"),
        ("", "planted.f"),
    ],
)
def test_a_wrong_stub_is_found(stub, told, tmp_path):
    (tmp_path / "planted.py").write_text("def f(a):\n    return a\n")
    (tmp_path / "planted.pyi").write_text(stub)
    done = stubtest(["planted"], tmp_path, tmp_path)
    assert (done.returncode == 0) == (not told) and told in done.stdout, done.stdout + done.stderr


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
