/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page container ("pages"): the memory behind one MAP, and what is held of it.
 *
 * This floor knows ownership and never IOVAs. A container is npages slots; slot i is source page (base rounded down to PAGE) + i. Whoever needs
 * memory present (a page table, an access) holds an interval of slots; a slot is pinned once however many intervals cover it, and released when
 * the last goes. Runs, not pages, are the unit: the counts are kept as runs of equal count.
 *
 * A container that has been held by at most one interval needs nothing beyond the 48 bytes below. The run map (`ext`) is made by the first second holder, and
 * every hold reserves the two nodes that its release might need for a split, so a release needs no memory and cannot fail.
 *
 * Locking: `refs` is atomic. Everything else is under the container's own lock, taken inside iof_pages_hold() and iof_pages_release() (a bit in `state`).
 */
#ifndef IOF_PAGES_H
#define IOF_PAGES_H

#include "pages/account.h"
#include "pages/identity.h"
#include "util/alloc.h"
#include "util/range.h"

/* How the memory is held. */
enum iof_hold_policy {
	IOF_HOLD_TRUST = 0, /* bookkeeping only: the caller guarantees the memory */
	IOF_HOLD_PROBE = 1, /* touched when pinned (written when the container is writable): -EFAULT if it is not there */
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

struct iof_pages_ext;

struct iof_pages {
	uint64_t base; /* source address of byte 0, rounded down to PAGE */
	uint64_t npages;
	struct iof_pages_ext *ext; /* NULL while one interval at most is held */
	struct iof_account *account; /* who is charged; NULL: nobody */
	_Atomic uint32_t refs;
	_Atomic uint8_t state; /* lock bit */
	uint8_t writable; /* created with WRITEABLE */
	uint8_t policy; /* enum iof_hold_policy */
	uint8_t held; /* without ext: is solo_first..solo_last held */
	uint64_t solo_first, solo_last;
};

/* Fills in a container for [uptr, uptr+length): -EOVERFLOW wraps; -EINVAL length 0 or > 2^64-1-PAGE (R4.1.2). refs = 1. The memory is not looked at. */
int iof_pages_init_user(struct iof_pages *p, uint64_t uptr, uint64_t length, bool writable, enum iof_hold_policy policy,
			struct iof_account *account);

/* Drops everything but the struct itself; all intervals must have been released. */
void iof_pages_fini(struct iof_pages *p, struct iof_memory *m);

/*
 * Holds slots [first, last]: newly covered ones are pinned by the container's policy, identified, counted and charged. 0; -EFAULT not there or not permitted; -ENOMEM no memory, the limit, or injected.
 * All or nothing.
 */
int iof_pages_hold(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last);
void iof_pages_release(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last); /* exactly as held; cannot fail */

/*
 * The device address of byte `byte` of the container (counted from slot 0's first byte), and how many bytes from there on are contiguous (at most `want`). The slot must be held (synthetic identities are known then).
 */
uint64_t iof_pages_address(const struct iof_pages *p, const struct iof_memory *m, uint64_t byte, uint64_t want, uint64_t *contiguous);

uint64_t iof_pages_pinned(const struct iof_pages *p); /* slots pinned now */
uint64_t iof_pages_holds(const struct iof_pages *p, uint64_t slot); /* how many intervals cover this slot */
bool iof_pages_is_valid(const struct iof_pages *p, const struct iof_memory *m);

#endif
