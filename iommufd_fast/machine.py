# SPDX-License-Identifier: Apache-2.0
"""Machines: the hardware that contexts are opened on. IOMMUs, groups and devices, all in software."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iommufd_fast._core import machines
from iommufd_fast.errors import check

if TYPE_CHECKING:
    from typing_extensions import Buffer, CapsuleType

    from iommufd_fast._core.heldmemory import HeldMemory
    from iommufd_fast.context import Iommufd
    from iommufd_fast.dmabuf import DmaBuf

_PRESET_NAMES = {number: name for name, number in machines.PRESETS.items()}


@dataclass(frozen=True, slots=True)
class MachineDevice:
    """A device as the machine knew it at one moment.

    Attributes
    ----------
    index, group : int
        Its number and its group's.
    preset, name : str
        "intel", "amd", "arm" or "riscv" ("embedded": behind a driver that C code brought), and "intel-soft-0" or so.
    open : bool
        Whether some context has it open.
    bound : bool
        Whether a context has bound it, and so owns its group's DMA.
    """

    index: int
    group: int
    preset: str
    name: str
    open: bool
    bound: bool


@dataclass(frozen=True, slots=True)
class SoftDevice:
    """What to bind: a free software device of a preset, plugged when there is none, or exactly one by index."""

    preset: str = "intel"
    machine: Machine | None = None
    index: int | None = None

    def __post_init__(self) -> None:
        _choice("preset", self.preset, machines.PRESETS)
        if self.index is not None:
            machines.as_u64(self.index, "index", 0xFFFFFFFE)


@dataclass(frozen=True, slots=True)
class IotlbStats:
    """Counters of all IOTLBs of a machine. `dropped`: invalidations that were ignored because a test asked for it."""

    hits: int
    misses: int
    evictions: int
    invalidations: int
    dropped: int
    entries: int
    live: int


def _choice(name: str, value: object, allowed: dict[str, int]) -> int:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return allowed[value]


class Machine:
    """What contexts are opened on.

    Parameters
    ----------
    preset : {"intel", "amd", "arm", "riscv"}
        Page-table formats, aperture, reserved regions and nesting of its devices; docs/contract.md has the table.
    groups : iterable of int
        How many devices each isolation group has. ``()``: none yet, see `plug`.
    policy : {"trust", "probe", "mlock", "io_uring"}
        How memory is held while it is mapped: taken on trust; checked to be there; locked in memory (mlock counted
        page by page, the program's own locks stay); or pinned for good by io_uring's registered buffers.
    addresses : {"va", "synthetic"}
        What page tables hold: addresses of this process, or made-up ones by which two mappings of one page
        translate alike.
    accounting : {"none", "user", "process", "kernel"}
        Who pays for pinned memory.

    Notes
    -----
    Safe to use from several threads. Closing only drops this handle; open contexts keep the machine alive.
    """

    def __init__(
        self,
        preset: str = "intel",
        *,
        groups: Iterable[int] = (1,),
        policy: str = "trust",
        addresses: str = "va",
        accounting: str = "none",
    ) -> None:
        self.preset = preset
        counts = [machines.as_u64(n, f"groups[{i}]", 0xFFFFFFFF) for i, n in enumerate(groups)]
        if 0 in counts:
            raise ValueError(f"groups[{counts.index(0)}] must be at least 1, not 0")
        numbers = (
            _choice("policy", policy, machines.POLICIES),
            _choice("addresses", addresses, machines.ADDRESSES),
            _choice("accounting", accounting, machines.ACCOUNTING),
        )
        name = f"machine {preset!r} at {id(self):#x}"
        made = machines.create_machine(_choice("preset", preset, machines.PRESETS), counts, *numbers, name, policy)
        if isinstance(made, int) and policy == "io_uring":
            from iommufd_fast.remedies import refused_hold

            raise refused_hold(made, "machine", f"cannot create {name} with policy 'io_uring'", 0)
        self._core: machines.MachineHandle = check(made, "machine", f"cannot create {name}")
        self._plugging = threading.Lock()
        self._synthetic = addresses == "synthetic"

    @property
    def devices(self) -> tuple[MachineDevice, ...]:
        """All devices, by index."""
        return tuple(self._device(i) for i in range(self._core.device_count()))

    @property
    def groups(self) -> tuple[tuple[MachineDevice, ...], ...]:
        """The devices of each group."""
        devices = self.devices
        return tuple(tuple(d for d in devices if d.group == g) for g in range(self._core.group_count()))

    def _device(self, index: int) -> MachineDevice:
        found = check(self._core.device(index), "bind", f"cannot find device {index} of {self._core.name}")
        number, group, preset, name, is_open, bound = found
        return MachineDevice(number, group, _PRESET_NAMES.get(preset, "embedded"), name, is_open, bound)

    def plug(self, preset: str | None = None, group: int | None = None) -> MachineDevice:
        """Add a device: of the machine's preset and in a group of its own, unless told otherwise."""
        name = preset or self.preset
        what = f"cannot plug a device {name!r} into group {group} of {self._core.name}"
        return self._device(check(self._core.plug(_choice("preset", name, machines.PRESETS), group), "plug", what))

    def open(self) -> Iommufd:
        """Open a context on this machine."""
        from iommufd_fast.context import Iommufd

        return Iommufd._open(self)

    def dmabuf(self, size: int) -> DmaBuf:
        """Make memory of a device's own, `size` bytes rounded up to pages, zero, for `Ioas.map_file` to import."""
        from iommufd_fast.dmabuf import DmaBuf

        return DmaBuf._make(self, self._core, machines.as_u64(size, "size"))

    def hold(
        self, memory: Buffer | int, length: int | None = None, *, policy: str | None = None, access: str = "rw"
    ) -> HeldMemory:
        """Hold memory before it is mapped piece by piece.

        Mapping a part of it costs as little as with "trust" then, with the same policy or with "probe".

        Parameters
        ----------
        memory : buffer or int
            A contiguous object with the buffer protocol, which is kept alive, or an address.
        length : int, optional
            Needed for an address; all of an object by default.
        policy : {"trust", "probe", "mlock", "io_uring"}, optional
            The machine's by default.
        access : {"rw", "r"}
            What devices will do. The memory is looked at for that.

        Raises
        ------
        BadAddress
            It is not there, or read-only.
        OutOfMemory
            The limit of locked memory; the sentence says what is needed. ``iommufd-fast limits`` shows it.
        """
        from iommufd_fast._core.heldmemory import HeldMemory, hold_memory

        name = self._core.policy if policy is None else policy
        number = _choice("policy", name, machines.POLICIES)
        writable = _choice("access", access, {"rw": 1, "r": 0})
        made = hold_memory(self._core, memory, length, number, bool(writable), name)
        if isinstance(made, HeldMemory):
            return made
        from iommufd_fast.remedies import refused_hold

        err, address, size = made
        raise refused_hold(err, "map", f"cannot hold {size:#x} bytes at address {address:#x} by {name!r}", size)

    @property
    def capsule(self) -> CapsuleType:
        """A capsule named "struct iof_machine *", for extension modules that bring devices."""
        from iommufd_fast._core.capsules import of_machine

        return of_machine(self._core)

    @property
    def iotlb(self) -> IotlbStats:
        """Counters of the IOTLBs."""
        return IotlbStats(*check(self._core.iotlb(), "machine", f"no IOTLB counters of {self._core.name}"))

    def drop_invalidations(self, drop: bool) -> None:
        """Break the IOMMU, for tests: while set, unmapping does not invalidate what the IOTLB remembers.

        A device may then reach memory after it was unmapped. Only the soft devices of this machine are concerned.
        """
        self._core.drop_invalidations(bool(drop))

    def pins(self, address: int) -> int:
        """How often the page behind an address of this process is pinned (machines with addresses="synthetic")."""
        return check(self._core.pins(address), "pins", f"cannot count pins at address {address:#x}")

    def is_valid(self) -> bool:
        """Re-derive the whole engine's state and compare, for tests. No other thread may call meanwhile."""
        return self._core.is_valid()

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._core.closed

    def close(self) -> None:
        """Drop this handle. Again is fine; contexts stay open."""
        self._core.close()

    def __enter__(self) -> Machine:
        self._core.device_count()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed or self._core.forked:
            return f"<Machine {self.preset!r}, {'closed' if self.closed else 'of the parent process'}>"
        return f"<Machine {self.preset!r}: {self._core.device_count()} devices in {self._core.group_count()} groups>"


_default: Machine | None = None
_default_lock = threading.Lock()


def default_machine() -> Machine:
    """Return the process's default machine, made when first asked for: "intel", without devices until some are bound.

    A forked child gets one of its own.
    """
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = Machine("intel", groups=())
        return _default


def _forget_default() -> None:
    """In a forked child: the parent's machine is not ours, and some thread may have held the lock."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_default)
