# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""C pointers for extension modules that bring their own devices, accesses or events (iommufd_fast_embed.h)."""
from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF

from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.machines cimport MachineHandle


cdef void let_go(object capsule) noexcept:
    cdef void *owner = PyCapsule_GetContext(capsule)
    if owner != NULL:
        Py_DECREF(<object>owner)


cdef object keep(void *pointer, const char *name, object owner):
    """A capsule that keeps the Python object which owns the pointer."""
    made = PyCapsule_New(pointer, name, let_go)
    PyCapsule_SetContext(made, <void *>owner)
    Py_INCREF(owner)
    return made


def of_machine(MachineHandle machine not None):
    """A capsule named "struct iof_machine *"; it keeps the machine's reference, but not from being closed."""
    machine.enter()
    try:
        return keep(machine.m, "struct iof_machine *", machine)
    finally:
        machine.leave()


def of_handle(Handle handle not None):
    """A capsule named "struct iof_handle *", valid until the handle is closed."""
    handle.enter()
    try:
        return keep(handle.h, "struct iof_handle *", handle)
    finally:
        handle.leave()
