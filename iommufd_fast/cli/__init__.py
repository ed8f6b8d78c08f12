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

    try:
        cli.main(args=None if args is None else list(args), prog_name="iommufd-fast")
    except SystemExit as done:  # click ends every command so, and has printed what went wrong
        return done.code if isinstance(done.code, int) else int(bool(done.code))
    return 0
