# SPDX-License-Identifier: Apache-2.0
"""``python tests/golden DIR``: golden_check.py beside this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import golden_check

if len(sys.argv) != 2:
    sys.exit(golden_check.__doc__)
sys.exit(golden_check.main(sys.argv[1]))
