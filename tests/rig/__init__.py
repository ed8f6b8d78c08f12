# SPDX-License-Identifier: Apache-2.0
"""An embedder's IOMMU, in C, plugged into a machine of Python's: it has nested page tables, vIOMMUs, faults, events."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import BUILD, CSRC, compiler, run

import iommufd_fast as iof

DATA, INVALIDATE, VIOMMU, EVENT, QUEUE, INFO = range(0x71, 0x77)
BAD_VIRT_ID = 0xBAD
NESTED_DATA = np.dtype([("word", np.uint32), ("flags", np.uint32)])
ENTRY = np.dtype([("word", np.uint32), ("error", np.uint32)])
COMMAND = np.dtype([("virt_id", np.uint64), ("word", np.uint32), ("error", np.uint32)])
VDATA = np.dtype([("in", np.uint32), ("out", np.uint32), ("offset", np.uint64), ("length", np.uint64)])

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


class Answers(ctypes.Structure):
    """What the engine answered to page requests."""

    _fields_ = (("n", ctypes.c_uint32), ("code", ctypes.c_uint32), ("group", ctypes.c_uint32))


@cache
def library() -> ctypes.CDLL:
    out = BUILD / "rig" / "librig.so"
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = iof.get_library_dir()
    source = Path(__file__).with_name("rig.c")
    flags = ["-std=gnu11", "-shared", "-fPIC", "-O1", "-g", f"-I{CSRC}", f"-I{CSRC / 'include'}"]
    done = run(*compiler().split(), *flags, "-o", out, source, f"-L{folder}", "-liommufd_fast", f"-Wl,-rpath,{folder}")
    if done.returncode:
        pytest.fail(f"the rig does not compile:\n{done.stdout}", pytrace=False)
    lib = ctypes.CDLL(str(out))
    pointer, u32 = ctypes.c_void_p, ctypes.c_uint32
    lib.rig_make.restype, lib.rig_make.argtypes = pointer, (pointer, ctypes.c_uint, ctypes.POINTER(u32))
    lib.rig_free.argtypes = (pointer,)
    lib.rig_alive.argtypes = (pointer, ctypes.POINTER(ctypes.c_int * 4))
    lib.rig_word.restype, lib.rig_word.argtypes = u32, (pointer, ctypes.c_uint)
    lib.rig_event.argtypes = (pointer, ctypes.c_char_p, ctypes.c_size_t)
    lib.rig_request.argtypes = (pointer, u32, u32, u32, ctypes.c_uint64, ctypes.c_int, ctypes.POINTER(Answers))
    return lib


class Rig:
    """Devices behind the rig on a machine: `first` is the index of the first."""

    def __init__(self, machine: iof.Machine, devices: int = 2) -> None:
        index = ctypes.c_uint32()
        self.machine = machine
        self.it = library().rig_make(_pointer(machine.capsule, b"struct iof_machine *"), devices, ctypes.byref(index))
        assert self.it
        self.first = index.value

    def alive(self) -> tuple[int, ...]:
        """Nested page tables, vIOMMUs, vDEVICEs, hardware queues."""
        out = (ctypes.c_int * 4)()
        library().rig_alive(self.it, ctypes.byref(out))
        return tuple(out)

    def word(self, device: int) -> int:
        return library().rig_word(self.it, device)

    def event(self, data: bytes) -> int:
        return library().rig_event(self.it, data, len(data))

    def request(self, dev: iof.Device, group: int, address: int, answers: Answers, *, pasid: int = 0, last=True) -> int:
        """A device asks for a page: 0 or a negative errno."""
        ctx = _pointer(dev.context.capsule, b"struct iof_handle *")
        return library().rig_request(ctx, dev.id, pasid, group, address, last, ctypes.byref(answers))
