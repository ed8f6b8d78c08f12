# SPDX-License-Identifier: Apache-2.0
"""Cases: random page tables, random DMA through them, and what our walker says of the same bytes.

A DMA is cut at pages; each piece is either where the walker says, with the data compared at both ends, or a fault, and
then neither end has changed and the first fault's record is the one that the walker's reason calls for.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from model import DATA, END, Model, Record

from iommufd_fast._core.pagetable import Fault, PageTable
from iommufd_fast._core.ptforeign import ForeignPageTable

PAGE = 4096
INTERRUPTS = range(0xFEE00000, 0xFEF00000)  # no translation there, on any of them
NEEDED = {False: "r", True: "w"}


class Piece(NamedTuple):
    """A part of a DMA inside one page: where it goes, or why nowhere, and where it would with more rights."""

    iova: int
    size: int
    address: int | None
    reason: str
    shielded: int | None
    items: list[int]


class Different(Exception):
    """QEMU and our walker disagree; says how."""


class Round:
    """One page table in one machine."""

    def __init__(self, model: Model, random: Random):
        self.model, self.random, self.edu = model, random, model.edu
        self.table: PageTable = model.table()
        self.windows = [0, *(self.window() for _ in range(3))]
        self.data = range(model.ram + DATA, model.ram + END)
        self.page = self.table.granule if "granule" in model.shape else PAGE
        self.scratch, self.scratch_iova = model.ram + DATA - (1 << 20), 5 << 30
        self.table.map(self.scratch_iova, self.scratch, self.page)
        self.view: ForeignPageTable | None = None
        self.mapped: list[tuple[int, int, int]] = []  # iova, address, bytes
        self.dmas = self.through = self.faults = 0

    def window(self) -> int:
        first, last = self.table.aperture
        top = self.random.randrange(first, last + 1) & -(1 << 33)  # the scratch page is in none of them
        return top - (1 << 48) if self.random.random() < 0.3 and "sign_extend" in self.table.features else top

    # ---- page tables ----

    def sizes(self) -> list[int]:
        return [s for s in self.table.page_sizes if s <= 1 << 40]

    def fill(self, count: int) -> None:
        """Map random ranges by leaves of every size; what is refused is left out."""
        for _ in range(count):
            size = self.random.choice(self.sizes())
            iova = self.iova(size)
            pages = self.random.randint(1, 4) if size < 1 << 29 else 1
            address = self.address(size, pages)
            try:
                self.table.map(iova, address, size * pages, self.random.choice(["r", "w", "rw", "rw"]))
            except OSError:
                continue
            self.mapped.append((iova, address, size * pages))

    def iova(self, size: int) -> int:
        window = self.random.choice(self.windows)
        return (window + self.random.randrange(1 << self.random.choice([24, 28, 32]))) % (1 << 64) & -size

    def address(self, size: int, pages: int) -> int:
        if size * pages > END - 2 * DATA:
            return self.model.ram & -size
        return self.random.randrange((self.data.start + size - 1) & -size, self.data.stop - size * pages + 1) & -size

    def empty(self, share: float) -> None:
        """Unmap some of it again, by whole leaves."""
        for iova, _, size in self.random.sample(self.mapped, int(len(self.mapped) * share)):
            self.table.unmap(iova, size)

    def show(self) -> None:
        self.view = self.model.show(self.table)
        self.model.records()

    # ---- DMA ----

    def somewhere(self) -> int:
        """An IOVA near something mapped, whose address is in the part of RAM for data."""
        if not self.mapped or self.random.random() < 0.1:
            return self.iova(8)
        iova, address, size = self.random.choice(self.mapped)
        low = max(address, self.data.start)
        high = min(address + size, self.data.stop - PAGE)
        at = self.random.choice([low, high - 1, low - 1, high, self.random.randrange(low, high)])
        return (iova + at - address) % (1 << 64)

    def pieces(self, iova: int, size: int, write: bool) -> Iterator[Piece]:
        while size:
            n = min(size, PAGE - iova % PAGE)
            yield self.piece(iova, n, write)
            iova, size = (iova + n) % (1 << 64), size - n

    def piece(self, iova: int, size: int, write: bool) -> Piece:
        assert self.view is not None
        found, items = self.view.lookup(iova), [step.item or 0 for step in self.view.path(iova)]
        if isinstance(found, Fault):
            if found.reason == "memory" and found.entry not in self.model.empty:
                return Piece(iova, size, None, "device", None, items)  # not RAM, but something may answer
            return Piece(iova, size, None, found.reason, None, items)
        address = found.address + iova - found.iova
        if NEEDED[write] in found.prot:
            return Piece(iova, size, address, "", None, items)
        return Piece(iova, size, None, "denied", address, items)

    def judged(self, pieces: list[Piece]) -> bool:
        """Every end lies in RAM that is for data, and no page is one that the IOMMU keeps for itself."""
        ends = [p.address if p.address is not None else p.shielded for p in pieces]
        fine = all(end is None or (end in self.data and end + PAGE in self.data) for end in ends)
        kept = any(p.iova in INTERRUPTS or p.reason == "device" for p in pieces)
        return fine and not kept and all(self.model.judges(p.reason, p.items) for p in pieces)

    def probe(self, iova: int | None = None) -> None:
        """One DMA of a few bytes, over a page's border now and then."""
        random, write = self.random, self.random.random() < 0.5
        iova = self.somewhere() if iova is None else iova
        size = random.choice([1, 4, 8, 64, 200])
        if random.random() < 0.3:
            iova = (iova & -PAGE) + PAGE - size // 2
        iova %= 1 << 64
        if iova + size >= 1 << 64:  # the last byte of all is in no address space of QEMU
            return
        pieces = list(self.pieces(iova, size, write))
        if not self.judged(pieces):
            return
        if any(p.shielded is not None for p in pieces):
            self.model.invalidate()  # QEMU's caches know permissions, but deny without a record
        before = random.randbytes(size)
        self.put_ends(pieces, before)
        payload = random.randbytes(size) if write else before
        self.write(iova, payload, size) if write else self.read(iova, size)
        self.compare(pieces, payload, before, write)
        self.dmas += 1

    def put_ends(self, pieces: list[Piece], data: bytes) -> None:
        for piece, part in zip(pieces, parts(pieces, data), strict=True):
            end = piece.shielded if piece.address is None else piece.address
            if end is not None:
                self.model.store(end, part)

    def write(self, iova: int, payload: bytes, size: int) -> None:
        self.model.store(self.scratch, payload)
        self.edu.fetch(self.scratch_iova, size)
        self.expect_no_record("the scratch page")
        self.edu.put(iova, size)

    def read(self, iova: int, size: int) -> None:
        self.edu.fetch(iova, size)

    def compare(self, pieces: list[Piece], payload: bytes, before: bytes, write: bool) -> None:
        self.compare_records(pieces, write)
        got = self.ends(pieces) if write else self.buffer(pieces)
        for piece, there, wanted, old in zip(pieces, got, parts(pieces, payload), parts(pieces, before), strict=True):
            where = f"{'write to' if write else 'read of'} {piece.iova:#x}+{piece.size}"
            if piece.address is not None and there != wanted:
                raise Different(f"{where}, at {piece.address:#x}: {there!r}, not {wanted!r}")
            if piece.shielded is not None and len(old) >= 4 and (there == old) != write:
                raise Different(f"{where}, which is denied, has got through")
            self.faults += piece.address is None
            self.through += piece.address is not None

    def ends(self, pieces: list[Piece]) -> list[bytes]:
        at = [p.shielded if p.address is None else p.address for p in pieces]
        return [b"" if a is None else self.model.load(a, p.size) for a, p in zip(at, pieces, strict=True)]

    def buffer(self, pieces: list[Piece]) -> list[bytes]:
        """What the device has read: it writes it to a page that it may write to."""
        size = sum(p.size for p in pieces)
        self.edu.put(self.scratch_iova, size)
        self.expect_no_record("the scratch page")
        return list(parts(pieces, self.model.load(self.scratch, size)))

    def compare_records(self, pieces: list[Piece], write: bool) -> None:
        wanted = [self.model.expected(p.iova, write, p.reason, p.items) for p in pieces if p.address is None]
        expected = [records for records in wanted if records]
        got: list[Record] = []
        for record in self.model.records():
            if record not in got:
                got.append(record)  # an access in several parts faults several times
        fits = all(record in records for record, records in zip(got, expected, strict=False))
        if not fits or len(got) > len(expected) or (expected and not got):
            raise Different(f"faults of {pieces}, {write=}: {got}, not {expected}")

    def expect_no_record(self, what: str) -> None:
        got = self.model.records()
        if got:
            raise Different(f"{what} faults: {got}")


def parts(pieces: list[Piece], data: bytes) -> Iterator[bytes]:
    for piece in pieces:
        yield data[: piece.size]
        data = data[piece.size :]


def random_maps(model: Model, random: Random) -> Round:
    """Maps of all leaf sizes; then some of them gone."""
    world = Round(model, random)
    world.fill(40)
    for share in (0, 0.4, 0.5):
        world.empty(share)
        world.show()
        for _ in range(40):
            world.probe()
    return world


def single_bits(model: Model, random: Random) -> Round:
    """Every kind of damage that one bit can do, on every level of the way to something mapped."""
    world = Round(model, random)
    world.fill(30)
    world.show()
    assert world.view is not None
    bits = [bit for bit in range(64) if bit not in model.unjudged]
    kept = {step.entry for step in world.view.path(world.scratch_iova)}
    for _ in range(120):
        iova = world.somewhere()
        steps = [step for step in world.view.path(iova) if step.entry not in kept and step.item]
        if not steps:
            continue
        step = random.choice(steps)
        item = model.item(step.entry)
        model.item(step.entry, item ^ 1 << random.choice(bits))
        model.invalidate()
        try:
            world.probe(iova)
        except Different as error:
            way = ", ".join(f"level {s.level} {s.item or 0:#x}" for s in world.view.path(iova))
            raise Different(f"{error}\n      way to {iova:#x}: {way}; {item:#x} before") from error
        model.item(step.entry, item)
        model.invalidate()
    return world


CASES = {"random maps": (random_maps, 3), "a bit turned over": (single_bits, 2)}
