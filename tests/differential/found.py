# SPDX-License-Identifier: Apache-2.0
"""Differences that were found, each cut down to a few steps, with what the kernel said to the last one.

``make differential`` runs them on the kernel too, so what stands here stays true of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .layout import DATA, END, FILE, HUGE, HUGE_SIZE, PAGE, READ_ONLY, SCATTERED, SCRATCH, SINGLE, U64
from .script import WITH_HUGE, WITHOUT_IPC_LOCK, Outcome, Sequence, Value
from .world import World

Changes = dict[int, str]  # offset in the scratch memory -> bytes in hexadecimal


@dataclass(frozen=True)
class Found:
    """`result`: of the last step, a number or an errno's name. `changes`: what it changed, None: not looked at."""

    name: str
    build: Callable[[World, Value], object]
    result: int | str
    changes: Changes | None

    def sequence(self, number: int) -> Sequence:
        w = World(number, random.Random(0))
        context = w.result(w.step("open", "open"))
        w.fds.append(context)
        self.build(w, context)
        return w.sequence

    def as_expected(self, last: Outcome, name_of: Callable[[int], str]) -> bool:
        said = name_of(last.errno) if last.result == -1 else last.result
        changes = {offset: data.hex() for offset, data in last.changes}
        return said == self.result and (self.changes is None or changes == self.changes)


FOUND: list[Found] = []


def found(result: int | str, changes: Changes | None = None):
    def enter(build: Callable[[World, Value], object]) -> Callable[[World, Value], object]:
        FOUND.append(Found(build.__name__, build, result, changes))
        return build

    return enter


def ioas_of(w: World, context: Value) -> Value:
    return w.out(w.command("IOAS_ALLOC", context), "out_id")


def map_at(w: World, context: Value, ioas: Value, va: int, length: int, iova: int, flags: int = 7) -> None:
    w.command("IOAS_MAP", context, flags=flags, ioas=ioas, va=va, length=length, iova=iova)


@found(0, {0x18: "efbeedfe0000000009", DATA: "00000000efbeadde"})
def hw_info_says_that_ats_is_not_supported(w, context):
    device = w.command("MOCK_DOMAIN", context, id=ioas_of(w, context))
    w.command("GET_HW_INFO", context, dev=w.out(device, "out_dev"), len=8, ptr=SCRATCH + DATA)


@found(0)
def the_command_is_an_unsigned_int(w, context):
    w.command("MD_CHECK_REFS", context, length=PAGE, ptr=SCATTERED, number=0x1_0000_3BA0)


@found("EIO")
def pins_are_compared_page_by_page(w, context):
    w.command("MD_CHECK_REFS", context, length=2 * PAGE, ptr=SINGLE, refs=1)


@found("EFAULT", {END - 8: "00" * 8})
def what_can_be_written_in_front_of_a_hole_is(w, context):
    ioas = ioas_of(w, context)
    map_at(w, context, ioas, SCATTERED, PAGE, 0x20000000)
    access = w.out(w.command("CREATE_ACCESS", context, id=ioas), "out_fd")
    w.command("ACCESS_RW", context, id=access, iova=0x20000000, length=100, ptr=SCRATCH + END - 8)


@found("EFAULT", {END - 1: "00"})
def ranges_too(w, context):
    w.command("IOAS_IOVA_RANGES", context, ioas=ioas_of(w, context), n=1, ptr=SCRATCH + END - 1)


@found(0, {0x38: "02"})
def dirty_bits_of_what_is_not_mapped_count(w, context):
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    hwpt = w.out(w.command("HWPT_ALLOC", context, flags=2, dev=w.out(device, "out_dev"), pt=ioas), "out_id")
    w.command("HWPT_SET_DIRTY_TRACKING", context, flags=1, hwpt=hwpt)
    bits = [(DATA, b"\x05")]
    w.command("DIRTY", context, bits, id=hwpt, iova=0x20000000, length=3 * PAGE, page=PAGE, ptr=SCRATCH + DATA)


@found(0, {3 * PAGE - 8: "ff" * 8})
def dirty_bits_in_front_of_a_page_that_cannot_be_written(w, context):
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    hwpt = w.out(w.command("HWPT_ALLOC", context, flags=2, dev=w.out(device, "out_dev"), pt=ioas), "out_id")
    w.sequence.flags = WITH_HUGE
    map_at(w, context, ioas, HUGE, HUGE_SIZE, 0x20000000)
    w.command("HWPT_SET_DIRTY_TRACKING", context, flags=1, hwpt=hwpt)
    w.command("DIRTY", context, [(DATA, b"\x01")], id=hwpt, iova=0x20000000, length=PAGE, page=PAGE, ptr=SCRATCH + DATA)
    at = READ_ONLY - 8
    clean = [(at, bytes(8))]
    w.command(
        "HWPT_GET_DIRTY_BITMAP",
        context,
        clean,
        hwpt=hwpt,
        iova=0x20000000,
        length=HUGE_SIZE,
        page=PAGE,
        ptr=SCRATCH + at,
    )


@found("EINVAL")
def what_no_page_table_takes_is_not_paid_for(w, context):
    w.sequence.flags = WITHOUT_IPC_LOCK  # and no page may be locked
    ioas = ioas_of(w, context)
    w.command("MOCK_DOMAIN", context, id=ioas)
    w.command("VFIO_IOAS", context, ioas=ioas, op=1)
    w.command("VFIO_MAP_DMA", context, flags=0, va=SCATTERED, iova=0x20000000, length=PAGE)


@found("ENOENT")
def cache_of_what_is_no_device(w, context):
    w.command("DEV_CHECK_CACHE", context, id=ioas_of(w, context))


@found("ENOENT")
def event_of_what_is_no_device(w, context):
    w.command("TRIGGER_VEVENT", context, dev=ioas_of(w, context))


@found("ENOMEM")
def a_descriptor_is_wanted_before_the_ioas_is_looked_up(w, context):
    w.step("limit", "limit", a=7, b=6)
    w.command("CREATE_ACCESS", context, id=1234)


@found("EINVAL")
def files_have_the_limit_of_memory(w, context):
    w.command("IOAS_MAP_FILE", context, flags=5, ioas=ioas_of(w, context), fd=FILE, length=U64 - PAGE + 1)


@found("EOVERFLOW")
def pages_that_cannot_be_counted(w, context):
    length = U64 - PAGE
    w.command("IOAS_MAP_FILE", context, flags=5, ioas=ioas_of(w, context), fd=FILE, start=5, length=length)


@found("EOVERFLOW")
def the_last_page_of_all_cannot_be_pinned(w, context):
    ioas = ioas_of(w, context)
    w.command("MOCK_DOMAIN", context, id=ioas)
    map_at(w, context, ioas, U64 - PAGE + 1, 2048, 0x20000000)


@found("EOVERFLOW")
def the_last_page_of_all_cannot_be_looked_up(w, context):
    ioas = ioas_of(w, context)
    map_at(w, context, ioas, SCATTERED, PAGE, 0x20000000)
    access = w.out(w.command("CREATE_ACCESS", context, id=ioas, flags=1), "out_fd")
    w.command("ACCESS_PAGES", context, id=access, iova=0x20000000, length=PAGE, ptr=U64 - 7)


@found("EBADE")
def pinned_pages_are_compared_one_by_one(w, context):
    ioas = ioas_of(w, context)
    map_at(w, context, ioas, SCATTERED, 2 * PAGE, 0x20000000)
    access = w.out(w.command("CREATE_ACCESS", context, id=ioas, flags=1), "out_fd")
    w.command("ACCESS_PAGES", context, id=access, iova=0x20000000, length=2 * PAGE, ptr=SINGLE)


@found("EINVAL")
def translations_are_compared_one_by_one(w, context):
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    map_at(w, context, ioas, SCATTERED, 2 * PAGE, 0x20000000)
    hwpt = w.out(device, "out_hwpt")
    w.command("MD_CHECK_MAP", context, id=hwpt, iova=0x20000000, length=2 * PAGE, ptr=SINGLE)


@found("ENOMEM")
def a_hw_queues_table_comes_first(w, context):
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    parent = w.out(w.command("HWPT_ALLOC", context, flags=1, dev=w.out(device, "out_dev"), pt=ioas), "out_id")
    viommu = w.command("VIOMMU_ALLOC", context, type=0xDEADBEEF, dev=w.out(device, "out_dev"), hwpt=parent)
    map_at(w, context, ioas, SCATTERED + 2048, 2048, 0x20000800)  # an access that pins cannot join
    w.command(
        "HW_QUEUE_ALLOC", context, viommu=w.out(viommu, "out_id"), type=0xDEADBEEF, iova=0x20000000, length=1 << 62
    )


def queues(w: World, context: Value, program: str) -> None:
    """HW queues by index: "+0" makes one, "-0" destroys the last made so."""
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    parent = w.out(w.command("HWPT_ALLOC", context, flags=1, dev=w.out(device, "out_dev"), pt=ioas), "out_id")
    map_at(w, context, ioas, SCATTERED, PAGE, 0x20000000)
    step = w.command("VIOMMU_ALLOC", context, type=0xDEADBEEF, dev=w.out(device, "out_dev"), hwpt=parent)
    viommu, made = w.out(step, "out_id"), {}
    for what, index in program.split():
        if what == "-":
            w.command("DESTROY", context, id=made[index])
            continue
        step = w.command(
            "HW_QUEUE_ALLOC",
            context,
            viommu=viommu,
            type=0xDEADBEEF,
            index=int(index),
            iova=0x20000000,
            length=PAGE,
        )
        made[index] = w.out(step, "out_id")


def viommu_of(w: World, context: Value) -> Value:
    ioas = ioas_of(w, context)
    device = w.command("MOCK_DOMAIN", context, id=ioas)
    parent = w.out(w.command("HWPT_ALLOC", context, flags=1, dev=w.out(device, "out_dev"), pt=ioas), "out_id")
    step = w.command("VIOMMU_ALLOC", context, type=0xDEADBEEF, dev=w.out(device, "out_dev"), hwpt=parent)
    return w.out(step, "out_id")


@found("ENOMEM", {})
def more_invalidations_than_one_piece_of_memory_holds(w, context):
    many = {"type": 0xDEADBEEF, "len": 12, "n": 0x80000}
    w.command("HWPT_INVALIDATE", context, hwpt=viommu_of(w, context), ptr=SCRATCH + DATA, **many)


@found("EFAULT", {0x18: "00"})
def all_invalidations_are_read_before_the_first_is_done(w, context):
    at = END - 12
    entry = [(at, bytes(4) + b"\x07" + bytes(7))]  # one that would be EINVAL
    many = {"type": 0xDEADBEEF, "len": 12, "n": 2}
    w.command("HWPT_INVALIDATE", context, entry, hwpt=viommu_of(w, context), ptr=SCRATCH + at, **many)


@found("EEXIST")
def a_place_that_is_taken_decides_before_the_file(w, context):
    w.step("mmap", "mmap", fd=context, a=SCATTERED, b=PAGE, c=3 | 0x100011 << 8)


@found("EEXIST")
def the_mocks_second_hw_queue_is_never_free_again(w, context):
    queues(w, context, "+0 +1 -1 -0 +0 +1")


@found(0)
def the_mocks_first_hw_queue_is_free_when_the_second_goes(w, context):
    queues(w, context, "+0 +1 -1 +0")
