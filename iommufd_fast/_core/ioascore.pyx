# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Mapping single ranges: the hot path of the control plane. `iommufd_fast.ioas.Ioas` is the class with all the rest.

A map is one try of the command that never blocks, with the GIL held; what would block or takes longer answers EAGAIN and
is done again without the GIL."""
from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.channel cimport begin_on, end_on
from iommufd_fast._core.commands cimport ContextHandle
from iommufd_fast._core.holding cimport hold
from iommufd_fast._core.ledger cimport Home, Ledger, lock, unlock
from iommufd_fast._core.machines cimport forks
from iommufd_fast._core.mapping cimport Mapping
from iommufd_fast._core.origins cimport tracking
from iommufd_fast._core.threads cimport quick_in, quick_out

from iommufd_fast._core.holding import NoBuffer
from iommufd_fast._core._policies import named, refusal
from iommufd_fast._core.origins import origin
from iommufd_fast.errors import failed

cimport numpy as cnp

cdef extern from "errno.h" nogil:
    enum:
        EAGAIN
        ENOENT
        ENOMEM
cdef extern from "unistd.h" nogil:
    long sysconf(int name)
    enum:
        _SC_PAGESIZE

cnp.import_array()

cdef dict ACCESS = {"r": IOF_MAP_READABLE, "w": IOF_MAP_WRITEABLE, "rw": IOF_MAP_READABLE | IOF_MAP_WRITEABLE}
cdef str RW = "rw"
cdef uint64_t IN_PAGE = sysconf(_SC_PAGESIZE) - 1
cdef uint64_t NO_IOVA = 0xffffffffffffffff


def access_flags(access):
    """The map flags for "r", "w" or "rw": what the device may do."""
    try:
        return ACCESS[access]
    except (KeyError, TypeError):
        raise ValueError(f"access must be 'r', 'w' or 'rw', not {access!r}") from None


cdef class IoasCore(Home):
    """An IOAS of an open context; made by `Iommufd.ioas`."""

    def __init__(self):
        raise TypeError("an Ioas is made by context.ioas()")

    def _begin(self, ContextHandle handle not None, uint32_t id):
        """Second half of construction, for the factory."""
        self.handle, self.id, self.ledger = handle, id, Ledger()
        self.pinning = handle.kernel
        self.probing = not self.pinning and handle.machine.policy != "trust"

    @property
    def live_handles(self):
        """How many Mapping handles are live."""
        return self.ledger.books.count

    @property
    def gone_because(self):
        lock(&self.ledger.books)
        why = self.gone
        unlock(&self.ledger.books)
        return why

    def _finish(self, str sentence):
        """The IOAS is no more (or, with None, is after all)."""
        lock(&self.ledger.books)
        before, self.gone = self.gone, sentence
        unlock(&self.ledger.books)

    def check_open(self):
        """Raise what a call would: ValueError when closed, ForkedError in a forked child."""
        self.check()

    def map(self, memory, length=None, *, iova=None, access=RW, trusted=None, policy=None):
        """Map memory, so that devices attached to this IOAS reach it.

        Parameters
        ----------
        memory : buffer or int
            An object with the buffer protocol (ndarray, bytearray, mmap …), contiguous, at least one byte. It is kept
            alive and in place until unmapped. All pages in which it lies are mapped. Or the address of memory in
            this process: mapped exactly as given, and alive for as long as the caller sees to it. Or an open file
            without a buffer (a memfd, a dma-buf), which goes to `map_file`.
        length : int, optional
            Bytes from the beginning. Needed for an address; all of an object by default.
        iova : int, optional
            Where the first byte shall be (an object's at the same offset in its page as the memory). Chosen by default.
        access : {"rw", "r", "w"}
            What devices may do.
        trusted : bool, optional
            False: check now that the memory is there. True: take the caller's word. By default addresses are checked,
            objects are trusted (unless the machine's policy is "probe").
        policy : {"trust", "probe", "mlock", "io_uring"}, optional
            How the memory is held, instead of `trusted` and of what the machine does: see `Machine`.

        Returns
        -------
        Mapping

        Raises
        ------
        TypeError, ValueError
            A wrong argument.
        IommufdError
            The engine refused, ``.errno`` tells why (EEXIST, EINVAL, ENOSPC, EFAULT …). In both cases nothing was done.
        """
        cdef Mapping m
        cdef uint32_t flags
        cdef uint64_t inside = 0, want, end
        cdef bint fixed = iova is not None
        cdef bint number = False
        cdef iof_policy how
        self.check()
        flags = IOF_MAP_READABLE | IOF_MAP_WRITEABLE if access is RW else access_flags(access)
        m = Mapping.__new__(Mapping)
        if not cnp.PyArray_Check(memory) and (isinstance(memory, int) or hasattr(memory, "__index__")):
            number = True
            m.base = u64(memory, "address")
            if length is None:
                raise TypeError("mapping an address needs a length")
            m.size = u64(length, "length")
        else:
            if cnp.PyArray_CheckExact(memory):
                hold(memory, (flags & IOF_MAP_WRITEABLE) != 0, &m.view, &m.exported, &m.base, &m.size)
            elif is_file(memory, m, flags):
                return self.map_file(memory, 0, length, iova=iova, access=access)
            if length is not None:
                want = u64(length, "length")
                if want > m.size:
                    kind = type(memory).__name__
                    raise ValueError(f"length {want:#x} is more than the {m.size:#x} bytes of the {kind}")
                m.size = want
            m.owner = memory
            inside = m.base & IN_PAGE
        if m.size == 0:
            raise ValueError("cannot map 0 bytes: length must be at least 1")
        if m.size - 1 > NO_IOVA - m.base:
            raise ValueError(f"address {m.base:#x} + length {m.size:#x} wraps around 2**64")
        end = m.size
        if not number:
            end = (inside + m.size + IN_PAGE) & ~IN_PAGE
        m.flags, m.core = flags, self
        if fixed:
            m.at = u64(iova, "iova")
            if (m.at ^ inside) & IN_PAGE and not number:
                raise ValueError(f"iova {m.at:#x} must have the memory's offset in its page, {inside:#x}: "
                                 f"for example {m.at & ~IN_PAGE | inside:#x}")
            flags |= IOF_MAP_FIXED_IOVA
        how = policy_of(self, number, trusted) if policy is None else <iof_policy><int>named(self.pinning, trusted, policy)
        cdef int err = place(self, m, flags, m.base - inside, end, m.at - inside if fixed else 0, how)
        if err:
            raise refused(self, m, err, fixed, how)
        m.at = m.node.start + inside
        if tracking:
            m.origin = origin()
        m.enlist()
        return m

    def translate_one(self, iova):
        """The address behind one IOVA in the first page table, or None.

        Raises
        ------
        NoDevice
            No page table has joined yet.
        """
        cdef uint64_t at = u64(iova, "iova")
        cdef uint64_t address = NO_IOVA
        cdef int64_t found
        self.check()
        begin_on(self.handle)
        found = iof_translate(self.handle.h, self.id, 1, &at, &address, NULL)
        end_on(self.handle)
        if found < 0:
            raise failed(found, "translate", f"cannot translate {at:#x} in IOAS {self.id}")
        return address if found else None


cdef bint is_file(memory, Mapping m, uint32_t flags) except -1:
    """Hold the memory of something that is no plain ndarray, unless it has none but a descriptor."""
    try:
        hold(memory, (flags & IOF_MAP_WRITEABLE) != 0, &m.view, &m.exported, &m.base, &m.size)
    except NoBuffer:
        if not hasattr(memory, "fileno"):
            raise
        return True
    return False


cdef iof_policy policy_of(IoasCore self, bint number, trusted) except *:
    """DEFAULT: what the machine does, through the plain command. See map(). A kernel always pins."""
    if self.pinning:
        return IOF_POLICY_DEFAULT
    if trusted is None:
        return IOF_POLICY_PROBE if number and not self.probing else IOF_POLICY_DEFAULT
    if trusted:
        return IOF_POLICY_TRUST if self.probing else IOF_POLICY_DEFAULT
    return IOF_POLICY_DEFAULT if self.probing else IOF_POLICY_PROBE


cdef int place(IoasCore self, Mapping m, uint32_t flags, uint64_t address, uint64_t length, uint64_t iova,
               iof_policy policy) except? -1:
    """Map in the engine: 0 or -errno. The range goes into the mapping's node."""
    cdef iof_cmd_ioas_map c
    cdef iof_map_many_args one
    cdef int err
    if policy == IOF_POLICY_DEFAULT:
        c = iof_cmd_ioas_map(sizeof(c), flags, self.id, 0, address, length, iova)
        if self.handle.born != forks or not quick_in(&self.handle.gate):
            self.handle.refuse()
        err = iof_submit_nowait(self.handle.h, IOF_CMD_IOAS_MAP, &c)
        if err == -EAGAIN:
            err = self.handle.again(IOF_CMD_IOAS_MAP, &c, True)
        quick_out(&self.handle.gate)
        iova = c.iova
    else:  # the plain command has no word for the policy
        one = iof_map_many_args(self.id, flags, policy, 1, &address, &length, &iova, 0)
        self.handle.enter()
        with nogil:
            err = iof_map_many(self.handle.h, &one)
        self.handle.leave()
    if err == 0:
        m.node.start, m.node.last, m.node.owner = iova, iova + (length - 1), <PyObject *>m
    return err


cdef refused(IoasCore self, Mapping m, int err, bint fixed, iof_policy how):
    """The exception for a map that failed; the memory is let go when the mapping is dropped."""
    m.let_go()
    where = f" at IOVA {m.at:#x}" if fixed else ""
    what = f"cannot map {m.size:#x} bytes at address {m.base:#x}{where} into IOAS {self.id}"
    if self.pinning:
        from iommufd_fast.remedies import memlock

        return failed(err, "kernel map", what, memlock=memlock(m.size) if err == -ENOMEM else "")
    return refusal(err, what, m.size, how, self.handle.machine.policy)
