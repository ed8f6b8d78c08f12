# SPDX-License-Identifier: Apache-2.0
"""What a sequence is believed to have made: just enough of a model for most steps to succeed.

It never predicts answers (the other side's are the truth); where it is wrong, a step fails on both sides alike.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .layout import END, SCRATCH, STRUCT
from .script import Ref, Sequence, Step, Value
from .structs import COMMANDS, TEST_NUMBER, Command


@dataclass
class Thing:
    """An object of a context: `id` as a later step may name it."""

    kind: str
    id: Value
    context: Value  # descriptor
    alive: bool = True


@dataclass
class Mapping:
    iova: Value
    length: int
    flags: int
    source: int  # address of the memory, or -1: a file
    pins: int = 0
    file: bool = False
    dmabuf: bool = False
    fits: bool = True  # a default mock page table can take it


@dataclass
class Ioas(Thing):
    mappings: list[Mapping] = field(default_factory=list)
    users: int = 0  # page tables and accesses
    domains: int = 0
    taken: set[int] = field(default_factory=set)  # slots of fixed IOVAs
    pinner: bool = False  # an access that pins is attached: alignment is a page
    small: bool = False  # large pages are off

    @property
    def fits(self) -> bool:
        """Can a device be attached?"""
        return self.domains > 0 or all(m.fits for m in self.mappings)


@dataclass
class Hwpt(Thing):
    ioas: Ioas | None = None
    flags: int = 0
    users: int = 0
    nested: bool = False
    viommu: Viommu | None = None
    parent: Hwpt | None = None
    auto: bool = False
    huge: bool = False
    dirty_on: bool = False
    fault: Fault | None = None


@dataclass
class Device(Thing):
    """A mock device: `id` is the one of its SELFTEST object, `device` that of its DEVICE."""

    device: Value = 0
    pt: Hwpt | Ioas | None = None
    hwpt: Value = 0
    no_dirty: bool = False
    has_pasid: bool = False
    pasids: dict[int, Hwpt] = field(default_factory=dict)
    vdevice: Vdevice | None = None
    events: int = 0


@dataclass
class Access(Thing):
    ioas: Ioas | None = None
    pins: bool = False
    items: list[tuple[int, Mapping]] = field(default_factory=list)
    next_item: int = 0


@dataclass
class Fault(Thing):
    fd: Value = -1
    open: bool = True
    users: int = 0
    waiting: int = 0
    cookies: int = 0


@dataclass
class Viommu(Thing):
    hwpt: Hwpt | None = None
    device: Device | None = None
    region: Ref | None = None  # offset of what can be mapped
    mapped: bool = False
    users: int = 0
    virt_ids: set[int] = field(default_factory=set)
    queues: list[int] = field(default_factory=list)
    veventq: bool = False


@dataclass
class Vdevice(Thing):
    viommu: Viommu | None = None
    device: Device | None = None
    virt: int = 0


@dataclass
class Veventq(Thing):
    viommu: Viommu | None = None
    fd: Value = -1
    open: bool = True


@dataclass
class HwQueue(Thing):
    viommu: Viommu | None = None
    index: int = 0


@dataclass
class Dmabuf(Thing):
    pages: int = 0
    revoked: bool = False


class World:
    """Builds a sequence step by step and remembers what it should have made."""

    def __init__(self, number: int, rng: random.Random):
        self.rng = rng
        self.sequence = Sequence(number, [])
        self.things: list[Thing] = []
        self.fds: list[Value] = []
        self.compat: Ioas | None = None
        self.v1 = False
        self.dead: list[Value] = []  # ids that were destroyed
        self.low_limit = False

    def all(self, kind: str) -> list:
        return [t for t in self.things if t.kind == kind and t.alive]

    def some(self, kind: str, **wanted: object):
        """One of the living things of a kind whose attributes are as wanted, or None."""
        found = [t for t in self.all(kind) if all(getattr(t, k) == v for k, v in wanted.items())]
        return self.rng.choice(found) if found else None

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def add(self, thing: Thing):
        self.things.append(thing)
        return thing

    def end(self, thing: Thing) -> None:
        thing.alive = False
        self.dead.append(thing.id)

    # ---- steps ----

    def step(self, op: str, name: str, **args: Value) -> Step:
        blobs = args.pop("blobs", [])
        step = Step(op, len(self.sequence.steps), name, args, list(blobs))
        self.sequence.steps.append(step)
        return step

    def result(self, step: Step) -> Ref:
        return Ref(step.label)

    def command(self, name: str, fd: Value, blobs: list[tuple[int, bytes]] | None = None, /, **fields: Value) -> Step:
        """The ioctl `name`, its struct at STRUCT; `size=` and `at=` override where and how long it is."""
        return self.place(COMMANDS[name], fd, fields, blobs or [])

    def place(self, c: Command, fd: Value, fields: dict[str, Value], blobs: list[tuple[int, bytes]]) -> Step:
        size = fields.pop("size", c.size)
        at = fields.pop("at", STRUCT)
        tail = fields.pop("tail", b"")
        number = fields.pop("number", c.number)
        data = bytearray(c.size)
        data[0:4] = (size & 0xFFFFFFFF).to_bytes(4, "little")
        if c.number == TEST_NUMBER:
            data[4:8] = c.op.to_bytes(4, "little")
        patches = []
        for key, value in fields.items():
            f = c.fields[key]
            if isinstance(value, Ref):
                patches.append((at + f.offset, f.width, value))
            else:
                value &= (1 << 8 * f.width) - 1
                data[f.offset : f.offset + f.width] = value.to_bytes(f.width, "little")
        data += tail

        step = self.step("ioctl", c.name, fd=fd, a=SCRATCH + at, b=number)
        step.blobs = [(at, bytes(data[: END - at])), *blobs]
        step.fields = [p for p in patches if p[0] + p[1] <= END]
        return step

    def out(self, step: Step, name: str) -> Ref:
        return Ref(step.label, *COMMANDS[step.name].out(name))
