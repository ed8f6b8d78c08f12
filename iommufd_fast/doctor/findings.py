# SPDX-License-Identifier: Apache-2.0
"""What the facts mean: what stands in the way of DMA through /dev/iommu, the first thing to fix first.

Each check below is one condition, in the order in which they build on each other; the later ones are not asked where an
earlier one already says why (a missing /dev/iommu is no news on a kernel without iommufd).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .devices import candidates, in_the_way, ready
from .facts import TABLES

FIRST_RELEASE, CDEV_RELEASE = (6, 2), (6, 6)
SMALL_LIMIT = 64 << 20  # bytes of locked memory below which the first real buffer fails

Facts = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something to fix.

    Attributes
    ----------
    title : str
        What is wrong.
    why : str
        How it is known, and what it means.
    fix : tuple of str
        What to do: sentences and commands.
    stops : bool
        Whether nothing works before it is fixed.
    """

    title: str
    why: str
    fix: tuple[str, ...]
    stops: bool = True

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"fix": list(self.fix)}


def release_of(facts: Facts) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", facts["kernel"]["release"])
    return (int(match[1]), int(match[2])) if match else None


def node(facts: Facts, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(n for n in facts["nodes"] if n["path"] == name)
    return found


def _old_kernel(facts: Facts) -> Finding | None:
    release = release_of(facts)
    if node(facts, "/dev/iommu")["exists"] or release is None or release >= FIRST_RELEASE:
        return None
    return Finding(
        f"Linux {facts['kernel']['release']} has no iommufd",
        "iommufd came with Linux 6.2, devices that can be opened without a group with 6.6.",
        ("Boot a newer kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV.",),
    )


def _built_without(facts: Facts) -> Finding | None:
    if node(facts, "/dev/iommu")["exists"] or facts["kernel"]["options"]["IOMMUFD"] != "n":
        return None
    return Finding(
        "the kernel is built without iommufd",
        f"CONFIG_IOMMUFD is not set in {facts['kernel']['config']}.",
        ("Boot a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV; not every distribution builds them.",),
    )


def _no_iommufd(facts: Facts) -> Finding | None:
    option = facts["kernel"]["options"]["IOMMUFD"]
    if node(facts, "/dev/iommu")["exists"]:
        return None
    state = facts["modules"]["iommufd"]
    if state == "available" or (option == "m" and state != "loaded"):
        return Finding(
            "iommufd is not loaded", "It is a module and /dev/iommu is not there.", ("sudo modprobe iommufd",)
        )
    if facts["machine"]["container"]:
        fix = ("Start the container with --device /dev/iommu --device /dev/vfio, and --ulimit memlock=-1.",)
        return Finding("/dev/iommu is not in this container", "The host may well have it.", fix)
    return Finding(
        "there is no /dev/iommu",
        "Whether this kernel has iommufd is not known: its configuration cannot be read."
        if option is None
        else "The kernel has iommufd, but nothing made the device node.",
        ("sudo modprobe iommufd", "Else boot a kernel with CONFIG_IOMMUFD."),
    )


def _no_iommu(facts: Facts) -> Finding | None:
    iommu, options = facts["iommu"], facts["kernel"]["boot_options"]
    if iommu["units"] or facts["groups"]:
        return None
    off = [word for word in options if word in ("intel_iommu=off", "amd_iommu=off", "iommu=off")]
    if off:
        fix: tuple[str, ...] = (f"Remove {' '.join(off)} from the kernel's command line and reboot.",)
        return Finding("the IOMMU was turned off", "The kernel's command line says so.", fix)
    if iommu["firmware"]:
        kinds = " and ".join(TABLES[n] for n in iommu["firmware"])
        word = "intel_iommu=on" if "DMAR" in iommu["firmware"] else "iommu=on"
        fix = (f"Add {word} to the kernel's command line and reboot.",)
        return Finding("the IOMMU is not in use", f"The firmware describes {kinds}, but the kernel drives none.", fix)
    if facts["machine"]["virtual_machine"]:
        return Finding(
            "this virtual machine has no IOMMU",
            "Neither the kernel nor the firmware's tables show one.",
            ("Give it one: QEMU -device intel-iommu,intremap=on,caching-mode=on on q35, or -device virtio-iommu-pci.",),
        )
    return Finding(
        "no IOMMU was found",
        "Neither the kernel nor the firmware's tables show one.",
        ("Turn on VT-d, AMD-Vi or the SMMU in the firmware's setup; some machines call it virtualisation for I/O.",),
    )


def _may_not(facts: Facts, path: str) -> Finding | None:
    found = node(facts, path)
    if not found["exists"] or found["usable"]:
        return None
    name = path.removeprefix("/dev/")
    kernel_name = name.rpartition("/")[2]
    match = f'SUBSYSTEM=="vfio-dev", KERNEL=="{kernel_name}"' if "/" in name else f'KERNEL=="{name}"'
    return Finding(
        f"{path} may not be opened",
        f"It is {found['mode']}, owner {found['owner']}; this process has user {facts['limits']['uid']}.",
        (f'As a udev rule: {match}, GROUP="vfio", MODE="0660" (with your user in that group), or run as root.',),
    )


def _iommu_node(facts: Facts) -> Finding | None:
    return _may_not(facts, "/dev/iommu")


def _no_cdev(facts: Facts) -> Finding | None:
    option, release = facts["kernel"]["options"]["VFIO_DEVICE_CDEV"], release_of(facts)
    if option == "n":
        return Finding(
            "VFIO has no device files",
            f"CONFIG_VFIO_DEVICE_CDEV is not set in {facts['kernel']['config']}: no device can be bound to an iommufd.",
            ("Boot a kernel with CONFIG_VFIO_DEVICE_CDEV (6.6 or newer).",),
        )
    if option is None and release is not None and release < CDEV_RELEASE:
        return Finding("VFIO has no device files", "They came with Linux 6.6.", ("Boot a newer kernel.",))
    return None


def _no_driver(facts: Facts) -> Finding | None:
    if ready(facts) or facts["modules"]["vfio_pci"] in ("loaded", "builtin"):
        return None
    return Finding("vfio-pci is not loaded", "No driver hands devices to user space.", ("sudo modprobe vfio-pci",))


def _no_device(facts: Facts) -> Finding | None:
    if ready(facts):
        return None
    able = candidates(facts)
    if not able:
        return Finding(
            "no device could go to vfio-pci",
            "Every PCI device has no IOMMU group, is a bridge, or shares its group with a device in use.",
            ("Add a device, or move it to a slot of its own.",),
        )
    best = able[0]["address"]
    lose = "" if able[0]["driver"] is None else f" ({able[0]['driver']} loses it: be sure that nothing needs it)"
    folder = f"/sys/bus/pci/devices/{best}"
    return Finding(
        "no device belongs to vfio-pci",
        f"{len(able)} could; for instance {best}, {able[0]['id']}{lose}.",
        (
            *((f"echo {best} | sudo tee {folder}/driver/unbind",) if lose else ()),
            f"echo vfio-pci | sudo tee {folder}/driver_override",
            f"echo {best} | sudo tee /sys/bus/pci/drivers_probe",
        ),
    )


def _company(facts: Facts) -> Finding | None:
    for device in ready(facts):
        if others := in_the_way(facts, device):
            names = ", ".join(f"{d['address']} ({d['driver']})" for d in others)
            return Finding(
                f"{device['address']} shares group {device['group']} with a device in use",
                f"{names}: while a driver of the host has it, the group cannot be taken (EBUSY at bind).",
                (f"Give {others[0]['address']} to vfio-pci as well, or move one of them to another slot.",),
            )
    return None


def _device_nodes(facts: Facts) -> Finding | None:
    paths = [device["node"] for device in ready(facts) if device["node"]]
    known = {n["path"] for n in facts["nodes"]}
    if any(path in known and node(facts, path)["usable"] for path in paths):
        return None
    return next((found for path in paths if path in known and (found := _may_not(facts, path))), None)


def _little_memory(facts: Facts) -> Finding | None:
    limit, held = facts["limits"]["memlock"], facts["limits"]["capabilities"]
    if limit is None or limit[0] is None or limit[0] >= SMALL_LIMIT or "CAP_IPC_LOCK" in held:
        return None
    return Finding(
        f"only {limit[0] >> 10} KiB of memory may be locked",
        "Mapped memory counts against RLIMIT_MEMLOCK; beyond it a map ends with ENOMEM.",
        ("ulimit -l unlimited, LimitMEMLOCK= of a systemd unit, or memlock in /etc/security/limits.d.",),
        stops=False,
    )


# In this order; of each group only the first that holds is reported.
CHECKS: tuple[tuple[Callable[[Facts], Finding | None], ...], ...] = (
    (_old_kernel, _built_without, _no_iommufd, _iommu_node),
    (_no_iommu,),
    (_old_kernel, _built_without, _no_cdev, _no_driver, _no_device, _company, _device_nodes),
    (_little_memory,),
)


def _all(facts: Facts) -> Iterator[Finding]:
    for group in CHECKS:
        if found := next((f for check in group if (f := check(facts))), None):
            yield found


def findings(facts: Facts) -> list[Finding]:
    """What to fix, the first thing first; empty when a device can be bound right now."""
    kept: list[Finding] = []
    for found in _all(facts):
        if found not in kept:
            kept.append(found)
    return kept
