# SPDX-License-Identifier: Apache-2.0
"""The pages floor for cimport: the C core's containers, and the Python object around one."""
from libc.stdint cimport uint8_t, uint64_t

cdef extern from "pages/pages.h" nogil:
    struct iof_alloc:
        pass

    struct iof_identities:
        pass

    struct iof_accounts:
        pass

    struct iof_account:
        pass

    enum iof_hold_policy:
        IOF_HOLD_TRUST
        IOF_HOLD_PROBE

    enum iof_address_mode:
        IOF_ADDRESS_VA
        IOF_ADDRESS_SYNTHETIC

    enum iof_account_mode:
        IOF_ACCOUNT_NONE
        IOF_ACCOUNT_USER
        IOF_ACCOUNT_PROCESS

    enum iof_pages_state:
        IOF_PAGES_EMPTY
        IOF_PAGES_WHOLE

    struct iof_memory:
        iof_alloc *alloc
        iof_identities *identities
        iof_address_mode address_mode

    struct iof_pages:
        uint64_t base
        uint64_t npages
        uint8_t writable
        uint8_t policy

    void iof_alloc_init_heap(iof_alloc *a) noexcept
    int iof_accounts_create(iof_alloc *a, iof_accounts **out) noexcept
    void iof_accounts_destroy(iof_accounts *t) noexcept
    int iof_account_of_caller(iof_accounts *t, iof_account_mode mode, iof_account **out) noexcept
    uint64_t iof_account_locked(const iof_account *acct) noexcept
    int iof_identities_create(iof_alloc *a, iof_identities **out) noexcept
    void iof_identities_destroy(iof_identities *t) noexcept
    uint64_t iof_identity_pins(iof_identities *t, uint64_t address) noexcept
    bint iof_identities_is_valid(iof_identities *t) noexcept
    int iof_pages_init_user(iof_pages *p, const iof_memory *m, uint64_t uptr, uint64_t length, bint writable,
                            iof_hold_policy policy, iof_account *account) noexcept
    void iof_pages_fini(iof_pages *p, iof_memory *m) noexcept
    bint iof_pages_swap(iof_pages *p, uint64_t first, uint64_t last, uint8_t was, uint8_t to) noexcept
    int iof_pages_hold(iof_pages *p, iof_memory *m, uint64_t first, uint64_t last) noexcept
    void iof_pages_release(iof_pages *p, iof_memory *m, uint64_t first, uint64_t last) noexcept
    uint64_t iof_pages_address(const iof_pages *p, const iof_memory *m, uint64_t byte, uint64_t want,
                               uint64_t *contiguous) noexcept
    uint64_t iof_pages_pinned(const iof_pages *p) noexcept
    uint64_t iof_pages_intervals(const iof_pages *p) noexcept
    uint64_t iof_pages_holds(const iof_pages *p, uint64_t slot) noexcept
    uint64_t iof_pages_covered(const iof_pages *p, uint64_t first, uint64_t last) noexcept
    bint iof_pages_is_valid(const iof_pages *p, const iof_memory *m) noexcept


cdef class Memory:
    """What all containers of the process share: one allocator, the accounts, the synthetic address space."""
    cdef iof_alloc alloc
    cdef iof_memory va
    cdef iof_memory synthetic
    cdef iof_accounts *accounts


cdef class PageHolder:
    cdef iof_pages pages
    cdef iof_memory *memory
    cdef iof_account *account
    cdef Memory shared
    cdef Py_buffer view
    cdef bint has_view
    cdef bint ready  # pages is filled in and not closed
    cdef int busy  # calls that are inside the core
    cdef dict ledger  # (first, last) -> how often this object holds it
    cdef readonly str policy
    cdef readonly str accounting
    cdef readonly str address_mode

    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int note(self, object key, int by) except -1
