# SPDX-License-Identifier: Apache-2.0
"""The Python examples of the README and of docs/ run, each in a process of its own, with warnings as errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from support import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MUST_HAVE = {"README.md", "quickstart.md", "concepts.md"}


def blocks() -> list[tuple[str, str]]:
    """(page and line, code) of each block marked python."""
    found = []
    for page in PAGES:
        text = page.read_text() if page.exists() else ""
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 2
            found.append((f"{page.name}:{line}", "\n" * (line - 1) + match[1]))
    return found


def test_there_are_examples():
    assert {where.split(":")[0] for where, _ in blocks()} >= MUST_HAVE


@pytest.mark.parametrize(("where", "code"), blocks(), ids=[where for where, _ in blocks()])
def test_example(where, code, tmp_path):
    file = tmp_path / f"{where.split(':')[0]}.py"
    file.write_text(code)
    command = [sys.executable, "-X", "dev", "-W", "error", str(file)]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{where}\n{done.stderr}"


def test_the_driver_in_the_quickstart_is_the_example():
    text = (ROOT / "docs" / "quickstart.md").read_text()
    shown = re.search(r"<!-- examples/edu_dma.py -->\n```text\n(.*?)^```$", text, re.M | re.S)
    assert shown and (ROOT / "examples" / "edu_dma.py").read_text().endswith(shown[1])
