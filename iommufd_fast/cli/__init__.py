# SPDX-License-Identifier: Apache-2.0
"""The command line. This file imports nothing beyond the standard library, so it can say what is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

INSTALL = 'pip install "iommufd-fast[cli,bench]"'


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Parameters
    ----------
    args : sequence of str, optional
        Words after the command's name; None takes them from ``sys.argv``.
    """
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        print(f"iommufd-fast: {' and '.join(missing)} not installed; run: {INSTALL}", file=sys.stderr)
        return 1
    from iommufd_fast.cli.root import cli

    return cli.main(args=list(args) if args is not None else None, prog_name="iommufd-fast", standalone_mode=False) or 0
