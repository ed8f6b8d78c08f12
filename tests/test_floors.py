# SPDX-License-Identifier: Apache-2.0
"""A file names only what lies below it: parsed from ``#include``, ``cimport`` and ``import``.

The two tables are the architecture. Inside a folder, files may name each other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from support import ROOT

# Folder of csrc -> the folders its files may include from (besides its own).
C_FLOORS = {
    "util": set(),
    "iova": {"util"},
    "pagetable": {"util"},
    "pages": {"util"},
    "ioas": {"util", "iova", "pagetable", "pages"},
    "dispatch": {"util", "iova", "pagetable", "pages", "ioas"},
    "include": {"dispatch"},  # the public header: the uAPI structs and opaque types
    "provider": {"util", "iova", "pagetable", "pages", "ioas", "dispatch", "include"},
    "memory": {"util", "iova", "include"},  # stands on handles alone: no provider's insides
    "preload": {"util", "iova", "pagetable", "pages", "ioas", "dispatch", "include", "provider"},
}

# The public header says what a program may name; it holds no code, so the floors that implement it may see it.
# Our own numbers of the uAPI are such a vocabulary too.
VOCABULARY = {
    "ioas": {"dispatch/uapi.h", "dispatch/uapi_guest.h", "include/iommufd_fast.h"},
    "dispatch": {"include/iommufd_fast.h"},
    "include": {"ioas/driver.h", "util/event.h", "iova/va_index.h"},  # what an embedder fills in, and what is inline
}

# The modules of _core that are useful alone see one piece of the core each.
CORE_MODULES = {"iova": {"util", "iova"}, "pagetable": {"util", "pagetable"}, "pages": {"util", "pages"}}

# Layers of the Python package, lowest first; a name is a module or folder directly under iommufd_fast.
LAYERS = [
    {"_version", "_paths", "_elf"},
    {"_core", "errors", "remedies", "_remedies"},  # errors.py: what an errno becomes; _core/_fail.py is its door
    {"uapi"},
    {"*"},  # the control plane: every name that stands nowhere else, and iommufd_fast/__init__.py
    {"vm"},  # a kernel in QEMU; knows nothing of what runs in it
    {"bench", "replay", "report", "data", "doctor"},
    {"cli", "__main__"},
]


def layer(name: str) -> int:
    for i, names in enumerate(LAYERS):
        if name in names:
            return i
    return next(i for i, names in enumerate(LAYERS) if "*" in names)


def c_files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "csrc").rglob("*.[ch]"))


def includes(path: Path) -> list[tuple[int, str]]:
    """Line and name of each include of ours; system headers are <…>."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<(iommufd_fast\.h)>)', line):
            found.append((number, match[1] or match[2]))
    return found


def resolve(csrc: Path, path: Path, name: str) -> Path | None:
    """As the compiler looks: beside the file, then -Icsrc, then -Icsrc/include."""
    for folder in (path.parent, csrc, csrc / "include"):
        if (folder / name).is_file():
            return (folder / name).resolve().relative_to(csrc.resolve())
    return None


def c_violations(root: Path) -> Iterable[str]:
    csrc = root / "csrc"
    for path in c_files(root):
        own = path.relative_to(csrc).parts[0]
        if own not in C_FLOORS:
            yield f"{path.relative_to(root)}: csrc/{own} is not a floor; add it to the table with what it may see"
            continue
        for number, name in includes(path):
            target = resolve(csrc, path, name)
            where = f"{path.relative_to(root)}:{number}: "
            if target is None:
                yield where + f'"{name}" is not in csrc'
            elif target.parts[0] not in {own, *C_FLOORS[own]} and target.as_posix() not in VOCABULARY.get(own, ()):
                yield where + f"{own} may not name {target.as_posix()}"


def python_names(path: Path, package: tuple[str, ...]) -> Iterable[tuple[int, str]]:
    """Line and absolute name of each import; `package` is the folder's dotted name."""
    if path.suffix in (".py", ".pyi"):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from absolute(
                    node.lineno, "." * node.level + (node.module or ""), [a.name for a in node.names], package
                )
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.match(r"\s*from\s+([.\w]+)\s+c?import\s+(.+)", line):
            names = [part.split()[0] for part in re.sub(r"[()#].*", "", match[2]).split(",") if part.split()]
            yield from absolute(number, match[1], names, package)
        elif match := re.match(r"\s*c?import\s+(.+)", line):
            yield from ((number, part.split()[0]) for part in match[1].split("#")[0].split(",") if part.split())


def absolute(number: int, module: str, names: list[str], package: tuple[str, ...]) -> Iterable[tuple[int, str]]:
    level = len(module) - len(module.lstrip("."))
    base = package[: len(package) - level + 1] if level else ()
    full = ".".join((*base, *([module.lstrip(".")] if module.lstrip(".") else [])))
    yield from ((number, f"{full}.{name}") for name in names) if full == "iommufd_fast" else [(number, full)]


def python_violations(root: Path) -> Iterable[str]:
    top = root / "iommufd_fast"
    submodules = {p.stem if p.is_file() else p.name for p in top.iterdir()}.union(*LAYERS)
    for path in sorted(p for p in top.rglob("*") if p.suffix in (".py", ".pyi", ".pyx", ".pxd")):
        relative = path.relative_to(top)
        own = relative.parts[0] if len(relative.parts) > 1 else path.stem
        for number, name in python_names(path, ("iommufd_fast", *relative.parts[:-1])):
            parts = name.split(".")
            if parts[0] != "iommufd_fast":
                continue
            target = parts[1] if len(parts) > 1 and parts[1] in submodules else "__init__"
            if layer(target) > layer(own) and target != own:
                where = f"{path.relative_to(root)}:{number}: "
                yield where + f"layer {layer(own)} ({own}) may not name {name} (layer {layer(target)})"


def extern_violations(root: Path) -> Iterable[str]:
    for path in sorted((root / "iommufd_fast" / "_core").glob("*.p[yx][xd]")):
        allowed = CORE_MODULES.get(path.stem)
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.search(r'cdef extern from "([^"<]+)"', line)
            if match and allowed is not None and match[1].split("/")[0] not in allowed:
                yield f"{path.relative_to(root)}:{number}: {path.stem} may not name {match[1]}; it is useful without it"


RULES = {"C": c_violations, "Python": python_violations, "extern": extern_violations}


@pytest.mark.parametrize("rule", RULES)
def test_floors(rule):
    found = list(RULES[rule](ROOT))
    assert not found, "\n".join(found)


def test_the_rule_reads_the_tree():
    """An empty answer must not come from having looked at nothing."""
    assert sum(len(includes(path)) for path in c_files(ROOT)) > 30
    seen = {name for path in (ROOT / "iommufd_fast").rglob("*.py") for _, name in python_names(path, ("iommufd_fast",))}
    assert any(name.startswith("iommufd_fast") for name in seen)


PLANTED = {
    "up": ("C", "csrc/util/x.c", '#include "ioas/ioas.h"\n'),
    "sideways": ("C", "csrc/iova/x.c", '#  include  "pages/pages.h"\n'),
    "missing": ("C", "csrc/ioas/x.c", '#include "iova/none.h"\n'),
    "new folder": ("C", "csrc/extra/x.c", ""),
    "parent path": ("C", "csrc/pages/x.c", '#include "../ioas/ioas.h"\n'),
    "public header too low": ("C", "csrc/pages/x.c", "#include <iommufd_fast.h>\n"),
    "core to control plane": ("Python", "iommufd_fast/_core/x.py", "from iommufd_fast.context import Iommufd\n"),
    "core to control plane, relative": ("Python", "iommufd_fast/_core/x.pyx", "from ..context import Iommufd\n"),
    "core to the package": ("Python", "iommufd_fast/_core/x.py", "def f():\n    from iommufd_fast import open\n"),
    "cimport upwards": ("Python", "iommufd_fast/_core/x.pxd", "from iommufd_fast.bench.rig cimport Rig, Other\n"),
    "control plane to bench": ("Python", "iommufd_fast/context.py", "from . import bench\n"),
    "bench to the command line": ("Python", "iommufd_fast/bench/x.py", "import iommufd_fast.cli.main as m\n"),
    "extern": ("extern", "iommufd_fast/_core/iova.pyx", 'cdef extern from "ioas/ioas.h" nogil:\n    pass\n'),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_violation_is_found(what, tmp_path):
    rule, name, text = PLANTED[what]
    clean = {
        "csrc/ioas/ioas.h": '#include "pages/pages.h"\n#include "ioas/own.h"\n',
        "csrc/ioas/own.h": "#include <stdint.h>\n",
        "csrc/pages/pages.h": "",
        "csrc/include/iommufd_fast.h": "",
        "iommufd_fast/__init__.py": "from iommufd_fast.context import Iommufd\nfrom ._core.iova import IovaSpace\n",
        "iommufd_fast/context.py": "from iommufd_fast._core import iova\nimport numpy\n",
        "iommufd_fast/bench/__init__.py": "import iommufd_fast\n",
        "iommufd_fast/cli/main.py": "from ..bench import Rig\n",
        "iommufd_fast/_core/iova.pyx": 'from . cimport other\ncdef extern from "iova/space.h":\n    pass\n',
    }
    for file, content in clean.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    assert [v for check in RULES.values() for v in check(tmp_path)] == []
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    found = list(RULES[rule](tmp_path))
    assert len(found) == 1 and name in found[0], found
