# SPDX-License-Identifier: Apache-2.0
"""Doctor on machines made of files: what it sees, and the first thing that it would fix."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from iommufd_fast.cli.root import cli
from iommufd_fast.doctor import facts, text
from iommufd_fast.doctor.findings import findings
from iommufd_fast.doctor.host import Host

NIC, SOUND, BRIDGE = "0000:01:00.0", "0000:01:00.1", "0000:00:01.0"


class Made:
    """A machine that is ready; a test breaks one thing."""

    def __init__(self, root: Path) -> None:
        self.root, self.forbidden = root, set()
        self.release("6.12.1")
        self.config(IOMMUFD="m", VFIO="m", VFIO_DEVICE_CDEV="y", INTEL_IOMMU="y")
        self.write("/proc/cmdline", "root=UUID=0123-secret ro intel_iommu=on iommu.strict=1 quiet")
        self.write("/proc/cpuinfo", "model name\t: A CPU\nflags\t\t: fpu sse")
        self.write("/proc/self/status", "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000")
        self.limit("unlimited")
        for module in ("iommufd", "vfio", "vfio_pci"):
            self.folder(f"/sys/module/{module}")
        self.folder("/sys/class/iommu/dmar0/devices/one")
        self.write("/sys/class/iommu/dmar0/intel-iommu/ecap", "f00f4e")
        self.write("/sys/firmware/acpi/tables/DMAR", "")
        self.write("/dev/kmsg", "6,1,0,-;DMAR: Host address width 39\n6,2,0,-;usb: nothing\n6,3,0,-;iommu: Default\n")
        for name in ("/dev/iommu", "/dev/vfio/vfio", "/dev/vfio/devices/vfio0"):
            self.write(name, "")
        self.device(BRIDGE, "8086", "1901", "060400", "pcieport", 1)
        self.device(NIC, "8086", "1521", "020000", "vfio-pci", 1, "vfio0")

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def folder(self, name: str) -> None:
        (self.root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def remove(self, *names: str) -> None:
        for name in names:
            path = self.root / name.lstrip("/")
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def release(self, text: str) -> None:
        self.write("/proc/sys/kernel/osrelease", f"{text}\n")

    def config(self, **options: str) -> None:
        lines = ["# CONFIG_VFIO_NOIOMMU is not set", *(f"CONFIG_{name}={value}" for name, value in options.items())]
        self.write("/proc/config.gz", gzip.compress("\n".join(lines).encode()))

    def limit(self, soft: str) -> None:
        self.write("/proc/self/limits", f"Limit  Soft Hard Units\nMax locked memory         {soft}   unlimited   bytes")

    def device(self, address, vendor, device, kind, driver, group, node=None) -> None:
        folder = f"/sys/bus/pci/devices/{address}"
        for name, value in {"vendor": vendor, "device": device, "class": kind}.items():
            self.write(f"{folder}/{name}", f"0x{value}\n")
        links = {"driver": driver and f"../drivers/{driver}", "iommu_group": group and f"../iommu_groups/{group}"}
        for name, target in links.items():
            if target:
                os.symlink(target, self.root / folder.lstrip("/") / name)
        if node:
            self.folder(f"{folder}/vfio-dev/{node}")
        if group:
            self.folder(f"/sys/kernel/iommu_groups/{group}/devices/{address}")
            self.write(f"/sys/kernel/iommu_groups/{group}/type", "DMA-FQ\n")

    def forbid(self, name: str) -> None:
        self.forbidden.add(self.root / name.lstrip("/"))

    def known(self) -> dict:
        made = facts.collect(Host(self.root, lambda path, _: path not in self.forbidden))
        return json.loads(json.dumps(made))

    def found(self) -> list:
        return findings(self.known())


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


def test_a_machine_that_is_ready_has_nothing_to_fix(made):
    assert made.found() == []


def test_what_is_seen(made):
    known = made.known()
    assert known["kernel"]["release"] == "6.12.1" and known["kernel"]["config"] == "/proc/config.gz"
    assert known["kernel"]["boot_options"] == ["intel_iommu=on", "iommu.strict=1"]
    assert known["kernel"]["options"]["IOMMUFD"] == "m" and known["kernel"]["options"]["VFIO_NOIOMMU"] == "n"
    assert known["modules"] == {
        "iommufd": "loaded",
        "vfio": "loaded",
        "vfio_pci": "loaded",
        "vfio_iommu_type1": "absent",
    }
    assert known["iommu"]["units"] == {"dmar0": {"devices": 1, "intel-iommu/ecap": "f00f4e"}}
    assert known["iommu"]["log"] == ["DMAR: Host address width 39", "iommu: Default"]
    assert known["limits"] == {"uid": 1000, "memlock": [None, None], "capabilities": []}
    assert known["groups"] == [{"number": "1", "type": "DMA-FQ", "devices": [BRIDGE, NIC]}]
    nic = next(d for d in known["devices"] if d["address"] == NIC)
    assert nic == {
        "address": NIC, "id": "8086:1521", "class": "0200", "driver": "vfio-pci", "group": "1",
        "node": "/dev/vfio/devices/vfio0",
    }  # fmt: skip


def test_an_empty_machine_is_no_error(tmp_path):
    known = facts.collect(Host(tmp_path))
    assert known["kernel"]["release"] == "unknown" and known["limits"]["memlock"] is None
    assert findings(known)[0].title == "there is no /dev/iommu"
    assert "not readable" in text.report(known, findings(known))


def test_a_configuration_may_lie_in_boot(made):
    made.remove("/proc/config.gz")
    assert made.known()["kernel"]["options"]["IOMMUFD"] is None
    made.write("/boot/config-6.12.1", "CONFIG_IOMMUFD=y\n")
    assert made.known()["kernel"]["options"]["IOMMUFD"] == "y"
    made.remove("/boot/config-6.12.1")
    made.write("/proc/config.gz", b"not gzip")
    assert made.known()["kernel"]["config"] is None


def old(made: Made) -> None:
    made.release("5.15.0-91-generic")
    made.remove("/dev/iommu")


def without(made: Made) -> None:
    made.config(VFIO="m")
    made.remove("/dev/iommu")


def not_loaded(made: Made) -> None:
    made.remove("/dev/iommu", "/sys/module/iommufd")


def contained(made: Made) -> None:
    made.remove("/dev/iommu")
    made.write("/run/.containerenv", "")


def no_units(made: Made) -> None:
    made.remove("/sys/class/iommu", "/sys/kernel/iommu_groups")


def turned_off(made: Made) -> None:
    no_units(made)
    made.write("/proc/cmdline", "intel_iommu=off")


def no_table(made: Made) -> None:
    no_units(made)
    made.remove("/sys/firmware")


def guest(made: Made) -> None:
    no_table(made)
    made.write("/proc/cpuinfo", "flags\t\t: fpu hypervisor sse")


def no_cdev(made: Made) -> None:
    made.config(IOMMUFD="y", VFIO="y")


def no_vfio_pci(made: Made) -> None:
    made.remove("/sys/module/vfio_pci", f"/sys/bus/pci/devices/{NIC}")


def other_driver(made: Made) -> None:
    made.remove(f"/sys/bus/pci/devices/{NIC}")
    made.device(NIC, "8086", "1521", "020000", "igb", 1)


def nothing_able(made: Made) -> None:
    other_driver(made)
    made.device(SOUND, "8086", "1522", "040300", "snd", 1)


def company(made: Made) -> None:
    made.device(SOUND, "8086", "1522", "040300", "snd", 1)


BROKEN = {
    "old kernel": (old, "has no iommufd", "newer kernel"),
    "built without": (without, "built without iommufd", "CONFIG_IOMMUFD"),
    "not loaded": (not_loaded, "iommufd is not loaded", "modprobe iommufd"),
    "container": (contained, "not in this container", "--device /dev/iommu"),
    "not ours": (lambda m: m.forbid("/dev/iommu"), "/dev/iommu may not be opened", 'KERNEL=="iommu"'),
    "no IOMMU in use": (no_units, "not in use", "intel_iommu=on"),
    "turned off": (turned_off, "turned off", "Remove intel_iommu=off"),
    "no table": (no_table, "no IOMMU was found", "firmware"),
    "guest": (guest, "virtual machine has no IOMMU", "intel-iommu"),
    "no cdev": (no_cdev, "VFIO has no device files", "CONFIG_VFIO_DEVICE_CDEV"),
    "no vfio-pci": (no_vfio_pci, "vfio-pci is not loaded", "modprobe vfio-pci"),
    "other driver": (other_driver, "no device belongs to vfio-pci", f"{NIC}/driver_override"),
    "nothing able": (nothing_able, "no device could go to vfio-pci", "slot of its own"),
    "company": (company, "shares group 1", f"Give {SOUND} to vfio-pci"),
    "device not ours": (
        lambda m: m.forbid("/dev/vfio/devices/vfio0"), "/dev/vfio/devices/vfio0 may not", 'KERNEL=="vfio0"'
    ),
    "little memory": (lambda m: m.limit("8388608"), "only 8192 KiB", "ulimit -l"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_first_thing_to_fix(made, name):
    broken, title, step = BROKEN[name]
    broken(made)
    first = made.found()[0]
    assert title in first.title and any(step in line for line in first.fix), first
    assert first.stops == (name != "little memory")


def test_one_cause_is_reported_once(made):
    old(made)
    assert [f.title for f in made.found()] == ["Linux 5.15.0-91-generic has no iommufd"]
    made.limit("65536")
    assert len(made.found()) == 2


def test_who_may_lock_memory_needs_no_limit(made):
    made.limit("65536")
    made.write("/proc/self/status", f"Uid:\t0\t0\t0\t0\nCapEff:\t{1 << 14:016x}")
    assert made.found() == [] and made.known()["limits"]["capabilities"] == ["CAP_IPC_LOCK"]


def test_a_device_in_use_is_named_as_such(made):
    other_driver(made)
    (found,) = made.found()
    assert "igb loses it" in found.why and f"/sys/bus/pci/devices/{NIC}/driver/unbind" in found.fix[0]


def test_the_report_holds_everything_but_secrets(made):
    company(made)
    said = text.report(made.known(), made.found())
    for part in ("6.12.1", "dmar0", NIC, "group 1", "1 (DMA-FQ)", "DMAR: Host address width 39", "1. ", "-> Give"):
        assert part in said, part
    assert "secret" not in said and str(made.root) not in said
    assert max(map(len, said.splitlines())) < 200


def call(made: Made, *words: str):
    return CliRunner().invoke(cli, ["doctor", "--root", str(made.root), *words])


def test_the_command(made):
    assert call(made).exit_code == 0 and "Nothing to fix" in call(made).output
    made.limit("65536")
    assert call(made).exit_code == 0 and "only 64 KiB" in call(made).output, "that stops nothing"
    company(made)
    done = call(made)
    assert done.exit_code == 3 and "1. 0000:01:00.0 shares group 1" in done.output
    assert "to fix, the first thing first" in call(made, "--report").output
    document = json.loads(call(made, "--json").output)
    assert document["kernel"]["release"] == "6.12.1" and document["findings"][0]["stops"] is True


def test_it_runs_on_this_machine():
    done = CliRunner().invoke(cli, ["doctor", "--report"])
    assert done.exit_code in (0, 3) and "iommufd-fast doctor --report" in done.output, done.output
