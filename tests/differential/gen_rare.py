# SPDX-License-Identifier: Apache-2.0
"""Short scenes for what chance alone hardly brings about."""

from __future__ import annotations

import struct

from .actions import action
from .gen_devices import NEST_PARENT, PASID, attach, hwpt_data, replace_by
from .gen_ioas import FIXED, READ, WRITE, choose_fixed
from .gen_ranges import ranges
from .gen_viommu import SELFTEST, SELFTEST_EVENT
from .layout import DATA, FILE, PAGE, SCATTERED, SCRATCH, U64
from .world import Device, Fault, Hwpt, Ioas, Vdevice, Veventq, Viommu, World

NOFILE = 7


def new_ioas(w: World, context) -> Ioas:
    step = w.command("IOAS_ALLOC", context)
    return w.add(Ioas("ioas", w.out(step, "out_id"), context))


def new_device(w: World, pt: Ioas | Hwpt, flags: int = 0) -> Device:
    step = w.command("MOCK_DOMAIN_FLAGS", pt.context, id=pt.id, dev_flags=flags)
    device = Device("device", w.out(step, "out_stdev"), pt.context, device=w.out(step, "out_dev"))
    device.has_pasid = bool(flags & 4)
    device.hwpt = w.out(step, "out_hwpt")
    attach(device, pt)
    return w.add(device)


def new_hwpt(w: World, device: Device, ioas: Ioas, flags: int) -> Hwpt:
    step = w.command("HWPT_ALLOC", ioas.context, flags=flags, dev=device.device, pt=ioas.id)
    ioas.users += 1
    ioas.domains += 1
    return w.add(Hwpt("hwpt", w.out(step, "out_id"), ioas.context, ioas=ioas, flags=flags))


def new_nested(w: World, device: Device, parent: Hwpt | Viommu, flags: int, fault: Fault | None) -> Hwpt:
    fields, blobs = hwpt_data(w, w.rng.getrandbits(32), False)
    if fault:
        fields["fault"] = fault.id
        fault.users += 1
        flags |= 4
    step = w.command("HWPT_ALLOC", device.context, blobs, flags=flags, dev=device.device, pt=parent.id, **fields)
    parent.users += 1
    viommu = parent if isinstance(parent, Viommu) else None
    h = Hwpt("hwpt", w.out(step, "out_id"), device.context, flags=flags & PASID, nested=True, viommu=viommu)
    h.parent = parent if isinstance(parent, Hwpt) else None
    h.fault = fault
    h.ioas = parent.hwpt.ioas if viommu else parent.ioas
    return w.add(h)


@action(nested=1.2, viommu=0.3, pasid=0.3, all=0.01)
def fault_scene(w: World):
    """A device whose page table has a fault queue, faults, and their answers."""
    context = w.rng.choice(w.fds)
    ioas = new_ioas(w, context)
    device = new_device(w, ioas, w.rng.choice([0, 4]))
    parent = new_hwpt(w, device, ioas, NEST_PARENT)
    step = w.command("FAULT_QUEUE_ALLOC", context)
    fault = w.add(Fault("fault", w.out(step, "out_id"), context, fd=w.out(step, "out_fd")))
    nested = new_nested(w, device, parent, w.rng.choice([0, PASID]), fault)
    replace_by(w, device, nested)
    for _ in range(w.rng.randrange(1, 6)):
        pasid, perm = w.rng.choice([0, 1, 2]), w.rng.randrange(16)
        address = w.rng.getrandbits(40)
        w.command(
            "TRIGGER_IOPF", context, dev=device.device, pasid=pasid, group=w.rng.randrange(3), perm=perm, addr=address
        )
        fault.waiting += 1
    n = w.rng.choice([1, 1, 2, 6])
    at = SCRATCH + w.rng.choice([DATA] * 5 + [3 * PAGE, 5 * PAGE - 60, 5 * PAGE - 20])
    w.step("read", "FAULT_READ", fd=fault.fd, a=at, b=w.rng.choice([n * 40, n * 40, n * 40, 0]))
    fault.cookies += min(n, fault.waiting)
    fault.waiting -= min(n, fault.waiting)
    data = struct.pack("<II", 1, w.rng.choice([0, 1])) + struct.pack(
        "<II", w.rng.choice([1, 2, 9]), w.rng.choice([0, 1, 1, 3])
    )
    step = w.step("write", "FAULT_WRITE", fd=fault.fd, a=SCRATCH + DATA, b=w.rng.choice([8, 8, 16]))
    step.blobs = [(DATA, data)]
    return step


@action(viommu=1.5, all=0.01)
def event_scene(w: World):
    """A device behind a vIOMMU with an event queue, and events until some are lost."""
    context = w.rng.choice(w.fds)
    ioas = new_ioas(w, context)
    device = new_device(w, ioas)
    parent = new_hwpt(w, device, ioas, NEST_PARENT)
    step = w.command("VIOMMU_ALLOC", context, type=SELFTEST, dev=device.device, hwpt=parent.id)
    parent.users += 1
    viommu = w.add(Viommu("viommu", w.out(step, "out_id"), context, hwpt=parent, device=device))
    virt = w.rng.choice([1, 7, 0x1_0000_0001])
    step = w.command("VDEVICE_ALLOC", context, viommu=viommu.id, dev=device.device, virt=virt)
    device.vdevice = w.add(Vdevice("vdevice", w.out(step, "out_id"), context, viommu=viommu, device=device, virt=virt))
    viommu.users += 1
    viommu.virt_ids.add(virt)
    replace_by(w, device, new_nested(w, device, viommu, 0, None))
    if w.chance(0.3):
        w.command("TRIGGER_VEVENT", context, dev=device.device)
    depth = w.rng.choice([1, 2, 3, 10])
    step = w.command("VEVENTQ_ALLOC", context, viommu=viommu.id, type=SELFTEST_EVENT, depth=depth)
    viommu.users += 1
    viommu.veventq = True
    queue = w.add(Veventq("veventq", w.out(step, "out_id"), context, viommu=viommu, fd=w.out(step, "out_fd")))
    for _ in range(w.rng.randrange(1, 5)):
        w.command("TRIGGER_VEVENT", context, dev=device.device)
    if w.chance(0.2):
        step = w.step("write", "VEVENTQ_WRITE", fd=queue.fd, a=SCRATCH + DATA, b=w.rng.choice([8, 0]))
    at = SCRATCH + w.rng.choice([DATA] * 5 + [3 * PAGE, 5 * PAGE - 16, 5 * PAGE - 4])
    return w.step("read", "VEVENTQ_READ", fd=queue.fd, a=at, b=w.rng.choice([12, 24, 36, 8, 20, 100]))


@action(pasid=0.8)
def pasid_scene(w: World):
    """The PASID whose second page table fails, and others."""
    context = w.rng.choice(w.fds)
    ioas = new_ioas(w, context)
    device = new_device(w, ioas, 4)
    tables = [new_hwpt(w, device, ioas, PASID) for _ in range(2)]
    replace_by(w, device, tables[0])
    pasid = w.rng.choice([1024, 1024, 5])
    w.command("PASID_ATTACH", context, id=device.id, pasid=pasid, pt=tables[0].id)
    device.pasids[pasid] = tables[0]
    tables[0].users += 1
    if w.chance(0.6):  # none that it could share with the PASID
        w.command("MOCK_DOMAIN_REPLACE", context, id=device.id, pt=ioas.id)
    if w.chance(0.5):
        w.command("PASID_DETACH", context, id=device.id, pasid=pasid)
        return w.command("PASID_ATTACH", context, id=device.id, pasid=pasid, pt=tables[1].id)
    return w.command("PASID_REPLACE", context, id=device.id, pasid=pasid, pt=tables[1].id)


@action(viommu=0.7)
def hw_queue_scene(w: World):
    """HW queues that cannot be, for each reason."""
    found = [v for v in w.all("viommu") if not v.queues]
    if not found:
        return None
    v = w.rng.choice(found)
    ioas = v.hwpt.ioas
    iova = choose_fixed(w, ioas, 2 * PAGE, 0)
    flags = FIXED | w.rng.choice([READ, WRITE, READ | WRITE])
    w.command("IOAS_MAP", v.context, flags=flags, ioas=ioas.id, va=SCATTERED, length=2 * PAGE, iova=iova)
    step = None
    for index in w.rng.choice([(1,), (0, 0), (0,), (2,)]):
        where = w.rng.choice([iova, iova, iova + 8, U64 - 4096, 1 << 62])
        length = w.rng.choice([PAGE, PAGE, 16, 2 * PAGE, U64, U64 - iova, 0])
        step = w.command(
            "HW_QUEUE_ALLOC", v.context, viommu=v.id, type=SELFTEST, index=index, iova=where, length=length
        )
        w.command("IOAS_UNMAP", v.context, ioas=ioas.id, iova=iova, length=2 * PAGE)
    return step


@action(viommu=0.4)
def locked_scene(w: World):
    """The container's UNMAP of what a HW queue has."""
    found = [q for q in w.all("hw_queue") if q.context == w.fds[0]]
    if not found:
        return None
    ioas = w.rng.choice(found).viommu.hwpt.ioas
    w.command("VFIO_IOAS", w.fds[0], ioas=ioas.id, op=1)
    w.compat = ioas
    iova = w.rng.choice([m.iova for m in ioas.mappings if m.pins] or [0x20000000])
    return w.command("VFIO_UNMAP_DMA", w.fds[0], iova=iova, length=w.rng.choice([PAGE, 1 << 24]))


@action(all=0.05, nested=0.2, viommu=0.2)
def out_of_files(w: World):
    """No descriptor is left."""
    context = w.fds[0]
    w.step("limit", "limit", a=NOFILE, b=w.rng.choice([3, 6, 7, 8]))
    if viommu := w.some("viommu", veventq=False):
        w.command("VEVENTQ_ALLOC", viommu.context, viommu=viommu.id, type=SELFTEST_EVENT, depth=4)
    w.command("FAULT_QUEUE_ALLOC", context)
    if ioas := w.some("ioas"):
        w.command("CREATE_ACCESS", ioas.context, id=ioas.id)
    w.command("DMABUF_GET", context, length=PAGE)
    return w.step("limit", "limit", a=NOFILE, b=256)


@action(maps=0.3, access=0.4, all=0.02)
def reserved_scene(w: World):
    """Reserved ranges against allowed ranges, mappings and odd alignments."""
    ioas = new_ioas(w, w.rng.choice(w.fds))
    start = w.rng.choice([0x10000, 0x40000000])
    scene = w.rng.randrange(4)
    if scene == 0:
        w.command("ADD_RESERVED", ioas.context, id=ioas.id, start=start, length=w.rng.choice([PAGE, U64, U64 - start]))
        data = ranges((start - PAGE, start + 5))
        return w.command("IOAS_ALLOW_IOVAS", ioas.context, [(DATA, data)], ioas=ioas.id, n=1, ptr=SCRATCH + DATA)
    if scene == 1:
        data = ranges((start, start + PAGE))
        w.command("IOAS_ALLOW_IOVAS", ioas.context, [(DATA, data)], ioas=ioas.id, n=1, ptr=SCRATCH + DATA)
        w.command("ADD_RESERVED", ioas.context, id=ioas.id, start=start + 7, length=U64 - w.rng.choice([0, start]))
        w.command(
            "IOAS_MAP", ioas.context, flags=READ, ioas=ioas.id, va=SCATTERED, length=w.rng.choice([PAGE, 2 * PAGE])
        )
        return w.command("MOCK_DOMAIN", ioas.context, id=ioas.id)
    w.command("IOAS_MAP", ioas.context, flags=READ, ioas=ioas.id, va=SCATTERED + 512, length=512)
    if scene == 2:
        w.command("CREATE_ACCESS", ioas.context, id=ioas.id, flags=1)
        return w.command("OPTION", ioas.context, option=1, op=0, object=ioas.id, value=0)
    if access := w.some("access", context=ioas.context):
        w.command("ACCESS_REPLACE_IOAS", access.context, id=access.id, ioas=ioas.id)
    return w.command("HWPT_ALLOC", ioas.context, dev=5, pt=ioas.id)


@action(all=0.04, vfio=0.4)
def without_container(w: World):
    """The container's commands while no IOAS is behind them."""
    w.compat = None
    w.command("VFIO_IOAS", w.fds[0], op=2)
    w.command("VFIO_IOAS", w.fds[0], op=0)
    w.command("VFIO_MAP_DMA", w.fds[0], flags=3, va=SCATTERED, iova=0x10000000, length=PAGE)
    w.command("VFIO_UNMAP_DMA", w.fds[0], iova=0x10000000, length=PAGE)
    return w.command("VFIO_GET_INFO", w.fds[0])


@action(all=0.04, maps=0.1)
def option_edges(w: World):
    return w.command(
        "OPTION", w.rng.choice(w.fds), option=0, op=0, value=w.rng.choice([0, 1, 2]), object=w.rng.choice([0, 0, 1])
    )


@action(files=0.5, all=0.01)
def file_edges(w: World):
    """Lengths and starts that a file cannot have."""
    if not (ioas := w.some("ioas")):
        return None
    fd = w.rng.choice([FILE, -1, *(d.id for d in w.all("dmabuf"))])
    length = w.rng.choice([U64 - 1, U64 - PAGE + 1, U64 - PAGE, U64 - 2 * PAGE, 1 << 62, 1 << 45, 0, 5])
    start = w.rng.choice([0, 0, 1, PAGE, U64, 5])
    flags = READ | w.rng.choice([0, FIXED])
    return w.command(
        "IOAS_MAP_FILE", ioas.context, flags=flags, ioas=ioas.id, fd=fd, start=start, length=length, iova=0
    )


@action(vfio=0.5)
def cut_scene(w: World):
    """Mappings that the type 1 container cuts, or may not."""
    ioas = new_ioas(w, w.fds[0])
    w.command("VFIO_IOAS", w.fds[0], ioas=ioas.id, op=1)
    w.compat = ioas
    w.step("ioctl", "VFIO_SET_IOMMU", fd=w.fds[0], a=w.rng.choice([1, 1, 3]), b=0x3B66)
    device = w.rng.random()
    if device < 0.4:
        w.command("MOCK_DOMAIN", w.fds[0], id=ioas.id)
    iova, length = 0x30000000, 8 * PAGE
    w.command("VFIO_MAP_DMA", w.fds[0], flags=3, va=SCATTERED, iova=iova, length=length)
    if 0.4 <= device < 0.6:
        w.command("MOCK_DOMAIN", w.fds[0], id=ioas.id)
    for _ in range(3):
        first = iova + w.rng.randrange(8) * PAGE + w.rng.choice([0, 0, 0, 1, 2048])
        size = w.rng.choice([PAGE, 2 * PAGE, 3 * PAGE, 1, 2048])
        w.command("VFIO_UNMAP_DMA", w.fds[0], iova=first, length=size)
    w.command("VFIO_GET_INFO", w.fds[0], size=120)
    return w.command("IOAS_UNMAP", w.fds[0], ioas=ioas.id, iova=0, length=U64)
