# SPDX-License-Identifier: Apache-2.0
"""What importing the package brings along: start-up time is a promise, and modules are what it is made of."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import iommufd_fast as iof

# Each costs more than the package itself; whoever needs them imports them, the package when they are used.
HEAVY = {"asyncio", "numpy.typing", "subprocess", "ssl", "logging", "click", "rich", "matplotlib", "importlib.metadata"}
CODE = "import sys, numpy; before = set(sys.modules); import iommufd_fast; print(*sorted(set(sys.modules) - before))"
# Opening the engine, mapping and DMA: the job of most programs.
USE = """
with iommufd_fast.open() as ctx:
    dev, ioas = ctx.bind(iommufd_fast.SoftDevice("intel")), ctx.ioas()
    dev.attach(ioas)
    with ioas.map(numpy.zeros(4096, numpy.uint8)) as m:
        dev.dma_write(m.iova, b"x")
print(*sorted(set(sys.modules) - before))
"""


def imported(code: str) -> list[set[str]]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]


def later() -> set[str]:
    return {f"iommufd_fast.{name}" for name in iof._LATER}


def test_nothing_heavy_is_imported():
    (found,) = imported(CODE)
    assert "iommufd_fast.ioas" in found, "the code above measured something else"
    assert not found & HEAVY


def test_what_few_programs_use_is_imported_later():
    at_once, after_use = imported(CODE + USE)
    assert later() and not at_once & later() and not after_use & later()


def test_every_public_name_is_there():
    lines = [f"from iommufd_fast import {name}; assert iommufd_fast.{name} is {name}" for name in iof.__all__]
    subprocess.run([sys.executable, "-c", "\n".join(["import iommufd_fast", *lines])], check=True)


def test_all_names_at_once():
    assert set(iof.__all__) <= set(dir(iof)) and sorted(iof.__all__) == iof.__all__
    namespace: dict = {}
    exec("from iommufd_fast import *", namespace)
    assert set(iof.__all__) <= set(namespace)
    for name, module in iof._HOMES.items():
        assert getattr(iof, name) is getattr(importlib.import_module(f"iommufd_fast.{module}"), name)
    for module in iof._LATER:
        if "." not in module:
            assert getattr(iof, module) is importlib.import_module(f"iommufd_fast.{module}")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        iof.nothing  # noqa: B018


def test_type_checkers_see_the_same_names():
    """The table of what comes later says what the imports for type checkers say."""
    tree = ast.parse(Path(iof.__file__).read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == {name: f"iommufd_fast.{module}" for name, module in iof._HOMES.items()}
