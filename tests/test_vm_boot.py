# SPDX-License-Identifier: Apache-2.0
"""The guest harness with a kernel: exit status, output, files, calls, deadlines, and a guest that dies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from iommufd_fast import vm
from iommufd_fast.vm import tools


@pytest.fixture(scope="module")
def guest(shared_dir: Path) -> vm.Guest:
    kernel = shared_dir / "vm" / "bzImage"
    if not kernel.exists():
        pytest.skip(f"no kernel to boot: {kernel} is not there")
    try:
        tools.find_qemu(), tools.find_busybox()
    except vm.Missing as e:
        pytest.skip(str(e))
    return vm.Guest(kernel)


SAVES = """
import pathlib, sys
from iommufd_fast import vm
where = pathlib.Path(sys.argv[1])
memory = bytearray(b"here is the guest's memory: " + bytes(range(1, 255))) * 2
print("asked:", vm.call("ready", {"size": len(memory)}))
(where / "made").write_text("by the guest")
pathlib.Path("/etc/made").write_text("in the overlay only")
sys.exit(7)
"""


def test_one_run(guest, tmp_path):
    """Status, output, a file that comes back, one that does not, and a dump of memory while the guest waits."""
    calls = []

    def answer(running: vm.Running, name: str, data):
        calls.append((name, data))
        running.monitor.save_memory(running.share / "dump", 0, 1 << 20)
        return running.monitor.execute("query-status")["status"]

    done = vm.run(guest, [sys.executable, "-c", SAVES, tmp_path], share=tmp_path, on_call=answer, timeout=120)
    assert (done.code, done.output) == (7, b"asked: running\n"), done
    assert calls == [("ready", {"size": 564})]
    assert (tmp_path / "made").read_text() == "by the guest" and (tmp_path / "dump").stat().st_size == 1 << 20
    assert not Path("/etc/made").exists()


def test_a_deadline_ends_it_and_shows_what_was_said(guest):
    with pytest.raises(vm.GuestError, match=r"still running after 30 s[\s\S]*\| half way") as late:
        vm.run(guest, ["sh", "-c", "echo half way; sleep 100"], timeout=30)
    assert "the last lines of its console" in str(late.value)


def test_a_panic_is_told_from_an_end(guest):
    with pytest.raises(vm.GuestError, match=r"ended before its command did[\s\S]*Kernel panic"):
        vm.run(guest, ["sh", "-c", "echo c > /proc/sysrq-trigger"], timeout=60)


def test_a_device_that_is_not_there(guest):
    with pytest.raises(vm.GuestError, match="no PCI device 0x1af4:0x9999"):
        vm.run(vm.Guest(guest.kernel, devices=(), bind=("1af4:9999",)), ["true"], timeout=60)
    with pytest.raises(vm.GuestError, match=r"QEMU said: .*no-such-device"):
        vm.run(vm.Guest(guest.kernel, devices=("no-such-device",)), ["true"], timeout=60)
