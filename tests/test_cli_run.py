# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast run``: the program reaches the engine, and what cannot be reached is named."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import BUILD, CSRC, compiler, tool
from support import run as start

from iommufd_fast import _elf as program
from iommufd_fast.cli import run as command
from iommufd_fast.cli.root import cli

# Allocates an IOAS by bare numbers, as a program does that knows nothing of us; then asks for a command of the mock's.
SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	uint32_t cmd[3] = { sizeof(cmd), 0, 0 };
	uint64_t mock[8] = { sizeof(mock) };
	int fd = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio0", O_RDWR), rc;

	if (fd < 0)
		return 3;
	if (ioctl(fd, _IO(';', 0x81), cmd))
		return 4;
	rc = ioctl(fd, _IO(';', 0xa0), mock);
	printf("ioas %u, mock %s, ", cmd[2], rc && errno == ENOTTY ? "no" : "yes");
	printf("device %s, arguments", device < 0 ? "no" : "yes");
	for (int i = 1; i < argc; i++)
		printf(" [%s]", argv[i]);
	printf("\n");
	return 42;
}
"""


@cache
def built(*flags: str) -> Path:
    folder = BUILD / "cli-run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "asks.c").write_text(SOURCE)
    binary = folder / f"asks{''.join(flags)}"
    done = start(*compiler().split(), *flags, "-o", binary, folder / "asks.c")
    assert done.returncode == 0, done.stdout
    return binary


def shell(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which exec needs."""
    keep = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", command.MACHINE)}
    return start(sys.executable, "-m", "iommufd_fast", "run", *args, env=keep | env)


def refused(*args: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["run", *map(str, args)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("machine", "mock", "device"), [("intel", "no", "yes"), ("amd", "no", "yes"), ("mock", "yes", "no")]
)
def test_a_foreign_program_finds_the_machine(machine, mock, device):
    done = shell("--machine", machine, "--", built(), "-x", "--machine", "a b")
    assert done.stdout == f"ioas 1, mock {mock}, device {device}, arguments [-x] [--machine] [a b]\n"
    assert done.returncode == 42, "the program's exit status is the command's"


def test_without_dashes_what_follows_the_program_is_the_programs():
    done = shell(built(), "--list", "--help")
    assert done.stdout == "ioas 1, mock no, device yes, arguments [--list] [--help]\n"


def test_the_environment_chooses_and_the_option_overrides():
    assert "mock yes" in shell("--", built(), IOMMUFD_FAST_MACHINE="mock").stdout
    assert "mock no" in shell("--machine=amd", "--", built(), IOMMUFD_FAST_MACHINE="mock").stdout
    done = shell("--", built(), IOMMUFD_FAST_MACHINE="vax")
    assert done.returncode == 2 and "'vax'" in done.stdout


def test_groups():
    code = "import os\ndef can(n):\n  try: return os.open(f'/dev/vfio/devices/vfio{n}', os.O_RDWR)\n"
    code += "  except OSError: return False\nprint(sum(bool(can(n)) for n in range(5)))"
    assert shell("--groups", "2,1", "--", sys.executable, "-c", code).stdout == "3\n"
    assert shell("--", sys.executable, "-c", code, IOMMUFD_FAST_GROUPS="1,1,2").stdout == "4\n"
    for wrong in ("", "0", "2,", "a", "65536", "1;2", ",".join(["1"] * 257)):
        code, output = refused("--groups", wrong, "--", "true")
        assert code == 2 and "--groups" in output, wrong


def test_what_is_preloaded_already_stays():
    here = Path("/ours/lib.so")
    found = command.environment(here, "amd", None, {"LD_PRELOAD": "/a.so:/b.so /ours/lib.so", "X": "1"})
    assert found == {"LD_PRELOAD": "/ours/lib.so /a.so /b.so", "X": "1", "IOMMUFD_FAST_MACHINE": "amd"}
    assert command.environment(here, "intel", None, {})["LD_PRELOAD"] == "/ours/lib.so"


def test_the_list_is_what_the_library_exports():
    text = re.sub(r"/\*.*?\*/", "", (CSRC / "preload" / "exports.map").read_text(), flags=re.S)
    wanted = sorted(re.search(r"global:(.*)local:", text, re.S)[1].replace(";", " ").split())
    code, output = refused("--list")
    assert code == 0 and output.split() == wanted
    assert {"open", "__open_2", "ioctl", "mmap64", "ppoll", "fork", "sigaction"} <= set(wanted)


def test_found_in_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused("--", "no-such-program") == (127, "Error: no-such-program: not found in PATH\n")
    shutil.copy(built(), tmp_path / "asks")
    assert command.find("asks") == tmp_path / "asks"


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [("gone", 127, "no such file"), ("folder", 126, "is a directory"), ("plain", 126, "is not executable")],
)
def test_not_a_program(name, status, why, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("text\n")
    path = tmp_path / name
    assert refused("--", path) == (status, f"Error: {path}: {why}\n")


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static_programs_are_refused(flag):
    path = built(flag)
    code, output = refused("--", path)
    assert code == 126 and "statically linked" in output and "cannot reach it" in output
    done = start(path, env=os.environ | {"LD_PRELOAD": str(command.library())})
    assert done.returncode in (3, 4) or Path("/dev/iommu").exists(), "the shim reaches it after all"


def test_set_uid_programs_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "asks"
    shutil.copy(built(), path)
    path.chmod(0o4755)
    if not path.stat().st_mode & stat.S_ISUID:
        pytest.skip("this file system has no set-uid bit")
    assert not command.gains_privileges(path), "it is the caller's own: nothing is gained"
    monkeypatch.setattr("os.getuid", lambda: path.stat().st_uid + 1)
    code, output = refused("--", path)
    assert code == 126 and "is set-uid" in output and "LD_PRELOAD" in output
    path.chmod(0o2755)
    monkeypatch.setattr("os.getgid", lambda: path.stat().st_gid + 1)
    assert "is set-gid" in command.gains_privileges(path)
    path.chmod(0o755)
    monkeypatch.setattr("os.getxattr", lambda *_: b"cap", raising=False)
    assert command.gains_privileges(path) == "has file capabilities"


def changed(path: Path, *places: tuple[int, bytes]) -> bytes:
    data = bytearray(path.read_bytes())
    for at, what in places:
        data[at : at + len(what)] = what
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda p: changed(p, (18, b"\x01\x7f")), "another machine"),
        (lambda p: p.read_bytes().replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib/ld-musl-x86_64.so.1\0\0\0"), "musl"),
    ],
    ids=["machine", "musl"],
)
def test_foreign_programs_are_refused(data, why, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(data(built()))
    path.chmod(0o755)
    if why == "musl" and b"ld-musl" not in path.read_bytes():
        pytest.skip("not x86-64")
    code, output = refused("--", path)
    assert code == 126 and why in output


def test_scripts_are_judged_by_their_interpreter(tmp_path):
    script = tmp_path / "script"
    script.write_text(f"#!{built()} first\n")
    script.chmod(0o755)
    done = shell("--", script, "second")
    assert done.stdout == f"ioas 1, mock no, device yes, arguments [first] [{script}] [second]\n"
    script.write_text(f"#! {built('-static')}\n")
    code, output = refused("--", script)
    assert code == 126 and "its interpreter" in output and "statically linked" in output
    script.write_text("#!/no/such/interpreter\n")
    assert refused("--", script)[0] == 127
    script.write_text(f"exec {built()} of a shell\n")
    assert "arguments [of] [a] [shell]" in shell("--", script).stdout


def test_cut_short(tmp_path):
    path = tmp_path / "short"
    for length in (0, 3, 4, 19, 30, 60, 100):
        path.write_bytes(built().read_bytes()[:length])
        with pytest.raises(program.NotElf):
            program.look(path)


def test_32_bit_headers_are_read():
    """A program of another word size: header and one program header made by hand."""
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + b"\x02\0\x28\0\x01\0\0\0" + bytes(4) + (52).to_bytes(4, "little")
    header = header.ljust(42, b"\0") + (32).to_bytes(2, "little") + b"\x01\0"
    header = header.ljust(52, b"\0") + (3).to_bytes(4, "little") + (84).to_bytes(4, "little")
    header = header.ljust(68, b"\0") + (6).to_bytes(4, "little")
    found = program.parse(header.ljust(84, b"\0") + b"/ld.1\0")
    assert found == program.Elf(32, 40, "/ld.1")


def test_the_list_agrees_with_nm():
    tool("nm", "binutils")
    done = start("nm", "-D", "--defined-only", "--format=posix", command.library())
    named = sorted(line.split()[0] for line in done.stdout.splitlines() if line.split()[1] in "TW")
    assert program.exported_functions(command.library()) == named


def test_says_what_is_missing(monkeypatch, tmp_path):
    assert refused() == (2, refused()[1]) and "say which program to run" in refused()[1]
    monkeypatch.setattr(command, "__file__", str(tmp_path / "cli" / "run.py"))
    code, output = refused("--list")
    assert code == 1 and "build the package first" in output
    folder = tmp_path / "with blank"
    folder.mkdir()
    (folder / command.LIBRARY).write_bytes(b"")
    monkeypatch.setattr(command, "__file__", str(folder / "cli" / "run.py"))
    code, output = refused("--list")
    assert code == 1 and "blank or a colon" in output
