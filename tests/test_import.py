# SPDX-License-Identifier: Apache-2.0
"""What importing the package brings along: start-up time is a promise, and modules are what it is made of."""

from __future__ import annotations

import subprocess
import sys

# Each costs more than the package itself; whoever needs them imports them, the package when they are used.
HEAVY = {"asyncio", "numpy.typing", "subprocess", "ssl", "logging", "click", "rich", "matplotlib", "importlib.metadata"}
CODE = "import sys, numpy; before = set(sys.modules); import iommufd_fast; print(*sorted(set(sys.modules) - before))"


def test_nothing_heavy_is_imported():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert "iommufd_fast.queues" in found, "the code above measured something else"
    assert not found & HEAVY
