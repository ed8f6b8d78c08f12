# SPDX-License-Identifier: Apache-2.0
"""Mock devices, page tables, attaching."""

from __future__ import annotations

import struct

from .actions import action
from .layout import DATA, PAGE, SCATTERED, SCATTERED_PAGES, SCRATCH, SINGLE
from .world import Device, Hwpt, Ioas, World

NEST_PARENT, DIRTY, FAULT_VALID, PASID = 1, 2, 4, 8
SELFTEST_DATA = 0xDEAD
NO_DIRTY_DEVICE, PASID_DEVICE = 1, 4


def attach(device: Device, pt: Hwpt | Ioas) -> None:
    leave(device)
    device.pt = pt
    if isinstance(pt, Hwpt):
        pt.users += 1
    else:
        pt.users += 1
        pt.domains += 1


def leave(device: Device) -> None:
    if device.pt is None:
        return
    device.pt.users -= 1
    if isinstance(device.pt, Ioas):
        device.pt.domains -= 1
    device.pt = None


def targets(w: World, device: Device | None, no_dirty: bool = False) -> list[Hwpt | Ioas]:
    """What the requester id of a device can be attached to."""
    found = [i for i in w.all("ioas") if i.fits or w.chance(0.04)]
    for h in w.all("hwpt"):
        if h.viommu and not (device and device.vdevice and device.vdevice.viommu is h.viommu):
            continue
        if h.flags & DIRTY and no_dirty:
            continue
        if device and device.pasids and not h.flags & PASID and w.chance(0.85):
            continue
        found.append(h)
    return found


@action(all=1, devices=3, dirty=1)
def mock_domain(w: World):
    if len(w.all("device")) > 4:
        return None
    flags = w.rng.choice(
        [None, None, None, 0, NO_DIRTY_DEVICE, PASID_DEVICE, PASID_DEVICE, PASID_DEVICE | NO_DIRTY_DEVICE]
    )
    no_dirty = bool(flags and flags & NO_DIRTY_DEVICE)
    found = targets(w, None, no_dirty)
    if not found:
        return None
    pt = w.rng.choice(found)
    if flags is None:
        step = w.command("MOCK_DOMAIN", pt.context, id=pt.id)
    else:
        step = w.command("MOCK_DOMAIN_FLAGS", pt.context, id=pt.id, dev_flags=flags)
    device = Device("device", w.out(step, "out_stdev"), pt.context, device=w.out(step, "out_dev"), no_dirty=no_dirty)
    device.has_pasid = bool(flags and flags & PASID_DEVICE)
    device.hwpt = w.out(step, "out_hwpt")
    attach(device, pt)
    return w.add(device)


@action(all=0.3, devices=2, nested=1, viommu=1, pasid=1.5)
def replace(w: World):
    if not (device := w.some("device")):
        return None
    found = [t for t in targets(w, device, device.no_dirty) if t.context == device.context]
    if device.pasids and w.chance(0.9):
        found = [t for t in found if isinstance(t, Hwpt)]
    if not found:
        return None
    return replace_by(w, device, preferred(w, found))


def preferred(w: World, found: list):
    """Page tables from which faults and events come are worth more."""
    busy = [t for t in found if isinstance(t, Hwpt) and (t.fault or t.viommu)]
    return w.rng.choice(busy) if busy and w.chance(0.6) else w.rng.choice(found)


def replace_by(w: World, device: Device, pt: Hwpt | Ioas):
    step = w.command("MOCK_DOMAIN_REPLACE", device.context, id=device.id, pt=pt.id)
    device.hwpt = w.out(step, "pt")
    attach(device, pt)
    return step


@action(all=0.2, devices=1)
def destroy_device(w: World):
    if not (device := w.some("device")) or (len(w.all("device")) < 2 and w.chance(0.7)):
        return None
    for pasid in list(device.pasids):
        detach_pasid(w, device, pasid)
    step = w.command("DESTROY", device.context, id=device.id)
    leave(device)
    if device.vdevice:
        device.vdevice.viommu.users -= 1
        device.vdevice.viommu.virt_ids.discard(device.vdevice.virt)
        w.end(device.vdevice)
    w.end(device)
    return step


def detach_pasid(w: World, device: Device, pasid: int):
    hwpt = device.pasids.pop(pasid)
    hwpt.users -= 1
    return w.command("PASID_DETACH", device.context, id=device.id, pasid=pasid)


def hwpt_data(w: World, iotlb: int, huge: bool) -> tuple[dict, list]:
    length = 8 if huge or w.chance(0.5) else 4
    data = struct.pack("<II", iotlb, int(huge))[:length]
    return {"type": SELFTEST_DATA, "len": length, "ptr": SCRATCH + DATA}, [(DATA, data)]


@action(all=0.5, devices=2, dirty=2, nested=1, viommu=1, pasid=2)
def hwpt_alloc(w: World):
    if not (device := w.some("device")) or len(w.all("hwpt")) > 8:
        return None
    ioas = w.some("ioas", context=device.context)
    if not ioas or not (ioas.fits or w.chance(0.04)):
        return None
    flags = w.rng.choice([0, NEST_PARENT, DIRTY, NEST_PARENT | PASID, PASID, PASID, DIRTY | PASID, NEST_PARENT | DIRTY])
    if device.no_dirty:
        flags &= ~DIRTY
    huge = w.chance(0.08)
    fields, blobs = hwpt_data(w, 0, huge) if huge or w.chance(0.1) else ({}, [])
    fault = w.some("fault", context=device.context) if not flags & NEST_PARENT and w.chance(0.2) else None
    if fault:
        fields["fault"] = fault.id
        fault.users += 1
    step = w.command(
        "HWPT_ALLOC",
        device.context,
        blobs,
        flags=flags | (FAULT_VALID if fault else 0),
        dev=device.device,
        pt=ioas.id,
        **fields,
    )
    ioas.users += 1
    ioas.domains += 1
    hwpt = Hwpt("hwpt", w.out(step, "out_id"), device.context, ioas=ioas, flags=flags, huge=huge, fault=fault)
    return w.add(hwpt)


@action(all=0.1, nested=4, viommu=3, pasid=1)
def hwpt_nested(w: World):
    if not (device := w.some("device")) or len(w.all("hwpt")) > 8:
        return None
    viommu = w.some("viommu", context=device.context) if w.chance(0.6) else None
    parents = [h for h in w.all("hwpt") if h.flags & NEST_PARENT and h.context == device.context and not h.nested]
    if not viommu and not parents:
        return None
    parent = None if viommu else w.rng.choice(parents)
    fields, blobs = hwpt_data(w, w.rng.choice([0xBADBEEF, 0, w.rng.getrandbits(32)]), False)
    flags = w.rng.choice([0, 0, PASID])
    fault = w.some("fault", context=device.context) if w.chance(0.6) else None
    if fault:
        fields["fault"] = fault.id
        fault.users += 1
    step = w.command(
        "HWPT_ALLOC",
        device.context,
        blobs,
        flags=flags | (FAULT_VALID if fault else 0),
        dev=device.device,
        pt=(viommu or parent).id,
        **fields,
    )
    (viommu or parent).users += 1
    hwpt = Hwpt("hwpt", w.out(step, "out_id"), device.context, flags=flags, nested=True, viommu=viommu, parent=parent)
    hwpt.fault = fault
    hwpt.ioas = (parent or viommu.hwpt).ioas
    return w.add(hwpt)


@action(all=0.2)
def destroy_hwpt(w: World):
    free = [h for h in w.all("hwpt") if not h.users]
    if not free or len(w.all("hwpt")) < 3:
        return None
    h = w.rng.choice(free)
    step = w.command("DESTROY", h.context, id=h.id)
    if h.nested:
        (h.viommu or h.parent).users -= 1
    elif h.ioas:
        h.ioas.users -= 1
        h.ioas.domains -= 1
    if h.fault:
        h.fault.users -= 1
    w.end(h)
    return step


@action(all=0.15, devices=0.6)
def hw_info(w: World):
    if not (device := w.some("device")):
        return None
    flags = w.rng.choice([0, 0, 1])
    kind = w.rng.choice([0, 0xFEEDBEEF]) if flags else w.rng.choice([0, 5])
    return w.command(
        "GET_HW_INFO",
        device.context,
        flags=flags,
        dev=device.device,
        len=w.rng.choice([0, 4, 8, 8, 8, 24, 100]),
        ptr=SCRATCH + DATA,
        type=kind,
    )


@action(all=0.3, devices=1, maps=1, files=2)
def check_map(w: World):
    found = [(h, m) for h in paging_tables(w) for m in h[1].mappings if m.source >= 0 and m.flags & 6]
    found = [(h, m) for h, m in found if m.length % 2048 == 0 and m.source % 2048 == 0]
    if not found:
        return None
    (hwpt, ioas), m = w.rng.choice(found)
    return w.command("MD_CHECK_MAP", ioas.context, id=hwpt, iova=m.iova, length=min(m.length, 32 * PAGE), ptr=m.source)


def paging_tables(w: World) -> list[tuple]:
    """(id, IOAS) of every paging page table: those made by hand, and the automatic ones that devices told."""
    found = [(h.id, h.ioas) for h in w.all("hwpt") if not h.nested]
    found += [(d.hwpt, d.pt) for d in w.all("device") if isinstance(d.pt, Ioas)]
    return found


@action(all=0.3, maps=1, account=1, access=1)
def check_refs(w: World):
    at = w.rng.choice([SCATTERED + w.rng.randrange(SCATTERED_PAGES) * PAGE, SINGLE, SINGLE + 2 * PAGE])
    step = None
    for refs in range(w.rng.choice([2, 3])):  # one of them is right, most of the time
        step = w.command("MD_CHECK_REFS", w.fds[0], length=PAGE, ptr=at, refs=refs)
    return step
