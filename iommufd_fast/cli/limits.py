# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast limits``."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import click

from iommufd_fast.limits import Limits, limits

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Size(click.ParamType):
    """4096, 64K, 1.5G …"""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", str(value), re.IGNORECASE)
        if not match:
            self.fail(f"{value!r} is not a size: give a number of bytes, or 64K, 512M, 8G", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


def _amount(n: int | None) -> str:
    if n is None:
        return "unlimited"
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        size = 1 << {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[unit]
        if n >= size and n % size == 0:
            return f"{n // size} {unit}"
    return f"{n} bytes"


def _remedies(now: Limits, need: int) -> list[str]:
    short = now.shortage(need)
    if not short:
        return [f"To hold {_amount(need)} more: the limit is enough."]
    want = now.locked + need
    kib = -(-want // 1024)
    lines = [f"To hold {_amount(need)} more, {_amount(want)} must be allowed; {short} bytes are missing. One of:"]
    if now.hard is None or want <= now.hard:
        lines.append(f"  ulimit -l {kib}                      in the shell that starts the program")
    lines += [
        f"  prlimit --pid PID --memlock={want}:{want}   for a program that runs (as root)",
        f"  LimitMEMLOCK={want}                  in the unit of a systemd service",
        f"  @group - memlock {kib}               in /etc/security/limits.d/, for logins",
        f"  --ulimit memlock={want}:{want}       for docker or podman",
    ]
    return lines


def _rows(now: Limits) -> list[tuple[str, str]]:
    pages = ", ".join(f"{n} of {_amount(size)}" for size, n in now.hugepages.items()) or "none configured"
    return [
        ("RLIMIT_MEMLOCK", f"{_amount(now.soft)} (up to {_amount(now.hard)} without root)"),
        ("applies here", "no: this process has CAP_IPC_LOCK" if now.exempt else "yes"),
        ("locked (mlock)", _amount(now.locked)),
        ("pinned (VmPin)", _amount(now.pinned)),
        ("policy io_uring", now.io_uring),
        ("free huge pages", pages),
    ]


@click.command("limits", short_help="Show how much memory may be pinned here, and how to raise that.")
@click.argument("need", type=Size(), required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(need: int | None, as_json: bool) -> None:
    """Show how much memory may be locked or pinned here, and what is.

    NEED is how much you want to hold: 64M, 8G. Then it says whether the limit is enough, and how to raise it.
    """
    now = limits()
    if as_json:
        more = {} if need is None else {"need": need, "shortage": now.shortage(need)}
        click.echo(json.dumps(asdict(now) | more, indent=2))
        return
    for name, value in _rows(now):
        click.echo(f"{name:17} {value}")
    for line in [] if need is None else ["", *_remedies(now, need)]:
        click.echo(line)
