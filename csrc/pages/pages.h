/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page container ("pages"): the memory behind one MAP, and what is held of it.
 *
 * This floor knows ownership and never IOVAs. A container is npages slots; slot i is source page (base rounded down to
 * PAGE) + i. Whoever needs memory present (a page table, an access) holds an interval of slots; a slot is pinned once
 * however many intervals cover it, and released when the last goes. Runs, not pages, are the unit: the counts are kept
 * as runs of equal count.
 *
 * A container held by nobody, or once and whole, is the 48 bytes below and no more. Any other holder makes it grow a
 * run map (`ext`), which goes away with the last hold. Every hold reserves the two nodes that its release might need
 * for a split, so a release needs no memory and cannot fail.
 *
 * Locking: `refs` and `state` are atomic; `ext` and the slow paths are under `lock`. The plain case (device address =
 * virtual address, nothing to probe or to charge, one whole hold) is one compare-and-swap of `state` and takes no lock:
 * it swaps EMPTY and WHOLE, while whoever has the lock sets BUSY before looking further. After `lock` may come the
 * identity table's; no other.
 */
#ifndef IOF_PAGES_H
#define IOF_PAGES_H

#include "pages/account.h"
#include "pages/identity.h"
#include "util/alloc.h"
#include "util/lock.h"
#include "util/range.h"

/* How the memory is held. */
enum iof_hold_policy {
	IOF_HOLD_TRUST = 0, /* bookkeeping only: the caller guarantees the memory */
	IOF_HOLD_PROBE = 1, /* touched when pinned (written to when the container is writable): -EFAULT if not there */
};

/* What goes into the page table. */
enum iof_address_mode {
	IOF_ADDRESS_VA = 0, /* the process virtual address */
	IOF_ADDRESS_SYNTHETIC = 1, /* from device, inode and offset, or process and address: identity.h */
};

/* Everything a machine's contexts share about memory; lives in the machine. */
struct iof_memory {
	struct iof_alloc *alloc;
	struct iof_identities *identities; /* NULL unless address mode is synthetic */
	enum iof_address_mode address_mode;
	enum iof_hold_policy policy; /* the default; a container may ask for another */
};

enum iof_pages_state {
	IOF_PAGES_EMPTY = 0, /* no hold, no ext */
	IOF_PAGES_WHOLE = 1, /* one hold, of all slots, no ext */
	IOF_PAGES_BUSY = 2, /* anything else: ext counts, or the owner of the lock is at work */
};

struct iof_pages_ext;

struct iof_pages {
	uint64_t base; /* source address of byte 0, rounded down to PAGE */
	uint64_t npages;
	struct iof_pages_ext *ext; /* NULL unless state is BUSY */
	struct iof_account *account; /* who is charged; NULL: nobody */
	struct iof_lock lock;
	_Atomic uint32_t refs;
	_Atomic uint8_t state; /* enum iof_pages_state */
	uint8_t writable; /* created with WRITEABLE */
	uint8_t policy; /* enum iof_hold_policy */
	uint8_t plain; /* holding it whole takes no more than a change of state */
};

_Static_assert(sizeof(struct iof_pages) == 48, "a container is part of every area");

/*
 * Fills in a container for [uptr, uptr+length): -EOVERFLOW wraps; -EINVAL length 0 or > 2^64-1-PAGE (R4.1.2). refs = 1.
 * The memory is not looked at. The container is used with this `m` from then on.
 */
int iof_pages_init_user(struct iof_pages *p, const struct iof_memory *m, uint64_t uptr, uint64_t length, bool writable,
			enum iof_hold_policy policy, struct iof_account *account);

/* Drops everything but the struct itself; all intervals must have been released. */
void iof_pages_fini(struct iof_pages *p, struct iof_memory *m);

int iof_pages_hold_slow(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last);
void iof_pages_release_slow(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last);
uint64_t iof_pages_address_slow(const struct iof_pages *p, uint64_t byte, uint64_t want, uint64_t *contiguous);

/* Is this a hold that `state` alone can note? */
static inline bool iof_pages_is_plain(const struct iof_pages *p, uint64_t first, uint64_t last)
{
	return p->plain && !first && last == p->npages - 1;
}

static inline bool iof_pages_swap(struct iof_pages *p, uint64_t first, uint64_t last, uint8_t from, uint8_t to)
{
	return iof_pages_is_plain(p, first, last) &&
	       atomic_compare_exchange_strong_explicit(&p->state, &from, to, memory_order_acq_rel,
						       memory_order_relaxed);
}

/*
 * Holds slots [first, last]: newly covered ones are pinned by the container's policy, identified, counted and charged.
 * 0; -EFAULT not there or not permitted; -ENOMEM no memory, the limit, or injected (a pin's injected errno is -EFAULT);
 * -EINVAL charged to a process that is gone; with synthetic addresses also what reading /proc/self/maps can fail with.
 * All or nothing.
 */
static inline int iof_pages_hold(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	if (iof_likely(!atomic_load_explicit(&m->alloc->fail_countdown, memory_order_relaxed) &&
		       iof_pages_swap(p, first, last, IOF_PAGES_EMPTY, IOF_PAGES_WHOLE)))
		return 0;
	return iof_pages_hold_slow(p, m, first, last);
}

/* Exactly as held; cannot fail. */
static inline void iof_pages_release(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	if (iof_unlikely(!iof_pages_swap(p, first, last, IOF_PAGES_WHOLE, IOF_PAGES_EMPTY)))
		iof_pages_release_slow(p, m, first, last);
}

/*
 * The same for a container that no other thread can reach during the call (just made, or out of every index and refs =
 * 1): without the atomic step.
 */
static inline int iof_pages_hold_alone(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	if (iof_unlikely(atomic_load_explicit(&p->state, memory_order_relaxed) != IOF_PAGES_EMPTY ||
			 !iof_pages_is_plain(p, first, last) ||
			 atomic_load_explicit(&m->alloc->fail_countdown, memory_order_relaxed)))
		return iof_pages_hold_slow(p, m, first, last);
	atomic_store_explicit(&p->state, IOF_PAGES_WHOLE, memory_order_release);
	return 0;
}

static inline void iof_pages_release_alone(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	if (iof_unlikely(atomic_load_explicit(&p->state, memory_order_relaxed) != IOF_PAGES_WHOLE ||
			 !iof_pages_is_plain(p, first, last)))
		iof_pages_release_slow(p, m, first, last);
	else
		atomic_store_explicit(&p->state, IOF_PAGES_EMPTY, memory_order_release);
}

/*
 * The device address of byte `byte` of the container (counted from slot 0's first byte), and how many bytes from there
 * on are contiguous (at most `want`, and within the container). The slot must be held (synthetic identities are known
 * then).
 */
static inline uint64_t iof_pages_address(const struct iof_pages *p, const struct iof_memory *m, uint64_t byte,
					 uint64_t want, uint64_t *contiguous)
{
	uint64_t rest = (p->npages << IOF_PAGE_SHIFT) - byte;

	if (iof_unlikely(m->address_mode != IOF_ADDRESS_VA))
		return iof_pages_address_slow(p, byte, want < rest ? want : rest, contiguous);
	*contiguous = want < rest ? want : rest;
	return p->base + byte;
}

/*
 * Data between `buf` (memory of the caller's, read and written through guard) and n bytes of the container from `byte`
 * on (counted from slot 0's first byte), whether they are held or not; no alignment is asked for. `slow` goes the way
 * that works without the creator's address space (R7.4). 0, or an error after a leading part may have been moved:
 * -EFAULT not there, not permitted, or its process is gone; -EINVAL outside the file, or device memory; -ENOMEM. The
 * caller keeps a reference and has checked permissions.
 */
int iof_pages_rw(struct iof_pages *p, struct iof_memory *m, uint64_t byte, void *buf, uint64_t n, bool write, bool slow);

uint64_t iof_pages_pinned(const struct iof_pages *p); /* slots pinned now */
uint64_t iof_pages_intervals(const struct iof_pages *p); /* intervals held now */
uint64_t iof_pages_holds(const struct iof_pages *p, uint64_t slot); /* how many intervals cover this slot */
/* how many slots from `first` on, up to `last`, are held without a gap */
uint64_t iof_pages_covered(const struct iof_pages *p, uint64_t first, uint64_t last);
bool iof_pages_is_valid(const struct iof_pages *p, const struct iof_memory *m);

#endif
