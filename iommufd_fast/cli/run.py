# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast run``."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from pathlib import Path
from typing import NoReturn

import click

from iommufd_fast.cli import program

MACHINES = ("intel", "amd", "arm", "riscv", "mock")
MACHINE, GROUPS = "IOMMUFD_FAST_MACHINE", "IOMMUFD_FAST_GROUPS"
LIBRARY = "libiommufd_fast_preload.so"
MOST_DEVICES, MOST_GROUPS = 65535, 256  # of csrc/preload/start.c
SCRIPTS_DEEP = 4  # a script's interpreter may be a script; the kernel stops there


class Refused(click.ClickException):
    """The program cannot be run so. The exit statuses are those of env(1), nohup(1) and shells."""

    exit_code = 126


class NotFound(Refused):
    exit_code = 127


def library() -> Path:
    """The library to preload, of this package."""
    path = Path(__file__).resolve().parents[1] / LIBRARY
    if not path.exists():
        raise click.ClickException(f"{path} does not exist: build the package first (make build, or pip install .)")
    if set(" :") & set(str(path)):
        raise click.ClickException(
            f"{path} has a blank or a colon in its path, which LD_PRELOAD cannot name: install the package elsewhere"
        )
    return path


def find(name: str) -> Path:
    """The program as a shell would find it."""
    found = shutil.which(name)
    if found:
        return Path(found)
    path = Path(name)
    if "/" not in name:
        raise NotFound(f"{name}: not found in PATH")
    if not path.exists():
        raise NotFound(f"{name}: no such file")
    if path.is_dir():
        raise Refused(f"{name}: is a directory")
    raise Refused(f"{name}: is not executable")


def gains_privileges(path: Path) -> str:
    """Why the dynamic linker would leave LD_PRELOAD alone; empty when it would not."""
    status = path.stat()
    if status.st_mode & stat.S_ISUID and status.st_uid != os.getuid():
        return "is set-uid"
    if status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP and status.st_gid != os.getgid():
        return "is set-gid"
    if os.getuid() == 0:
        return ""  # root's programs gain nothing by capabilities
    try:
        os.getxattr(path, "security.capability")
    except OSError:
        return ""
    return "has file capabilities"


def script_interpreter(path: Path) -> Path | None:
    """The program in a script's first line."""
    with open(path, "rb") as file:
        line = file.read(256).split(b"\n")[0]
    words = line[2:].split(maxsplit=1) if line.startswith(b"#!") else []
    return Path(os.fsdecode(words[0])) if words else None


def check(path: Path, ours: tuple[int, int]) -> None:
    """Refuse what the shim cannot reach, with the reason: it would run against the system, or not at all."""
    shown = str(path)
    for _ in range(SCRIPTS_DEEP):
        interpreter = script_interpreter(path)
        if interpreter is None:
            break
        path, shown = interpreter, f"{shown}: its interpreter {interpreter}"
        if not path.exists():
            raise NotFound(f"{shown}: no such file")
    why = gains_privileges(path)
    if why:
        raise Refused(f"{shown}: {why}, so the dynamic linker ignores LD_PRELOAD; the shim cannot reach it")
    try:
        elf = program.look(path)
    except program.NotElf:
        return  # a shell script without a first line, or a format of which the kernel knows more
    if elf.kind != ours:
        raise Refused(f"{shown}: is for another machine or word size than this library; the shim cannot reach it")
    if elf.interpreter is None:
        raise Refused(f"{shown}: is statically linked, so nothing can be preloaded; the shim cannot reach it")
    if "/ld-musl" in elf.interpreter:
        raise Refused(f"{shown}: is linked with musl, and this library with glibc; the shim cannot reach it")


def environment(preload: Path, machine: str, groups: str | None, before: dict[str, str]) -> dict[str, str]:
    """The program's: ours goes in front of what is preloaded already."""
    others = [p for p in before.get("LD_PRELOAD", "").replace(":", " ").split() if p != str(preload)]
    chosen = {GROUPS: groups} if groups is not None else {}
    return {**before, "LD_PRELOAD": " ".join([str(preload), *others]), MACHINE: machine, **chosen}


def groups_value(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """What the library reads, which stops silently at what it does not understand."""
    if value is None:
        return None
    sizes = value.split(",")
    if not all(re.fullmatch("[1-9][0-9]{0,4}", size) and int(size) <= MOST_DEVICES for size in sizes):
        raise click.BadParameter(f"{value!r} is no list of numbers from 1 to {MOST_DEVICES}, such as 2,1")
    if len(sizes) > MOST_GROUPS:
        raise click.BadParameter(f"{len(sizes)} groups are more than {MOST_GROUPS}")
    return value


def execute(path: Path, words: tuple[str, ...], env: dict[str, str]) -> NoReturn:
    try:
        os.execve(path, words, env)
    except OSError as e:
        if e.errno != errno.ENOEXEC:
            raise Refused(f"{path}: {os.strerror(e.errno or 0)}") from e
    os.execve("/bin/sh", ["sh", str(path), *words[1:]], env)  # as execvp(3) and every shell do


@click.command(
    "run",
    short_help="Run a program with /dev/iommu served by an engine in its own process.",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--machine",
    type=click.Choice(MACHINES),
    default="intel",
    show_default=True,
    envvar=MACHINE,
    show_envvar=True,
    help="The IOMMU and devices that the program finds.",
)
@click.option(
    "--groups",
    metavar="N,N,...",
    callback=groups_value,
    envvar=GROUPS,
    show_envvar=True,
    help="Devices of each group (all but mock); one of one when not given.",
)
@click.option("--list", "as_list", is_flag=True, help="Print the functions that are interposed, one a line.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGS]...")
def command(machine: str, groups: str | None, as_list: bool, words: tuple[str, ...]) -> None:
    """Run PROGRAM so that its use of /dev/iommu, and of /dev/vfio/devices/vfioN, reaches an engine in its own process.

    \b
    --machine intel   a VT-d IOMMU; with --groups 2,1 it has three devices, in two groups
    --machine amd     the same with an AMD IOMMU; arm: an SMMUv3; riscv: a RISC-V IOMMU
    --machine mock    Linux's selftest device, with its commands on /dev/iommu

    The program is dynamically linked, with glibc: a static, set-uid or foreign one is refused. Its exit status is the
    command's; 127 means that it was not found, 126 that it cannot be run.
    """
    path = library()
    if as_list:
        click.echo("\n".join(program.exported_functions(path)))
        return
    if not words:
        raise click.UsageError("say which program to run: iommufd-fast run -- PROGRAM [ARGS]...")
    found = find(words[0])
    try:
        check(found, program.look(path).kind)
    except OSError as e:
        raise Refused(f"{words[0]}: {e.strerror}") from e
    execute(found, words, environment(path, machine, groups, dict(os.environ)))
