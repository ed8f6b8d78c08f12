# SPDX-License-Identifier: Apache-2.0
"""The parts of the guest harness that need no guest: archive, scripts, command line, channel, monitor."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iommufd_fast import vm
from iommufd_fast.vm import channel, cpio, initramfs, machine, process, tools
from iommufd_fast.vm.__main__ import main


def read_archive(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """Name -> mode, content, device; written from the format's description, checks padding and magic."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701" and at % 4 == 0
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name_at, size, name_size = at + 110, fields[6], fields[11]
        name = data[name_at : name_at + name_size]
        assert name.endswith(b"\0") and name.count(b"\0") == 1
        start = name_at + name_size + -(name_at + name_size) % 4
        if name == b"TRAILER!!!\0":
            assert start == len(data)
            return found
        assert not any(data[name_at + name_size : start])
        found[name[:-1].decode()] = (fields[1], data[start : start + size], (fields[9], fields[10]))
        at = start + size + -size % 4


@pytest.mark.parametrize("size", range(9))
def test_an_archive_holds_what_was_put_in(size):
    entries = [
        cpio.folder("d" * (size + 1)),
        cpio.file("d" * (size + 1) + "/file", b"x" * size, 0o755),
        cpio.character_device("console", 5, 1),
    ]
    found = read_archive(cpio.archive(entries))
    assert list(found) == [e.name for e in entries]
    for entry in entries:
        assert found[entry.name] == (entry.mode, entry.content, entry.device)


def test_another_program_reads_it(tmp_path):
    if not shutil.which("busybox"):
        pytest.skip("no busybox, whose cpio reads the archive (Debian: apt install busybox-static)")
    data = cpio.archive([cpio.folder("etc"), cpio.file("etc/motd", b"hello\n", 0o640)])
    command = ["busybox", "cpio", "-idm"]
    subprocess.run(command, cwd=tmp_path, input=data, check=True, capture_output=True, timeout=20)
    made = tmp_path / "etc" / "motd"
    assert made.read_bytes() == b"hello\n" and stat.S_IMODE(made.stat().st_mode) == 0o640


@pytest.mark.parametrize("names", [[""], ["/etc"], ["a", "a"], ["TRAILER!!!"]])
def test_a_bad_name_is_refused(names):
    with pytest.raises(ValueError, match="cannot be the name"):
        cpio.archive([cpio.folder(name) for name in names])


def job(command, tmp_path, **changes) -> initramfs.Job:
    settings = {"env": {}, "cwd": tmp_path, "share": tmp_path, "bind": (), "lifetime": 60} | changes
    return initramfs.Job(command, **settings)


@pytest.mark.parametrize("text", ["plain", "two words", "it's", '"$HOME" `id` \\ *', "a\nb", "ü", ""])
def test_the_job_gets_arguments_environment_and_folder_unchanged(text, tmp_path):
    code = "import json, os, sys; print(json.dumps([sys.argv[1], os.environ['VALUE'], os.getcwd()]))"
    folder = tmp_path / "a folder's"
    folder.mkdir()
    env = {"VALUE": text, "not a name": "left out"}
    made = job([sys.executable, "-c", code, text], tmp_path, cwd=folder, env=env)
    done = subprocess.run(["sh", "-c", initramfs.job_script(made)], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == [text, text, str(folder)], done.stderr


def test_the_scripts_are_shell(tmp_path):
    share = tmp_path / "it's a folder"
    found = read_archive(initramfs.initramfs(b"\x7fELF", job(["true"], tmp_path, share=share, bind=("1234:11e8",))))
    assert found["bin/busybox"][:2] == (stat.S_IFREG | 0o755, b"\x7fELF")
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    for name in ("init", "bind", "job"):
        subprocess.run(["sh", "-n"], input=found[name][1], check=True, timeout=20)
    assert b"bind 0x1234:0x11e8\n" in found["bind"][1]
    assert b"@" not in found["init"][1].replace(str(share).encode(), b"")


def line(tmp_path: Path, **changes) -> list[str]:
    guest = vm.Guest(Path("/boot/bzImage"), **changes)
    sockets = {name: 10 + i for i, name in enumerate(process.SOCKETS)}
    return machine.qemu_command(Path("/q"), guest, initramfs=tmp_path / "i", share=tmp_path / "a,b", sockets=sockets)


def after(command: list[str], option: str) -> list[str]:
    return [command[i + 1] for i, word in enumerate(command) if word == option]


def test_the_command_line_always_emulates(tmp_path):
    command = line(tmp_path)
    assert command[0] == "/q" and after(command, "-accel") == ["tcg,thread=multi"]
    assert not any("kvm" in word for word in command)


def test_the_host_is_shared_for_reading_and_one_folder_for_writing(tmp_path):
    root, share = after(line(tmp_path), "-fsdev")
    assert "path=/," in root and root.endswith(",readonly=on")
    assert f"path={tmp_path}/a,,b," in share and "readonly" not in share


def test_each_socket_is_given_to_qemu(tmp_path):
    command = line(tmp_path)
    for i, name in enumerate(process.SOCKETS):
        assert f"socket,id={name},fd={10 + i}" in after(command, "-chardev")
        assert sum(name in word for word in command) >= 2, "a socket that nothing uses"


def test_options_reach_the_command_line(tmp_path):
    command = line(
        tmp_path, devices=("edu", "nvme,drive=d"), scalable=True, options=("iommu.strict=1",), memory=512, cpus=1,
        extra=("-drive", "id=d"),
    )  # fmt: skip
    devices = after(command, "-device")
    assert "edu" in devices and "nvme,drive=d" in devices and f"{machine.IOMMU},x-scalable-mode=on" in devices
    assert after(command, "-append")[0].split()[-1] == "iommu.strict=1"
    assert after(command, "-m") == ["512"] and after(command, "-smp") == ["1"] and command[-2:] == ["-drive", "id=d"]
    assert not any("intel-iommu" in word for word in line(tmp_path, iommu=""))


@pytest.fixture
def ends():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


def soon() -> float:
    return time.monotonic() + 5


def test_messages_come_whole_and_in_order(ends):
    ours, guest = ends
    lines = channel.Lines(ours)
    guest.sendall(b'{"booted": true}\nnoise\n{"call": "a"')
    assert lines.receive(soon()) == {"booted": True}
    with pytest.raises(TimeoutError):
        lines.receive(time.monotonic() + 0.05)
    guest.sendall(b', "data": 1}\n[1]\n{"exit": 3}\n{"ex')
    guest.close()
    assert [lines.receive(soon()) for _ in range(3)] == [{"call": "a", "data": 1}, {"exit": 3}, None]


def test_a_call_is_answered(ends, monkeypatch):
    ours, guest = ends
    monkeypatch.setattr(channel, "PORT", f"/dev/fd/{guest.fileno()}")
    monkeypatch.setattr(os, "open", lambda *_: os.dup(guest.fileno()))
    got = []

    def host() -> None:
        lines = channel.Lines(ours)
        for answer in ({"return": [1, 2]}, {"error": "nobody"}):
            got.append(lines.receive(soon()))
            lines.send(answer)

    thread = threading.Thread(target=host)
    thread.start()
    assert channel.call("ready", {"at": 5}) == [1, 2]
    with pytest.raises(RuntimeError, match="nobody"):
        channel.call("more")
    thread.join()
    assert got == [{"call": "ready", "data": {"at": 5}}, {"call": "more", "data": None}]


def test_outside_of_a_guest_there_is_nobody_to_call():
    with pytest.raises(FileNotFoundError):
        vm.call("ready")


def test_the_monitor_skips_events_and_passes_errors_on(ends):
    ours, qemu = ends
    asked = []

    def play() -> None:
        file = qemu.makefile("rwb")
        file.write(b'{"QMP": {}}\n')
        for answer in (
            b'{"return": {}}\n',
            b'{"event": "RESUME"}\n{"return": {"running": true}}\n',
            b'{"error": {"class": "GenericError", "desc": "no such file"}}\n',
        ):
            file.flush()
            asked.append(json.loads(file.readline()))
            file.write(answer)
        file.close()
        qemu.close()

    thread = threading.Thread(target=play)
    thread.start()
    monitor = vm.Monitor(ours)
    assert monitor.execute("query-status") == {"running": True}
    with pytest.raises(vm.MonitorError, match="pmemsave: no such file"):
        monitor.save_memory(Path("/x"), 4096, 8192)
    thread.join()
    with pytest.raises((vm.MonitorError, BrokenPipeError)):
        monitor.execute("query-status")
    assert [a["execute"] for a in asked] == ["qmp_capabilities", "query-status", "pmemsave"]
    assert asked[2]["arguments"] == {"val": 4096, "size": 8192, "filename": "/x"}


def test_the_tail_keeps_the_end_and_passes_all_on():
    seen = []
    tail = process.Tail(8, seen.append)
    for part in (b"one\r\n", b"two\r\n", b"\r\nthree"):
        tail(part)
    assert tail.data == b"o\r\n\r\nthree"[-8:] and tail.text == "\n\nthree"
    assert b"".join(seen) == b"one\r\ntwo\r\n\r\nthree" and tail.lines(1) == "  | three"


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tools.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IOF_QEMU", raising=False)
    monkeypatch.delenv("IOF_BUSYBOX", raising=False)
    with pytest.raises(vm.Missing, match="apt install --no-install-recommends qemu-system-x86"):
        tools.find_qemu()
    with pytest.raises(vm.Missing, match="apt install busybox-static"):
        tools.find_busybox()
    monkeypatch.setenv("IOF_BUSYBOX", os.path.realpath(sys.executable))
    with pytest.raises(vm.Missing, match=r"needs .*ld.* so cannot be"):
        tools.find_busybox()
    monkeypatch.setattr(tools.platform, "machine", lambda: "aarch64")
    with pytest.raises(vm.Missing, match="aarch64"):
        tools.find_qemu()


def test_a_file_that_is_no_kernel_is_refused(tmp_path):
    with pytest.raises(vm.Missing, match="cannot be read"):
        tools.check_kernel(tmp_path / "none")
    (tmp_path / "text").write_text("no kernel")
    with pytest.raises(vm.Missing, match="no x86 kernel image"):
        tools.check_kernel(tmp_path / "text")
    (tmp_path / "image").write_bytes(bytes(0x202) + b"HdrS" + bytes(64))
    assert tools.check_kernel(tmp_path / "image")


def test_the_command_says_why_it_cannot(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["vm", str(tmp_path / "none"), "--", "true"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main() == 125
    assert "install" in capsys.readouterr().err or tools.platform.machine() != "x86_64"
