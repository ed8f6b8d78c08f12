# SPDX-License-Identifier: Apache-2.0
"""Make an excerpt of a guest's memory: the pages with VT-d's tables, and what the guest's kernel says of them.

    python tests/data/vtd_excerpt.py RAM RTADDR SAID OUT.json.gz

RAM is what QEMU's ``pmemsave`` wrote of a guest that had stopped, from address 0 on; RTADDR the register at 0x20 of its
IOMMU (``xp /2wx 0xfed90020``); SAID a text with the guest's /sys/kernel/debug/iommu/intel/*/domain_translation_struct
and dmar_translation_struct, each printed before it stopped. test_vtd_guest.py reads what this writes.
"""

from __future__ import annotations

import gzip
import json
import sys
from base64 import b64encode

import numpy as np

from iommufd_fast import vtd


def main(ram: str, register: str, said: str, out: str) -> None:
    memory = np.memmap(ram, np.uint8, "r")
    read, pages = vtd.reader(memory), set()

    def noticing(address: int) -> int | None:
        pages.add(address & ~0xFFF)
        return read(address)

    for found in vtd.devices(noticing, int(register, 0)):
        list(vtd.page_table(noticing, found).scan())
    with open(said, errors="replace") as file:
        lines = [line.strip() for line in file if line.startswith(("0x", "Device ", "IOMMU ")) or ":0x" in line]
    excerpt = {
        "register": int(register, 0),
        "pages": {f"{page:#x}": b64encode(memory[page : page + 4096].tobytes()).decode() for page in sorted(pages)},
        "said": lines,
    }
    with gzip.GzipFile(out, "wb", mtime=0) as file:
        file.write(json.dumps(excerpt, indent=1).encode())
    print(f"{len(pages)} pages, {len(lines)} lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
