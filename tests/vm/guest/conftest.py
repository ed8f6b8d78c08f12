# SPDX-License-Identifier: Apache-2.0
"""Tests that run inside a guest (``make test-vm KERNEL=PATH``), on its real kernel; not collected elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Set by tests/vm/__main__.py, in a guest only.
collect_ignore_glob = [] if os.environ.get("IOF_IN_GUEST") else ["test_*.py"]
