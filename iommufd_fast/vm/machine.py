# SPDX-License-Identifier: Apache-2.0
"""What a guest consists of, and the command line of QEMU that makes it.

Options are those that QEMU 7.2 and 10 both know. The accelerator is always TCG: a /dev/kvm that is there may still not
work for an ordinary guest, and an emulated IOMMU behaves the same without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

IOMMU = "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on"
KERNEL_OPTIONS = ("intel_iommu=on,sm_on",)
BASE_OPTIONS = ("console=ttyS0", "rdinit=/init", "panic=-1", "quiet")

EDU = "1234:11e8"  # the PCI ids of QEMU's edu device
EDU_MASK = 0x0FFF_FFFF  # edu's DMA reaches 28 bits unless told otherwise


@dataclass(frozen=True)
class Guest:
    """A kernel and the machine around it.

    Attributes
    ----------
    kernel : Path
        A bzImage with virtio-9p, virtio-console, overlayfs, VFIO and iommufd built in.
    devices : sequence of str
        QEMU devices as after its ``-device``; ``edu`` for instance.
    bind : sequence of str
        "vendor:device" of those that go to vfio-pci before the command runs.
    options : sequence of str
        Of the kernel's command line, besides those that the harness needs.
    scalable : bool
        VT-d in scalable mode (x-scalable-mode=on): first-stage tables and PASIDs.
    cpus : int
    memory : int
        MiB.
    iommu : str
        QEMU's device; "" for none.
    extra : sequence of str
        More arguments of QEMU, as they are.
    """

    kernel: Path
    devices: Sequence[str] = ("edu",)
    bind: Sequence[str] = (EDU,)
    options: Sequence[str] = KERNEL_OPTIONS
    scalable: bool = False
    cpus: int = 2
    memory: int = 2048
    iommu: str = IOMMU
    extra: Sequence[str] = field(default=())


def qemu_command(qemu: Path, guest: Guest, *, initramfs: Path, share: Path, sockets: dict[str, int]) -> list[str]:
    """The command line.

    Parameters
    ----------
    qemu : Path
    guest : Guest
    initramfs : Path
    share : Path
        The folder that the guest may write into.
    sockets : dict
        Descriptors that QEMU inherits, connected to us: "console", "control", "output", "monitor".
    """
    command = [str(qemu), "-M", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", "max"]
    command += ["-smp", str(guest.cpus), "-m", str(guest.memory), "-display", "none", "-no-reboot", "-nodefaults"]
    command += ["-kernel", str(guest.kernel), "-initrd", str(initramfs)]
    command += ["-append", " ".join((*BASE_OPTIONS, *guest.options))]
    if guest.iommu:
        command += ["-device", guest.iommu + (",x-scalable-mode=on" if guest.scalable else "")]
    for name, number in sockets.items():
        command += ["-chardev", f"socket,id={name},fd={number}"]
    command += ["-serial", "chardev:console", "-mon", "chardev=monitor,mode=control"]
    command += ["-device", "virtio-serial-pci"]
    for name in ("control", "output"):
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
    command += _folder("root", Path("/"), ",readonly=on") + _folder("share", share, "")
    for device in guest.devices:
        command += ["-device", device]
    return [*command, *guest.extra]


def _folder(name: str, path: Path, more: str) -> list[str]:
    """A 9p share."""
    quoted = str(path).replace(",", ",,")
    backend = f"local,id={name},path={quoted},security_model=none,multidevs=remap{more}"
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={name},mount_tag={name}"]
