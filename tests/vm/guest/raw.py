# SPDX-License-Identifier: Apache-2.0
"""The kernel by plain ioctls, with nothing of ours but the structs: what the provider is compared with, and what shows
that a guest is what it should be."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import time
from pathlib import Path

import numpy as np

from iommufd_fast import uapi

TEST_COMMAND = 0x3BA0
MOCK_DOMAIN, CHECK_MAP = 2, 3
GET_REGION_INFO = 0x3B6C
CONFIG = 7  # the region of a PCI device's config space
EDU_IDS = ("0x1234", "0x11e8")
EDU_BUFFER, EDU_SOURCE, EDU_TARGET, EDU_COUNT, EDU_COMMAND = 0x40000, 0x80, 0x88, 0x90, 0x98
EDU_MOST = 4095  # of its buffer of 4096 bytes: QEMU 7.2 aborts when a transfer ends at the buffer's end

MOCK = {
    MOCK_DOMAIN: uapi._struct("u32 size op id reserved out_stdev_id out_hwpt_id out_idev_id pad; u64 more[5]"),
    CHECK_MAP: uapi._struct("u32 size op id reserved; u64 iova length uptr more[4]"),
}


def edu_addresses() -> list[str]:
    """Where the edu devices are on the PCI bus."""
    found = []
    for device in sorted(Path("/sys/bus/pci/devices").iterdir()):
        if tuple((device / name).read_text().strip() for name in ("vendor", "device")) == EDU_IDS:
            found.append(device.name)
    return found


def vfio_path(address: str) -> Path:
    """The character device of a PCI device that vfio-pci has."""
    (node,) = (Path("/sys/bus/pci/devices") / address / "vfio-dev").iterdir()
    return Path("/dev/vfio/devices") / node.name


def ask(fd: int, command: int, layout: np.dtype, **fields: int) -> np.void:
    """One ioctl on a struct made from `fields`; returns the struct as the kernel left it."""
    cmd = np.zeros((), layout)
    cmd["argsz" if "argsz" in layout.names else "size"] = layout.itemsize
    for name, value in fields.items():
        cmd[name] = value
    data = bytearray(cmd.tobytes())
    fcntl.ioctl(fd, command, data)
    return np.frombuffer(data, layout)[0]


def mock(fd: int, op: int, number: int, **fields: int) -> np.void:
    return ask(fd, TEST_COMMAND, MOCK[op], op=op, id=number, **fields)


def memory(length: int) -> tuple[mmap.mmap, int]:
    """Anonymous memory and its address."""
    made = mmap.mmap(-1, length)
    return made, ctypes.addressof(ctypes.c_char.from_buffer(made))


class Edu:
    """QEMU's edu device over VFIO, bound to an iommufd: its registers, and its DMA engine."""

    def __init__(self, address: str, iommufd: int) -> None:
        self.fd = os.open(vfio_path(address), os.O_RDWR)
        bound = ask(self.fd, uapi.Command.DEVICE_BIND_IOMMUFD, uapi.DEVICE_BIND_IOMMUFD, iommufd=iommufd)
        self.id = int(bound["out_devid"])
        offset = self._offset(CONFIG)
        command = struct.unpack("<H", os.pread(self.fd, 2, offset + 4))[0]
        os.pwrite(self.fd, struct.pack("<H", command | 6), offset + 4)  # memory space, bus master
        self.base = self._offset(0)

    def _offset(self, region: int) -> int:
        info = bytearray(struct.pack("<IIIIQQ", 32, 0, region, 0, 0, 0))
        fcntl.ioctl(self.fd, GET_REGION_INFO, info)
        return struct.unpack("<IIIIQQ", info)[5]

    def attach(self, table: int) -> int:
        return int(ask(self.fd, uapi.Command.DEVICE_ATTACH_PT, uapi.DEVICE_ATTACH_PT, pt_id=table)["pt_id"])

    def write(self, register: int, value: int, width: str = "Q") -> None:
        os.pwrite(self.fd, struct.pack(f"<{width}", value), self.base + register)

    def read(self, register: int, width: str = "Q") -> int:
        return struct.unpack(f"<{width}", os.pread(self.fd, struct.calcsize(width), self.base + register))[0]

    def transfer(self, source: int, target: int, count: int, to_memory: bool) -> None:
        """One DMA, waited for (it takes 100 ms of the guest's time)."""
        for register, value in ((EDU_SOURCE, source), (EDU_TARGET, target), (EDU_COUNT, count)):
            self.write(register, value)
        self.write(EDU_COMMAND, 3 if to_memory else 1)
        end = time.monotonic() + 20
        while self.read(EDU_COMMAND) & 1:
            assert time.monotonic() < end, "the edu device did not finish"
            time.sleep(0.01)

    def close(self) -> None:
        os.close(self.fd)
