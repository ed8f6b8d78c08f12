# SPDX-License-Identifier: Apache-2.0
"""Near misses: a copy of a good step with one thing wrong."""

from __future__ import annotations

import copy

from .layout import (
    END,
    FILE,
    HUGE_SIZE,
    KERNEL,
    NO_MEMORY,
    NOWHERE,
    ODD_FILE,
    PAGE,
    READ_ONLY,
    SCATTERED,
    SCATTERED_PAGES,
    SCRATCH,
    SINGLE,
    U64,
)
from .script import Step, Value
from .structs import COMMANDS, TEST_NUMBER, Field
from .world import World

TOP = 1 << 63


def wrong_id(w: World) -> Value:
    r = w.rng
    kind = r.random()
    if kind < 0.2:
        return 0
    if kind < 0.35:
        return r.choice([0x7FFFFFFF, 0xFFFFFFFF, 0x80000001, 1000])
    if kind < 0.5 and w.dead:
        return r.choice(w.dead)
    living = [t.id for t in w.things if t.alive and t.kind not in ("access", "dmabuf")]
    living += [d.device for d in w.all("device")] + [d.hwpt for d in w.all("device")]
    return r.choice(living) if living else 0


def wrong_file(w: World) -> Value:
    """Not what hangs on a context: a mapping keeps a file open, and a kernel never gets rid of such a circle."""
    return w.rng.choice([-1, 99, NO_MEMORY, ODD_FILE, ODD_FILE, FILE, *(d.id for d in w.all("dmabuf"))])


def wrong_fd(w: World) -> Value:
    fds: list[Value] = [-1, 99, NO_MEMORY, ODD_FILE, FILE, w.fds[0]]
    fds += [t.id for t in w.things if t.kind in ("access", "dmabuf")]
    fds += [t.fd for t in w.things if t.kind in ("fault", "veventq")]
    return w.rng.choice(fds)


def wrong_iova(w: World, old: Value) -> Value:
    other = [m.iova for i in w.all("ioas") for m in i.mappings]
    choices = [U64, U64 - PAGE + 1, 0, 1, 0x1000, 0xFFF000, 0x7FFFF000, 0x80000000, 0xFFFFFFFFF000, TOP]
    choices += [old + 1, old + 2048, old + PAGE, old + -PAGE, old + -2048, old + 512]
    if other:
        choices += [w.rng.choice(other) for _ in range(4)]
    return w.rng.choice(choices)


def wrong_length(w: World, old: Value, bits: int) -> Value:
    choices = [
        0,
        1,
        2,
        3,
        2047,
        2048,
        PAGE,
        PAGE + 1,
        U64,
        U64 - 1,
        U64 - PAGE,
        TOP,
        TOP - 1,
        1 << 40,
        1 << 32,
        5 << 20,
        17 << 20,
    ]
    choices += [old + 1, old + -1, old + PAGE, old + -PAGE, old + 2048, HUGE_SIZE + PAGE, 5, 24, 100]
    return w.rng.choice(
        choices if bits == 64 else [0, 1, 3, 4, 5, 7, 8, 9, 12, 16, 24, 32, PAGE, PAGE + 1, 0xFFFFFFFF, 3 << 20]
    )


def wrong_pointer(w: World, old: Value) -> Value:
    choices = [
        0,
        NOWHERE,
        KERNEL,
        U64 - 7,
        TOP,
        SINGLE + 6 * PAGE,
        SINGLE + 4 * PAGE,
        SINGLE + 2 * PAGE,
        SCRATCH + READ_ONLY,
    ]
    choices += [
        SCRATCH + END - 8,
        SCRATCH + END - 1,
        SCATTERED + (SCATTERED_PAGES - 1) * PAGE,
        old + 1,
        old + 2048,
        old + PAGE,
    ]
    choices += [SINGLE + PAGE, SINGLE, SCRATCH + END - PAGE, SCRATCH + READ_ONLY - 8]
    return w.rng.choice(choices)


def wrong_value(w: World, name: str, f: Field, old: Value) -> Value:
    r = w.rng
    if name == "IOAS_MAP_FILE" and f.kind == "fd":
        return wrong_file(w)
    if f.kind == "id":
        return wrong_id(w)
    if f.kind == "fd":
        return wrong_fd(w)
    if f.kind == "iova":
        return wrong_iova(w, old)
    if f.kind in ("length", "length32"):
        return wrong_length(w, old, 64 if f.kind == "length" else 32)
    if f.kind == "ptr":
        return wrong_pointer(w, old)
    if f.kind == "flags":
        number = old if isinstance(old, int) else 0
        return r.choice(
            [0, 1, 2, 4, 8, 3, 5, 7, 1 << 31, 0x10, 0x20, 1 << 18, number ^ 1, number ^ 2, number ^ 4, number ^ 8]
        )
    if f.kind == "zero":
        return r.choice([1, 1 << 8 * f.width - 1])
    if f.kind == "type":
        return r.choice([0, 1, 2, 3, 4, 5, 0xDEAD, 0xDEADBEEF, 0xDADBEEF, 0xBEEFBEEF, 0xFEEDBEEF])
    return r.choice([0, 1, 2, 3, 4, 5, 11, 1024, 1 << 19, (1 << 19) + 1, 0xFFFFFFFF, 1 << 20, U64])


def number_at(step: Step, f: Field) -> Value:
    """What a field holds: a number, or a reference."""
    at = step.blobs[0][0] + f.offset
    for to, _, value in step.fields:
        if to == at:
            return value
    return int.from_bytes(step.blobs[0][1][f.offset : f.offset + f.width], "little")


def set_field(step: Step, f: Field, value: Value) -> None:
    at, data = step.blobs[0]
    step.fields = [p for p in step.fields if p[0] != at + f.offset]
    if not isinstance(value, int):
        step.fields.append((at + f.offset, f.width, value))
        return
    value &= (1 << 8 * f.width) - 1
    data = data[: f.offset] + value.to_bytes(f.width, "little") + data[f.offset + f.width :]
    step.blobs[0] = (at, data)


def change_field(w: World, step: Step) -> None:
    command = COMMANDS[step.name]
    fields = [f for f in command.fields.values() if f.kind != "out" or w.chance(0.1)]
    if not fields:
        return change_size(w, step)
    f = w.rng.choice(fields)
    set_field(step, f, wrong_value(w, step.name, f, number_at(step, f)))
    return None


def change_size(w: World, step: Step) -> None:
    command = COMMANDS[step.name]
    at, data = step.blobs[0]
    size = w.rng.choice(
        [
            command.minimum - 1,
            command.minimum,
            command.minimum - 4,
            w.rng.choice([0, 4]),
            *(command.size + n for n in (8, 8, 8, 1, 1, 64)),
            w.rng.choice([20000, 1 << 31]),
        ]
    )
    size = max(size, 0)
    garbage = w.rng.choice([b"\1", bytes(7) + b"\1", b"\x80"])
    tail = (bytes(128) if w.chance(0.4) else garbage.ljust(128, b"\0")) if size > command.size else b""
    step.blobs[0] = (at, size.to_bytes(4, "little") + data[4:] + tail)


def change_place(w: World, step: Step) -> None:
    """The struct lies across a hole, in read-only memory, or nowhere."""
    r = w.rng
    at, data = step.blobs[0]
    kind = r.random()
    if kind < 0.3:
        step.args["a"] = r.choice([0, NOWHERE, KERNEL, U64 - 3, SCRATCH + END - 2, SINGLE + 6 * PAGE])
        return
    size = COMMANDS[step.name].size
    to = READ_ONLY if kind < 0.8 else END - r.choice([4, 8, size // 2, size - 1, size])
    step.args["a"] = SCRATCH + to
    step.blobs[0] = (to, data[: END - to])
    step.fields = [
        (p[0] - at + to if p[0] < at + size else p[0], *p[1:])
        for p in step.fields
        if p[0] >= at + size or p[0] - at + to + p[1] <= END
    ]


def change_number(w: World, step: Step) -> None:
    number = int(step.args["b"])
    step.args["b"] = w.rng.choice(
        [number | 0xC0000000, number | 0x40080000, number ^ 0x100, number + 0x100000000, 0x3B95]
    )


def change_descriptor(w: World, step: Step) -> None:
    step.args["fd"] = wrong_fd(w)


def change_operation(w: World, step: Step) -> None:
    """Of the mock's command: an operation that is none."""
    at, data = step.blobs[0]
    step.blobs[0] = (at, data[:4] + w.rng.choice([0, 24, 99]).to_bytes(4, "little") + data[8:])
    step.name = "TEST_UNKNOWN"


CHANGES = [(change_field, 12), (change_size, 3), (change_place, 2.5), (change_number, 0.3), (change_descriptor, 0.4)]


def near_miss(w: World, good: Step) -> Step | None:
    """A copy of an ioctl with one thing wrong, put before it; None for other steps."""
    if good.op != "ioctl" or good.name not in COMMANDS:
        return None
    step = copy.deepcopy(good)
    step.label = len(w.sequence.steps)
    change = w.rng.choices([c for c, _ in CHANGES], [n for _, n in CHANGES])[0]
    if good.args["b"] == TEST_NUMBER and w.chance(0.02):
        change = change_operation
    change(w, step)
    if w.chance(0.1):
        change_field(w, step) if step.name in COMMANDS and change is change_field else None
    w.sequence.steps.insert(w.sequence.steps.index(good), step)
    return step
