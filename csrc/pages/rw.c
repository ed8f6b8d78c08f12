/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data of a container for those who do not pin (behaviour.md R7.4).
 *
 * Our own memory is copied, guarded. Another process's is asked of the kernel while that process lives; when it is
 * gone, or may not be asked, pages that are shared with this process can still be reached through a mapping of ours:
 * those of a dead process only while they are pinned, because only then their names are known.
 */
#define _GNU_SOURCE
#include <sys/uio.h>

#include "pages/account_who.h"
#include "pages/backing.h"
#include "pages/identity_hold.h"
#include "pages/os.h"
#include "util/guard.h"

struct transfer {
	struct iof_pages *p;
	struct iof_memory *m;
	uint64_t byte, n;
	char *buf;
	bool write;
};

static int copy_here(const struct transfer *t, uint64_t at, uint64_t n)
{
	uint64_t buf = (uintptr_t)t->buf;

	return t->write ? iof_copy_across(at, buf, n) : iof_copy_across(buf, at, n);
}

static void advance(struct transfer *t, uint64_t n)
{
	t->byte += n;
	t->buf += n;
	t->n -= n;
}

/* As much as the owner's address space gives; what is left over is for the other way, and there is a reason why. */
static int ask_owner(struct transfer *t, uint32_t thread)
{
	while (t->n) {
		struct iovec local = { t->buf, t->n < (1u << 30) ? t->n : 1u << 30 };
		struct iovec remote = { (void *)(uintptr_t)(t->p->base + t->byte), local.iov_len };
		long call = t->write ? SYS_process_vm_writev : SYS_process_vm_readv;
		long got = iofi_os(call, thread, &local, 1L, &remote, 1L, 0L);

		if (got <= 0)
			return got ? (int)got : -EFAULT;
		advance(t, (uint64_t)got);
	}
	return 0;
}

/* Copies a run of one name through whatever mapping this process has of it. */
static int copy_run(struct transfer *t, uint64_t address, uint64_t n)
{
	while (n) {
		uint64_t part = n, at = iof_identity_reach_run(t->m->identities, address, t->write, &part);
		int rc = at == UINT64_MAX ? -EFAULT : copy_here(t, at, part);

		if (rc)
			return rc;
		advance(t, part);
		address += part;
		n -= part;
	}
	return 0;
}

static int copy_pinned(struct transfer *t)
{
	uint64_t first = t->byte >> IOF_PAGE_SHIFT, last = (t->byte + t->n - 1) >> IOF_PAGE_SHIFT;
	int rc = iof_pages_hold(t->p, t->m, first, last); /* so that the names stay */
	uint64_t from = first, run, address;

	if (rc)
		return rc;
	while (!rc && t->n) {
		address = iof_pages_address(t->p, t->m, t->byte, t->n, &run);
		rc = copy_run(t, address, run);
	}
	iof_pages_release(t->p, t->m, from, last);
	return rc;
}

static int rw_remote(struct transfer *t)
{
	uint32_t owner;
	int rc = -EFAULT;

	if (t->n <= IOF_PAGE_SIZE - (t->byte & IOF_PAGE_MASK) && iof_alloc_may_fail(t->m->alloc))
		return -EINVAL;
	owner = iofi_process_thread(iofi_account_process(t->p->account));
	if (owner)
		rc = ask_owner(t, owner);
	if (!rc || t->m->address_mode == IOF_ADDRESS_VA)
		return rc ? -EFAULT : 0;
	return copy_pinned(t);
}

int iof_pages_rw(struct iof_pages *p, struct iof_memory *m, uint64_t byte, void *buf, uint64_t n, bool write, bool slow)
{
	struct transfer t = { p, m, byte, n, buf, write };

	if (!n)
		return 0;
	if (p->kind == IOF_PAGES_DMABUF)
		return -EINVAL;
	if (p->kind == IOF_PAGES_FILE)
		return iofi_backing_rw(p, m, byte, buf, n, write);
	if (iofi_account_is_remote(p->account))
		return rw_remote(&t);
	if (slow && iof_alloc_may_fail(m->alloc))
		return -EINVAL;
	return copy_here(&t, p->base + byte, n);
}
