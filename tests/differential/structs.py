# SPDX-License-Identifier: Apache-2.0
"""Commands as the generator sees them: number, sizes, and each field with its offset, width and kind.

The kind tells mutations what a near miss of the field is. Declared here once more and not taken from the library, so
that a wrong offset there cannot hide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    offset: int
    width: int
    kind: str  # id flags zero iova length ptr type num fd any out


@dataclass(frozen=True)
class Command:
    name: str
    number: int
    minimum: int
    size: int
    fields: dict[str, Field]
    op: int = 0  # of the mock device's command

    def out(self, name: str) -> tuple[int, int]:
        return self.fields[name].offset, self.fields[name].width


def parse(text: str) -> dict[str, Field]:
    """``name@offset:width=kind``, separated by blanks."""
    fields = {}
    for word in text.split():
        name, rest = word.split("@")
        place, kind = rest.split("=")
        offset, width = place.split(":")
        fields[name] = Field(int(offset), int(width), kind)
    return fields


TABLE = """
DESTROY 80 8 8 id@4:4=id
IOAS_ALLOC 81 12 12 flags@4:4=flags out_id@8:4=out
IOAS_ALLOW_IOVAS 82 24 24 ioas@4:4=id n@8:4=num zero@12:4=zero ptr@16:8=ptr
IOAS_COPY 83 40 40 flags@4:4=flags dst@8:4=id src@12:4=id length@16:8=length dst_iova@24:8=iova src_iova@32:8=iova
IOAS_IOVA_RANGES 84 32 32 ioas@4:4=id n@8:4=num zero@12:4=zero ptr@16:8=ptr align@24:8=out
IOAS_MAP 85 40 40 flags@4:4=flags ioas@8:4=id zero@12:4=zero va@16:8=ptr length@24:8=length iova@32:8=iova
IOAS_UNMAP 86 24 24 ioas@4:4=id iova@8:8=iova length@16:8=length
OPTION 87 24 24 option@4:4=type op@8:2=type zero@10:2=zero object@12:4=id value@16:8=num
VFIO_IOAS 88 12 12 ioas@4:4=id op@8:2=type zero@10:2=zero
HWPT_ALLOC 89 24 48 flags@4:4=flags dev@8:4=id pt@12:4=id out_id@16:4=out zero@20:4=zero type@24:4=type
    len@28:4=length32 ptr@32:8=ptr fault@40:4=id zero2@44:4=zero
GET_HW_INFO 8a 32 40 flags@4:4=flags dev@8:4=id len@12:4=length32 ptr@16:8=ptr type@24:4=type
    out_pasid@28:1=out zero@29:1=zero zero2@31:1=zero out_caps@32:8=out
HWPT_SET_DIRTY_TRACKING 8b 16 16 flags@4:4=flags hwpt@8:4=id zero@12:4=zero
HWPT_GET_DIRTY_BITMAP 8c 48 48 hwpt@4:4=id flags@8:4=flags zero@12:4=zero iova@16:8=iova length@24:8=length
    page@32:8=length ptr@40:8=ptr
HWPT_INVALIDATE 8d 32 32 hwpt@4:4=id ptr@8:8=ptr type@16:4=type len@20:4=length32 n@24:4=num zero@28:4=zero
FAULT_QUEUE_ALLOC 8e 16 16 flags@4:4=flags out_id@8:4=out out_fd@12:4=out
IOAS_MAP_FILE 8f 40 40 flags@4:4=flags ioas@8:4=id fd@12:4=fd start@16:8=length length@24:8=length iova@32:8=iova
VIOMMU_ALLOC 90 24 40 flags@4:4=flags type@8:4=type dev@12:4=id hwpt@16:4=id out_id@20:4=out len@24:4=length32
    zero@28:4=zero ptr@32:8=ptr
VDEVICE_ALLOC 91 24 24 viommu@4:4=id dev@8:4=id out_id@12:4=out virt@16:8=num
IOAS_CHANGE_PROCESS 92 8 8 zero@4:4=zero
VEVENTQ_ALLOC 93 28 32 flags@4:4=flags viommu@8:4=id type@12:4=type depth@16:4=num out_id@20:4=out
    out_fd@24:4=out zero@28:4=zero
HW_QUEUE_ALLOC 94 40 40 flags@4:4=flags viommu@8:4=id type@12:4=type index@16:4=num out_id@20:4=out
    iova@24:8=iova length@32:8=length
VFIO_GET_INFO 70 16 24 flags@4:4=out pgsizes@8:8=out cap@16:4=out
VFIO_MAP_DMA 71 32 32 flags@4:4=flags va@8:8=ptr iova@16:8=iova length@24:8=length
VFIO_UNMAP_DMA 72 24 24 flags@4:4=flags iova@8:8=iova length@16:8=length
"""

TESTS = """
ADD_RESERVED 1 id@8:4=id start@16:8=iova length@24:8=length
MOCK_DOMAIN 2 id@8:4=id out_stdev@16:4=out out_hwpt@20:4=out out_dev@24:4=out
MD_CHECK_MAP 3 id@8:4=id iova@16:8=iova length@24:8=length ptr@32:8=ptr
MD_CHECK_REFS 4 length@16:8=length ptr@24:8=ptr refs@32:4=num
CREATE_ACCESS 5 id@8:4=id out_fd@16:4=out flags@20:4=flags
DESTROY_ACCESS_PAGES 6 id@8:4=fd item@16:4=num
ACCESS_PAGES 7 id@8:4=fd flags@16:4=flags out_id@20:4=out iova@24:8=iova length@32:8=length ptr@40:8=ptr
ACCESS_RW 8 id@8:4=fd iova@16:8=iova length@24:8=length ptr@32:8=ptr flags@40:4=flags
SET_TEMP_MEMORY_LIMIT 9 limit@16:4=num
MOCK_DOMAIN_REPLACE 10 id@8:4=id pt@16:4=id
ACCESS_REPLACE_IOAS 11 id@8:4=fd ioas@16:4=id
MOCK_DOMAIN_FLAGS 12 id@8:4=id out_stdev@16:4=out out_hwpt@20:4=out out_dev@24:4=out dev_flags@28:4=flags
DIRTY 13 id@8:4=id flags@16:4=any iova@24:8=iova length@32:8=length page@40:8=length ptr@48:8=ptr out_n@56:8=out
MD_CHECK_IOTLB 14 id@8:4=id index@16:4=num value@20:4=any
TRIGGER_IOPF 15 dev@16:4=id pasid@20:4=num group@24:4=any perm@28:4=any addr@32:8=any
DEV_CHECK_CACHE 16 id@8:4=id index@16:4=num value@20:4=any
TRIGGER_VEVENT 17 dev@16:4=id
PASID_ATTACH 18 id@8:4=id pasid@16:4=num pt@20:4=id
PASID_REPLACE 19 id@8:4=id pasid@16:4=num pt@20:4=id
PASID_DETACH 20 id@8:4=id pasid@16:4=num
PASID_CHECK_HWPT 21 id@8:4=id pasid@16:4=num hwpt@20:4=id
DMABUF_GET 22 length@16:4=length32 flags@20:4=any
DMABUF_REVOKE 23 fd@16:4=fd revoked@20:4=any
"""

TEST_NUMBER, TEST_MINIMUM, TEST_SIZE = 0x3BA0, 68, 72


def lines(text: str) -> list[str]:
    """A line that begins with blanks belongs to the one before it."""
    return re.sub(r"\n +", " ", text.strip()).splitlines()


def commands() -> dict[str, Command]:
    found = {}
    for line in lines(TABLE):
        name, number, minimum, size, rest = line.split(maxsplit=4)
        found[name] = Command(name, 0x3B00 | int(number, 16), int(minimum), int(size), parse(rest))
    for line in lines(TESTS):
        name, op, rest = line.split(maxsplit=2)
        found[name] = Command(name, TEST_NUMBER, TEST_MINIMUM, TEST_SIZE, parse(rest), int(op))
    return found


COMMANDS = commands()
