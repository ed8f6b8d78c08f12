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
	IOF_HOLD_MLOCK = 2, /* the same, and locked in memory: hold.h */
	IOF_HOLD_IO_URING = 3, /* the same, and pinned for good by a registered buffer */
};

/* What goes into the page table. */
enum iof_address_mode {
	IOF_ADDRESS_VA = 0, /* the process virtual address */
	IOF_ADDRESS_SYNTHETIC = 1, /* from device, inode and offset, or process and address: identity.h */
};

struct iof_files;
struct iof_dmabufs;
struct iofi_holds;

/* Everything a machine's contexts share about memory; lives in the machine. */
struct iof_memory {
	struct iof_alloc *alloc;
	struct iof_identities *identities; /* NULL unless address mode is synthetic */
	struct iof_files *files; /* NULL: no file containers */
	struct iof_dmabufs *dmabufs; /* NULL: no engine dma-bufs */
	enum iof_address_mode address_mode;
	enum iof_hold_policy policy; /* the default; a container may ask for another */
	struct iofi_holds *holds; /* NULL in shared memory: no region, nothing but trust and probe */
	_Atomic uint32_t regions, physical; /* regions held; regions and holds of containers that hold physically */
	_Atomic uint32_t scratch; /* bytes of page pointers that a pin call may fill (R4.3.4); 0: the default */
};

#define IOF_SCRATCH_DEFAULT 65536u
#define IOF_SCRATCH_MIN 12u /* one entry of a batch */

/* The lists of files and dma-bufs, with alloc and address mode set. -ENOMEM. Undone by fini, also when it failed. */
int iof_memory_init(struct iof_memory *m);
void iof_memory_fini(struct iof_memory *m);
/*
 * For a child, right after fork(), that goes on using a machine it shares with its parent: processes are told apart by
 * pid where it has to be quick, and a pid comes back. What is noted down under the child's pid belongs to a process
 * that is gone, because the child is new.
 */
void iof_memory_forked(struct iof_memory *m);
bool iof_memory_is_valid(struct iof_memory *m);

enum iof_pages_state {
	IOF_PAGES_EMPTY = 0, /* no hold, no ext */
	IOF_PAGES_WHOLE = 1, /* one hold, of all slots, no ext */
	IOF_PAGES_BUSY = 2, /* anything else: ext counts, or the owner of the lock is at work */
};

/* What the slots are of. */
enum iof_pages_kind {
	IOF_PAGES_USER = 0, /* addresses of the process that mapped */
	IOF_PAGES_FILE = 1, /* a file of shared memory, by offset */
	IOF_PAGES_DMABUF = 2, /* a dma-buf: memory of a device's. Held, but not charged and not for accesses */
};

struct iof_pages_ext;
struct iofi_backing;

struct iof_pages {
	/*
	 * USER: the source address of byte 0, rounded down to PAGE. Others: the offset of that byte in the file, except
	 * while held with virtual addresses: then the address where the file is mapped.
	 */
	uint64_t base;
	uint64_t npages;
	struct iof_pages_ext *ext; /* NULL unless state is BUSY */
	union {
		struct iof_account *account; /* USER: whose memory it is, and who is charged; NULL: ours, nobody */
		struct iofi_backing *backing; /* others */
	};
	struct iof_lock lock;
	_Atomic uint32_t refs;
	_Atomic uint8_t state; /* enum iof_pages_state */
	uint8_t writable; /* created with WRITEABLE */
	uint8_t kind; /* enum iof_pages_kind */
	uint8_t policy : 7; /* enum iof_hold_policy */
	uint8_t plain : 1; /* holding it whole takes no more than a change of state */
};

_Static_assert(sizeof(struct iof_pages) == 48, "a container is part of every area");

/*
 * Fills in a container for [uptr, uptr+length): -EOVERFLOW wraps; -EINVAL length 0 or > 2^64-1-PAGE (R4.1.2). refs = 1.
 * The memory is not looked at. The container is used with this `m` from then on.
 */
int iof_pages_init_user(struct iof_pages *p, const struct iof_memory *m, uint64_t uptr, uint64_t length, bool writable,
			enum iof_hold_policy policy, struct iof_account *account);

/*
 * The same for [start, start+length) of the file behind descriptor fd of this process, of which it keeps a reference of
 * its own: the descriptor may be closed (files.h says what is kept, and what other processes can do with it). -EINVAL
 * length 0; -EOVERFLOW wraps; -EBADF. What the file is, how long it is and how it was opened is not looked at until
 * pages are held. A dma-buf made by iof_dmabuf_create() becomes a container of that kind, and the account is not used:
 * -EINVAL outside the dma-buf; -ENODEV it is revoked; -EOPNOTSUPP a dma-buf of the system's (R4.8.1).
 *
 * Holding slots: -EINVAL neither shmem nor hugetlbfs, or a slot is not completely inside the file (R4.7); -EFAULT the
 * file is out of this process's reach.
 */
int iof_pages_init_file(struct iof_pages *p, struct iof_memory *m, int fd, uint64_t start, uint64_t length,
			bool writable, enum iof_hold_policy policy, struct iof_account *account);

/* The source address of slot 0: an address, or an offset in the file. It steers the automatic choice of IOVAs. */
uint64_t iof_pages_source(const struct iof_pages *p);

/* A dma-buf container whose exporter has taken the memory back: it can be held but must not be shown to any device. */
bool iof_pages_is_revoked_slow(const struct iof_pages *p);

static inline bool iof_pages_is_revoked(const struct iof_pages *p)
{
	return iof_unlikely(p->kind == IOF_PAGES_DMABUF) && iof_pages_is_revoked_slow(p);
}

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
 * -EINVAL charged to a process that is gone; -EFAULT also memory of a process that is gone (R4.3.1); with synthetic
 * addresses also what reading /proc/self/maps can fail with. All or nothing.
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
int iof_pages_rw(struct iof_pages *p, struct iof_memory *m, uint64_t byte, void *buf, uint64_t n, bool write,
		 bool slow);

/*
 * CHANGE_PROCESS (R4.6.5), one container: what it is charged for now, who is, and the change itself. `pending` marks a
 * container that this round has counted: set by the caller, cleared by change.
 */
struct iof_account *iof_pages_owner(const struct iof_pages *p);
bool iof_pages_mark(struct iof_pages *p, bool on); /* returns what it was; files only */
void iof_pages_change_owner(struct iof_pages *p, struct iof_account *now);

uint64_t iof_pages_pinned(const struct iof_pages *p); /* slots pinned and charged now; 0 for a dma-buf */
uint64_t iof_pages_intervals(const struct iof_pages *p); /* intervals held now */
uint64_t iof_pages_holds(const struct iof_pages *p, uint64_t slot); /* how many intervals cover this slot */
/* how many slots from `first` on, up to `last`, are held without a gap */
uint64_t iof_pages_covered(const struct iof_pages *p, uint64_t first, uint64_t last);
bool iof_pages_is_valid(const struct iof_pages *p, const struct iof_memory *m);

#endif
