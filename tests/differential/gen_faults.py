# SPDX-License-Identifier: Apache-2.0
"""Fault queues: faults, reading and answering them."""

from __future__ import annotations

import struct

from .actions import action
from .layout import DATA, PAGE, SCRATCH
from .world import Fault, Hwpt, World


@action(all=0.1, nested=1.5, pasid=0.3, devices=0.3)
def fault_queue(w: World):
    if len(w.all("fault")) > 2:
        return None
    fd = w.rng.choice(w.fds)
    step = w.command("FAULT_QUEUE_ALLOC", fd)
    return w.add(Fault("fault", w.out(step, "out_id"), fd, fd=w.out(step, "out_fd")))


@action(nested=4, pasid=0.5, viommu=0.5, devices=0.2)
def trigger_fault(w: World):
    handled = [d for d in w.all("device") if isinstance(d.pt, Hwpt) and d.pt.fault]
    device = w.rng.choice(handled) if handled and w.chance(0.9) else w.some("device")
    if not device:
        return None
    if device in handled and device.pt.fault:
        device.pt.fault.waiting += 1
    return w.command(
        "TRIGGER_IOPF",
        device.context,
        dev=device.device,
        pasid=w.rng.choice([0, 0, 1, 2, 100, *device.pasids]),
        group=w.rng.randrange(4),
        perm=w.rng.randrange(16),
        addr=w.rng.getrandbits(48),
    )


@action(nested=5, pasid=0.5, devices=0.2)
def read_faults(w: World):
    found = [f for f in w.all("fault") if f.open]
    if not found:
        return None
    f = w.rng.choice(found)
    n = w.rng.choice([0, 1, 1, 1, 2, 3])
    f.cookies += min(n, f.waiting)
    f.waiting -= min(n, f.waiting)
    count = n * 40 if w.chance(0.95) else w.rng.choice([1, 39, 41])
    at = SCRATCH + DATA if w.chance(0.93) else w.rng.choice([SCRATCH + 3 * PAGE, SCRATCH + 5 * PAGE - 60])
    w.step("poll", "poll", fd=f.fd, b=5)
    return w.step("read", "FAULT_READ", fd=f.fd, a=at, b=count)


@action(nested=3, pasid=0.3)
def answer_faults(w: World):
    found = [f for f in w.all("fault") if f.open and f.cookies]
    if not found:
        return None
    f = w.rng.choice(found)
    n = w.rng.choice([1, 1, 1, 2])
    data = b"".join(
        struct.pack("<II", w.rng.randrange(1, f.cookies + 1), w.rng.choice([0, 0, 1, 1, 1, 2])) for _ in range(n)
    )
    f.cookies -= w.chance(0.5)
    count = len(data) if w.chance(0.95) else w.rng.choice([0, 4, 9])
    at = SCRATCH + DATA if w.chance(0.95) else SCRATCH + 5 * PAGE
    step = w.step("write", "FAULT_WRITE", fd=f.fd, a=at, b=count)
    step.blobs = [(DATA, data)]
    return step


@action(all=0.02, nested=0.3)
def close_fault(w: World):
    found = [f for f in w.all("fault") if f.open]
    if not found or len(found) < 2:
        return None
    f = w.rng.choice(found)
    f.open = False
    return w.step("close", "close", fd=f.fd)


@action(all=0.05, nested=0.5)
def destroy_fault(w: World):
    found = [f for f in w.all("fault") if not f.open and not f.users]
    if not found:
        return None
    f = w.rng.choice(found)
    w.end(f)
    return w.command("DESTROY", f.context, id=f.id)
