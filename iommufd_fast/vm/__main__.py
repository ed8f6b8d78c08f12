# SPDX-License-Identifier: Apache-2.0
"""``python -m iommufd_fast.vm KERNEL -- COMMAND``: a command in a guest, for developers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import EDU, Guest, GuestError, Missing, run
from .machine import KERNEL_OPTIONS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m iommufd_fast.vm",
        description="Boot KERNEL in QEMU and run COMMAND there, over this machine's own files; its exit status is "
        "ours. It may write anywhere; only what it writes below --share is seen here.",
    )
    parser.add_argument("kernel", type=Path, metavar="KERNEL", help="a bzImage")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the command and its arguments, after --")
    parser.add_argument("--device", action="append", metavar="DEVICE", help="a QEMU device, may be repeated  [edu]")
    parser.add_argument("--bind", action="append", metavar="V:D", help=f"PCI devices that go to vfio-pci  [{EDU}]")
    parser.add_argument(
        "--option", action="append", metavar="OPTION", help=f"for the kernel  [{' '.join(KERNEL_OPTIONS)}]"
    )
    parser.add_argument("--scalable", action="store_true", help="VT-d in scalable mode")
    parser.add_argument("--share", type=Path, metavar="DIR", help="a folder that the guest may change")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for all  [600]")
    parser.add_argument("--console", action="store_true", help="show what the kernel says, too")
    return parser


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main() -> int:
    given = _parser().parse_args()
    devices = ("edu",) if given.device is None else tuple(given.device)
    guest = Guest(
        given.kernel.resolve(),
        devices=devices,
        bind=((EDU,) if "edu" in devices else ()) if given.bind is None else tuple(given.bind),
        options=KERNEL_OPTIONS + tuple(given.option or ()),
        scalable=given.scalable,
    )
    console = _write if given.console else None
    try:
        done = run(guest, given.command, share=given.share, timeout=given.timeout, on_output=_write, on_console=console)
    except (GuestError, Missing) as e:
        print(e, file=sys.stderr)
        return 125
    return done.code


if __name__ == "__main__":
    sys.exit(main())
