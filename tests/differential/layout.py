# SPDX-License-Identifier: Apache-2.0
"""The memory that scripts may name: executor.c puts it at these addresses, on a kernel and over the library alike."""

from __future__ import annotations

PAGE = 4096
BASE = 0x200000000000
SCRATCH = BASE  # pages: rw rw rw read-only rw, then a hole
SCRATCH_PAGES = 5
READ_ONLY = 3 * PAGE  # offset of the read-only page
END = SCRATCH_PAGES * PAGE
SCATTERED = BASE + 0x2000000
SCATTERED_PAGES = 32
SINGLE = BASE + 0x3000000  # private pages at even page numbers: touched, untouched, read-only, PROT_NONE
FILE_MAP = BASE + 0x4000000  # the file of descriptor FILE
HUGE = BASE + 0x8000000  # two of 2 MiB with a hole of that size between
HUGE_SIZE = 0x200000
WINDOW = BASE + 0x20000000  # where steps map regions of /dev/iommu

FILE, ODD_FILE, NO_MEMORY = 3, 4, 5  # descriptors that every sequence finds
ODD_SIZE = PAGE + 100
NOWHERE = BASE + 0x40000000  # nothing is mapped here
KERNEL = 0xFFFF888000000000

STRUCT, DATA, MORE = 0, 0x400, 0x1000  # where a step's struct, its nested data and a second lot of it stand
U64 = (1 << 64) - 1
