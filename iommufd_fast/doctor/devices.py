# SPDX-License-Identifier: Apache-2.0
"""PCI devices and IOMMU groups."""

from __future__ import annotations

from typing import Any

from .host import Host

BRIDGE = "0604"  # PCI bridges stay with their driver and stand in nobody's way
VFIO_DRIVERS = (
    "vfio-pci",
    "vfio-platform",
    "vfio-cdx",
    "vfio-fsl-mc",
    "mlx5_vfio_pci",
    "nvgrace_gpu_vfio_pci",
    "xe_vfio_pci",
)


def is_vfio(driver: str | None) -> bool:
    """Whether a driver hands its devices to user space: vfio-pci, vfio-platform …, mlx5_vfio_pci …"""
    return driver is not None and (driver.startswith("vfio-") or driver.endswith("_vfio_pci"))


def _hex(text: str | None) -> str:
    return (text or "").removeprefix("0x")


def _device(host: Host, address: str) -> dict[str, Any]:
    folder = f"/sys/bus/pci/devices/{address}"
    node = next(iter(host.names(f"{folder}/vfio-dev")), None)
    return {
        "address": address,
        "id": f"{_hex(host.text(f'{folder}/vendor'))}:{_hex(host.text(f'{folder}/device'))}",
        "class": _hex(host.text(f"{folder}/class"))[:4],
        "driver": host.link(f"{folder}/driver"),
        "group": host.link(f"{folder}/iommu_group"),
        "node": f"/dev/vfio/devices/{node}" if node else None,
    }


def pci_devices(host: Host) -> list[dict[str, Any]]:
    """All of them, by address."""
    return [_device(host, address) for address in host.names("/sys/bus/pci/devices")]


def groups(host: Host) -> list[dict[str, Any]]:
    """IOMMU groups: number, type of their default domain, members."""
    top = "/sys/kernel/iommu_groups"
    return [
        {"number": n, "type": host.text(f"{top}/{n}/type"), "devices": host.names(f"{top}/{n}/devices")}
        for n in host.names(top)
    ]


def ready(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Devices that a VFIO driver has."""
    return [device for device in facts["devices"] if is_vfio(device["driver"])]


def in_the_way(facts: dict[str, Any], device: dict[str, Any]) -> list[dict[str, Any]]:
    """Others of a device's group that a driver of the host has: with them the group cannot be taken."""
    if device["group"] is None:
        return []
    mates = (d for d in facts["devices"] if d["group"] == device["group"] and d["address"] != device["address"])
    return [d for d in mates if d["driver"] and not is_vfio(d["driver"]) and d["class"] != BRIDGE]


def candidates(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Devices that could go to vfio-pci, those without a driver first; bridges and those with company are left out."""
    able = [
        d for d in facts["devices"] if d["group"] and d["class"][:2] != "06" and not is_vfio(d["driver"])
        and not in_the_way(facts, d)
    ]  # fmt: skip
    return sorted(able, key=lambda d: d["driver"] is not None)
