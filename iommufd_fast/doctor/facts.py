# SPDX-License-Identifier: Apache-2.0
"""What is so on this machine, as a dict that JSON can hold. No judgement here."""

from __future__ import annotations

import platform
import re
import sys
from typing import Any

from iommufd_fast._version import __version__

from .devices import groups, pci_devices
from .host import Host

OPTIONS = (
    "IOMMUFD",
    "IOMMUFD_VFIO_CONTAINER",
    "IOMMUFD_TEST",
    "VFIO",
    "VFIO_DEVICE_CDEV",
    "VFIO_GROUP",
    "VFIO_PCI",
    "VFIO_NOIOMMU",
    "INTEL_IOMMU",
    "INTEL_IOMMU_DEFAULT_ON",
    "AMD_IOMMU",
    "ARM_SMMU_V3",
    "VIRTIO_IOMMU",
    "IOMMU_DEFAULT_PASSTHROUGH",
    "UDMABUF",
)
MODULES = ("iommufd", "vfio", "vfio_pci", "vfio_iommu_type1")
CAPABILITIES = {"CAP_IPC_LOCK": 14, "CAP_SYS_RAWIO": 17, "CAP_SYS_ADMIN": 21}
# Words of the kernel's command line that matter here; the rest is nobody's business.
BOOT_WORDS = re.compile(r"(intel_iommu|amd_iommu|iommu|iommu\.\w+|vfio[\w.-]*|pci|pcie_acs_override|hugepages\w*)(=|$)")
LOG_WORDS = re.compile(r"DMAR|AMD-Vi|iommu|smmu|vfio", re.IGNORECASE)
LOG_LINES = 25
REGISTERS = ("intel-iommu/version", "intel-iommu/cap", "intel-iommu/ecap", "amd-iommu/cap", "amd-iommu/features")
TABLES = {"DMAR": "Intel VT-d", "IVRS": "AMD-Vi", "IORT": "Arm SMMU", "VIOT": "virtio"}


def _config(host: Host, release: str) -> tuple[str | None, str]:
    """Where the kernel's configuration is, and its text."""
    if text := host.unpacked("/proc/config.gz"):
        return "/proc/config.gz", text
    for name in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        if text := host.text(name):
            return name, text
    return None, ""


def _kernel(host: Host) -> dict[str, Any]:
    release = host.text("/proc/sys/kernel/osrelease") or "unknown"
    source, text = _config(host, release)
    known = dict(re.findall(r"^CONFIG_(\w+)=(\S+)$", text, re.MULTILINE))
    line = host.text("/proc/cmdline") or ""
    return {
        "release": release,
        "architecture": platform.machine(),
        "config": source,
        "options": {name: known.get(name, "n") if source else None for name in OPTIONS},
        "boot_options": [word for word in line.split() if BOOT_WORDS.match(word)],
    }


def _modules(host: Host, release: str) -> dict[str, str]:
    """Of each module: loaded (or built in and alive), builtin, available, or absent."""
    listed = (host.text(f"/lib/modules/{release}/modules.dep") or "").replace("-", "_")
    builtin = (host.text(f"/lib/modules/{release}/modules.builtin") or "").replace("-", "_")

    def state(name: str) -> str:
        if host.exists(f"/sys/module/{name}"):
            return "loaded"
        if f"/{name}.ko" in builtin:
            return "builtin"
        return "available" if f"/{name}.ko" in listed else "absent"

    return {name: state(name) for name in MODULES}


def _iommu(host: Host) -> dict[str, Any]:
    units = {}
    for name in host.names("/sys/class/iommu"):
        more = {
            key: host.text(f"/sys/class/iommu/{name}/{key}")
            for key in (
                "intel-iommu/version",
                "intel-iommu/cap",
                "intel-iommu/ecap",
                "amd-iommu/cap",
                "amd-iommu/features",
            )
        }
        devices = len(host.names(f"/sys/class/iommu/{name}/devices"))
        units[name] = {"devices": devices, **{key: value for key, value in more.items() if value}}
    log = host.log()
    return {
        "units": units,
        "firmware": [n for n in TABLES if host.exists(f"/sys/firmware/acpi/tables/{n}")],
        "log": None if log is None else [line for line in log if LOG_WORDS.search(line)][-LOG_LINES:],
    }


def _limits(host: Host) -> dict[str, Any]:
    status = dict(re.findall(r"^(\w+):\s+(.*)$", host.text("/proc/self/status") or "", re.MULTILINE))
    locked = re.search(r"^Max locked memory\s+(\S+)\s+(\S+)", host.text("/proc/self/limits") or "", re.MULTILINE)
    held = int(status.get("CapEff", "0"), 16)
    return {
        "uid": int(status["Uid"].split()[1]) if "Uid" in status else None,
        "memlock": None if not locked else [_bytes(locked[1]), _bytes(locked[2])],
        "capabilities": [name for name, bit in CAPABILITIES.items() if held >> bit & 1],
    }


def _bytes(text: str) -> int | None:
    """None is without limit."""
    return int(text) if text.isdecimal() else None


def _machine(host: Host) -> dict[str, Any]:
    cpu = host.text("/proc/cpuinfo") or ""
    model = re.search(r"^model name\s*:\s*(.*)$", cpu, re.MULTILINE)
    container = any(host.exists(name) for name in ("/.dockerenv", "/run/.containerenv"))
    return {
        "cpu": model[1] if model else None,
        "virtual_machine": bool(re.search(r"^flags\s*:.*\bhypervisor\b", cpu, re.MULTILINE)),
        "container": container,
    }


def collect(host: Host) -> dict[str, Any]:
    """Everything that doctor knows."""
    kernel = _kernel(host)
    nodes = ["/dev/iommu", "/dev/vfio/vfio", *(f"/dev/vfio/devices/{n}" for n in host.names("/dev/vfio/devices"))]
    return {
        "iommufd_fast": __version__,
        "python": sys.version.split()[0],
        "machine": _machine(host),
        "kernel": kernel,
        "modules": _modules(host, kernel["release"]),
        "iommu": _iommu(host),
        "limits": _limits(host),
        "nodes": [host.node(name) for name in nodes],
        "devices": pci_devices(host),
        "groups": groups(host),
    }
