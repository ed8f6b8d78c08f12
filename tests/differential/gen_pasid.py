# SPDX-License-Identifier: Apache-2.0
"""PASIDs of devices."""

from __future__ import annotations

from .actions import action
from .gen_devices import PASID, detach_pasid
from .world import Device, Hwpt, Ioas, World


def pasid_tables(w: World, device: Device) -> list[Hwpt]:
    found = [h for h in w.all("hwpt") if h.flags & PASID and h.context == device.context]
    return [h for h in found if not h.viommu or (device.vdevice and device.vdevice.viommu is h.viommu)]


def pasid_device(w: World):
    found = [d for d in w.all("device") if d.has_pasid and (not isinstance(d.pt, Hwpt) or d.pt.flags & PASID)]
    found = [d for d in found if not isinstance(d.pt, Ioas)]
    return w.rng.choice(found) if found else None


@action(pasid=5, all=0.05)
def pasid_attach(w: World):
    if not (device := pasid_device(w)) or not (tables := pasid_tables(w, device)) or len(device.pasids) > 5:
        return None
    pasid = w.rng.choice([1, 2, 100, 1000, 1024, (1 << 20) - 1])
    hwpt = w.rng.choice(tables)
    step = w.command("PASID_ATTACH", device.context, id=device.id, pasid=pasid, pt=hwpt.id)
    if pasid not in device.pasids:
        device.pasids[pasid] = hwpt
        hwpt.users += 1
    return step


@action(pasid=4)
def pasid_replace(w: World):
    found = [d for d in w.all("device") if d.pasids]
    if not found:
        return None
    device = w.rng.choice(found)
    if not (tables := pasid_tables(w, device)):
        return None
    pasid, hwpt = w.rng.choice(list(device.pasids)), w.rng.choice(tables)
    step = w.command("PASID_REPLACE", device.context, id=device.id, pasid=pasid, pt=hwpt.id)
    device.pasids[pasid].users -= 1
    device.pasids[pasid] = hwpt
    hwpt.users += 1
    return step


@action(pasid=3)
def pasid_detach(w: World):
    found = [d for d in w.all("device") if d.pasids]
    if not found:
        return None
    device = w.rng.choice(found)
    return detach_pasid(w, device, w.rng.choice(list(device.pasids)))


@action(pasid=3)
def pasid_check(w: World):
    found = [d for d in w.all("device") if d.pasids]
    if not found:
        return None
    device = w.rng.choice(found)
    pasid = w.rng.choice([*device.pasids, 7])
    hwpt = device.pasids[pasid].id if pasid in device.pasids else 0
    return w.command("PASID_CHECK_HWPT", device.context, id=device.id, pasid=pasid, hwpt=hwpt)
