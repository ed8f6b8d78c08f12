/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers of file pages.
 *
 * Nothing is asked of the file until slots are held. Then it has to be a file of shared memory that is long enough, and
 * with virtual addresses the container gets a window, which gives it its base for as long as anything is held. With the
 * policy `probe` every page is touched there, so that holes are filled; what cannot be filled is -ENOMEM.
 */
#include "pages/backing.h"

#include "pages/dmabuf.h"
#include "pages/files.h"
#include "pages/hold.h"
#include "util/guard.h"

int iof_memory_init(struct iof_memory *m)
{
	int rc = iof_files_create(m->alloc, &m->files);

	if (!rc)
		rc = iof_dmabufs_create(m->alloc, &m->dmabufs);
	return rc || m->alloc->shared ? rc : iofi_holds_create(m->alloc, &m->holds);
}

void iof_memory_fini(struct iof_memory *m)
{
	iof_dmabufs_destroy(m->dmabufs);
	iof_files_destroy(m->files);
	iofi_holds_destroy(m->holds);
	m->holds = NULL;
	m->dmabufs = NULL;
	m->files = NULL;
}

void iof_memory_forked(struct iof_memory *m)
{
	if (m->files)
		iofi_files_forked(m->files);
}

bool iof_memory_is_valid(struct iof_memory *m)
{
	return (!m->files || iofi_files_is_valid(m->files)) &&
	       (!m->identities || iof_identities_is_valid(m->identities)) && (!m->holds || iofi_holds_is_valid(m->holds));
}

/* A dma-buf lets itself be imported; the container is counted there from then on. */
static int import(struct iof_pages *p, struct iof_memory *m, int fd, struct iof_range r, struct iofi_backing *b)
{
	int rc = iofi_dmabuf_import(m->dmabufs, fd, r, b);

	if (!rc) /* no dma-buf */
		return iof_range_length(r) > UINT64_MAX - IOF_PAGE_SIZE ? -EINVAL : 0; /* R4.1.2 */
	if (rc < 0)
		return rc;
	p->kind = IOF_PAGES_DMABUF;
	b->account = NULL;
	return 0;
}

static int open_backing(struct iof_pages *p, struct iof_memory *m, int fd, struct iof_range r,
			struct iof_account *account)
{
	struct iofi_backing *b = iof_mem_zget(m->alloc, sizeof(*b), 16);
	int rc;

	if (!b)
		return -ENOMEM;
	b->account = account;
	b->offset = p->base;
	rc = iofi_file_get(m->files, fd, &b->file);
	if (!rc) {
		rc = import(p, m, fd, r, b);
		if (rc)
			iofi_file_put(m->files, b->file);
	}
	if (rc)
		iof_mem_put(m->alloc, b, sizeof(*b));
	else
		p->backing = b;
	return rc;
}

int iof_pages_init_file(struct iof_pages *p, struct iof_memory *m, int fd, uint64_t start, uint64_t length,
			bool writable, enum iof_hold_policy policy, struct iof_account *account)
{
	struct iof_range r;
	int rc = iof_range_make(start, length, &r);

	if (rc)
		return rc;
	p->base = iof_align_down(start, IOF_PAGE_SIZE);
	p->npages = ((r.last - p->base) >> IOF_PAGE_SHIFT) + 1;
	p->ext = NULL;
	iof_lock_init(&p->lock, m->alloc->shared);
	atomic_init(&p->refs, 1);
	atomic_init(&p->state, IOF_PAGES_EMPTY);
	p->writable = writable;
	p->kind = IOF_PAGES_FILE;
	p->policy = (uint8_t)policy & 0x7f;
	p->plain = false;
	return open_backing(p, m, fd, r, account);
}

void iofi_backing_fini(struct iof_pages *p, struct iof_memory *m)
{
	struct iofi_backing *b = p->backing;

	iofi_backing_idle(p, m);
	if (b->dmabuf)
		iofi_dmabuf_leave(m->dmabufs, b);
	iofi_file_put(m->files, b->file);
	iof_mem_put(m->alloc, b, sizeof(*b));
}

static struct iof_range bytes_of(const struct iof_pages *p, uint64_t first, uint64_t last)
{
	uint64_t offset = p->backing->offset;

	return (struct iof_range){ offset + (first << IOF_PAGE_SHIFT),
				   offset + (last << IOF_PAGE_SHIFT) + IOF_PAGE_MASK };
}

/* Fills holes. A page that cannot be had was cut off meanwhile, or there is no memory for it. */
static int populate(struct iof_pages *p, struct iof_memory *m, struct iof_range r)
{
	struct iofi_window *w;
	int rc = iofi_window_get(m->files, p->backing->file, r, p->writable, &w);

	if (rc)
		return rc;
	if (iof_touch(iofi_window_address(w, r.start), iofi_window_address(w, r.last), false, NULL))
		rc = iofi_file_check(p->backing->file, r) ? -EINVAL : -ENOMEM;
	iofi_window_put(m->files, w);
	return rc;
}

/*
 * Where the container is mapped while anything of it is held: all of it, because it has one base. With synthetic
 * addresses the base stays, and the window is there so that soft devices reach the pages even if nobody else has the
 * file mapped; a container too long to be mapped does without.
 */
static int settle(struct iof_pages *p, struct iof_memory *m)
{
	struct iofi_backing *b = p->backing;
	int rc;

	if (b->window)
		return 0;
	rc = iofi_window_get(m->files, b->file, bytes_of(p, 0, p->npages - 1), p->writable, &b->window);
	if (rc == -E2BIG)
		return m->address_mode == IOF_ADDRESS_VA ? -ENOMEM : 0;
	if (!rc && m->address_mode == IOF_ADDRESS_VA)
		p->base = iofi_window_address(b->window, b->offset);
	return rc;
}

int iofi_backing_pin(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	struct iof_range r = bytes_of(p, first, last);
	int rc = r.last < r.start ? -EINVAL : iofi_file_check(p->backing->file, r);

	if (!rc)
		rc = settle(p, m);
	if (!rc && p->policy != IOF_HOLD_TRUST)
		rc = populate(p, m, r);
	return rc;
}

void iofi_backing_idle(struct iof_pages *p, struct iof_memory *m)
{
	struct iofi_backing *b = p->backing;

	if (!b->window)
		return;
	iofi_window_put(m->files, b->window);
	b->window = NULL;
	p->base = b->offset;
}

int iofi_backing_rw(struct iof_pages *p, struct iof_memory *m, uint64_t byte, void *buf, uint64_t n, bool write)
{
	struct iof_range slots = { byte >> IOF_PAGE_SHIFT, (byte + n - 1) >> IOF_PAGE_SHIFT };
	struct iof_range r = bytes_of(p, slots.start, slots.last);
	struct iofi_window *w;
	uint64_t at;
	int rc = iofi_file_check(p->backing->file, r);

	if (rc)
		return rc;
	rc = iofi_window_get(m->files, p->backing->file, r, write, &w);
	if (rc)
		return rc;
	at = iofi_window_address(w, p->backing->offset + byte);
	rc = write ? iof_copy_across(at, (uintptr_t)buf, n) : iof_copy_across((uintptr_t)buf, at, n);
	iofi_window_put(m->files, w);
	return rc;
}

uint64_t iof_pages_source(const struct iof_pages *p)
{
	return iofi_is_user(p) ? p->base : p->backing->offset;
}

bool iof_pages_is_revoked_slow(const struct iof_pages *p)
{
	return atomic_load_explicit(&p->backing->revoked, memory_order_acquire);
}

struct iof_account *iof_pages_owner(const struct iof_pages *p)
{
	return iofi_pages_account(p);
}

bool iof_pages_mark(struct iof_pages *p, bool on)
{
	bool was = p->backing->marked;

	p->backing->marked = on;
	return was;
}

void iof_pages_change_owner(struct iof_pages *p, struct iof_account *now)
{
	iof_lock_take(&p->lock);
	p->backing->account = now;
	iof_lock_drop(&p->lock);
}
