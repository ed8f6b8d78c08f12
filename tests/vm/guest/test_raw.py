# SPDX-License-Identifier: Apache-2.0
"""The guest is what it should be: by plain ioctls, without the provider."""

from __future__ import annotations

import errno
import os
import platform

import pytest
import raw

from iommufd_fast import uapi

C = uapi.Command
IOVA = 0x100000  # below the 28 bits that edu's DMA reaches
PAGES = 4
FLAGS = uapi.MapFlag.FIXED_IOVA | uapi.MapFlag.WRITEABLE | uapi.MapFlag.READABLE


@pytest.fixture
def kernel():
    fd = os.open("/dev/iommu", os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.fixture
def edu(kernel):
    made = raw.Edu(raw.edu_addresses()[0], kernel)
    yield made
    made.close()


def ioas(kernel: int) -> int:
    return int(raw.ask(kernel, C.IOAS_ALLOC, uapi.IOAS_ALLOC)["out_ioas_id"])


def test_it_is_a_kernel_of_its_own():
    assert platform.release() != os.environ["IOF_HOST_KERNEL"]
    assert os.major(os.stat("/dev/iommu").st_rdev) == 10  # a misc device, and not the preload library's


def test_edu_belongs_to_vfio_behind_an_iommu():
    (address,) = raw.edu_addresses()
    device = f"/sys/bus/pci/devices/{address}"
    assert os.path.basename(os.readlink(f"{device}/driver")) == "vfio-pci"
    assert os.path.exists(f"{device}/iommu_group") and os.listdir("/sys/class/iommu")
    assert raw.vfio_path(address).exists()


def test_map_and_unmap(kernel):
    space, (buffer, address) = ioas(kernel), raw.memory(PAGES * 4096)
    flags = uapi.MapFlag.WRITEABLE | uapi.MapFlag.READABLE
    done = raw.ask(kernel, C.IOAS_MAP, uapi.IOAS_MAP, flags=flags, ioas_id=space, user_va=address, length=len(buffer))
    gone = raw.ask(kernel, C.IOAS_UNMAP, uapi.IOAS_UNMAP, ioas_id=space, iova=done["iova"], length=len(buffer))
    assert gone["length"] == len(buffer)


def test_a_refusal_has_the_kernels_errno(kernel):
    with pytest.raises(OSError) as refused:
        raw.ask(kernel, C.DESTROY, uapi.DESTROY, id=12345)
    assert refused.value.errno == errno.ENOENT


def test_the_mock_device(kernel):
    space, (buffer, address) = ioas(kernel), raw.memory(4096)
    made = raw.mock(kernel, raw.MOCK_DOMAIN, space)
    fixed = {"flags": FLAGS, "ioas_id": space, "iova": 1 << 24, "length": 4096}
    raw.ask(kernel, C.IOAS_MAP, uapi.IOAS_MAP, user_va=address, **fixed)
    check = {"iova": 1 << 24, "length": len(buffer), "uptr": address}
    raw.mock(kernel, raw.CHECK_MAP, int(made["out_hwpt_id"]), **check)
    raw.ask(kernel, C.IOAS_UNMAP, uapi.IOAS_UNMAP, ioas_id=space, iova=1 << 24, length=4096)
    with pytest.raises(OSError):
        raw.mock(kernel, raw.CHECK_MAP, int(made["out_hwpt_id"]), **check)


def test_edu_reads_and_writes_memory(kernel, edu):
    space, (buffer, address) = ioas(kernel), raw.memory(2 * 4096)
    edu.attach(space)
    fixed = {"flags": FLAGS, "ioas_id": space, "iova": IOVA, "length": len(buffer)}
    raw.ask(kernel, C.IOAS_MAP, uapi.IOAS_MAP, user_va=address, **fixed)
    count = raw.EDU_MOST
    sent = os.urandom(count)
    buffer[:count] = sent
    edu.transfer(IOVA, raw.EDU_BUFFER, count, to_memory=False)
    edu.transfer(raw.EDU_BUFFER, IOVA + 4096, count, to_memory=True)
    assert buffer[4096 : 4096 + count] == sent
