/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts: a short list of records, one per user or process that ever mapped with accounting on. Records are only
 * added, so a pointer to one stays good for the life of the table; the lock covers the list, the counters are atomic.
 *
 * The limit is read when a charge is made and not before, so that a setrlimit() in between counts. It is the limit of
 * the process that asked for the record last: for a user that is its latest mapper, for a process the process itself.
 */
#define _GNU_SOURCE
#include "pages/account.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/lock.h"

struct iof_account {
	struct iof_account *next;
	enum iof_account_mode mode;
	uint32_t id; /* uid or tgid */
	_Atomic int32_t owner; /* tgid of the latest mapper */
	_Atomic uint64_t locked; /* pages */
	_Atomic uint64_t limit; /* pages; UINT64_MAX: ask RLIMIT_MEMLOCK */
};

struct iof_accounts {
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iof_account *first;
};

int iof_accounts_create(struct iof_alloc *a, struct iof_accounts **out)
{
	struct iof_accounts *t = iof_mem_zget(a, sizeof(*t), 16);

	if (!t)
		return -ENOMEM;
	t->alloc = a;
	iof_lock_init(&t->lock, a->shared);
	*out = t;
	return 0;
}

void iof_accounts_destroy(struct iof_accounts *t)
{
	struct iof_account *acct;

	if (!t)
		return;
	while ((acct = t->first)) {
		t->first = acct->next;
		iof_mem_put(t->alloc, acct, sizeof(*acct));
	}
	iof_mem_put(t->alloc, t, sizeof(*t));
}

static struct iof_account *account_find(struct iof_accounts *t, enum iof_account_mode mode, uint32_t id)
{
	struct iof_account *acct = t->first;

	while (acct && (acct->mode != mode || acct->id != id))
		acct = acct->next;
	return acct;
}

static struct iof_account *account_add(struct iof_accounts *t, enum iof_account_mode mode, uint32_t id)
{
	struct iof_account *acct = iof_mem_zget(t->alloc, sizeof(*acct), 16);

	if (!acct)
		return NULL;
	acct->mode = mode;
	acct->id = id;
	acct->limit = UINT64_MAX;
	acct->next = t->first;
	t->first = acct;
	return acct;
}

int iof_account_of_caller(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out)
{
	struct iof_account *acct;
	uint32_t id;

	*out = NULL;
	if (mode == IOF_ACCOUNT_NONE)
		return 0;
	id = mode == IOF_ACCOUNT_USER ? (uint32_t)getuid() : (uint32_t)getpid();
	iof_lock_take(&t->lock);
	acct = account_find(t, mode, id);
	if (!acct)
		acct = account_add(t, mode, id);
	if (acct)
		atomic_store_explicit(&acct->owner, (int32_t)getpid(), memory_order_relaxed);
	iof_lock_drop(&t->lock);
	*out = acct;
	return acct ? 0 : -ENOMEM;
}

/*
 * RLIMIT_MEMLOCK of the owner, in pages. When it is gone: -EINVAL for a process account; a user still exists, so there
 * the calling process stands in for it. The same when the owner may not be asked (prlimit wants equal user ids).
 */
static int account_rlimit(const struct iof_account *acct, uint64_t *pages)
{
	int saved = errno, rc = 0;
	struct rlimit r;

	if (prlimit((pid_t)atomic_load_explicit(&acct->owner, memory_order_relaxed), RLIMIT_MEMLOCK, NULL, &r)) {
		if (acct->mode == IOF_ACCOUNT_PROCESS && errno == ESRCH)
			rc = -EINVAL;
		else
			getrlimit(RLIMIT_MEMLOCK, &r);
	}
	errno = saved;
	if (!rc)
		*pages = r.rlim_cur == RLIM_INFINITY ? UINT64_MAX : r.rlim_cur >> IOF_PAGE_SHIFT;
	return rc;
}

int iof_account_charge(struct iof_account *acct, uint64_t n)
{
	uint64_t limit, now;
	int rc;

	if (!acct || !n)
		return 0;
	limit = atomic_load_explicit(&acct->limit, memory_order_relaxed);
	if (limit == UINT64_MAX) {
		rc = account_rlimit(acct, &limit);
		if (rc)
			return rc;
	}
	now = atomic_load_explicit(&acct->locked, memory_order_relaxed);
	do {
		if (n > limit || now > limit - n)
			return -ENOMEM;
	} while (!atomic_compare_exchange_weak_explicit(&acct->locked, &now, now + n, memory_order_relaxed,
							memory_order_relaxed));
	return 0;
}

void iof_account_uncharge(struct iof_account *acct, uint64_t n)
{
	if (acct)
		atomic_fetch_sub_explicit(&acct->locked, n, memory_order_relaxed);
}

uint64_t iof_account_locked(const struct iof_account *acct)
{
	return acct ? atomic_load_explicit(&acct->locked, memory_order_relaxed) : 0;
}

void iof_account_set_limit(struct iof_account *acct, uint64_t limit_pages)
{
	if (acct)
		atomic_store_explicit(&acct->limit, limit_pages, memory_order_relaxed);
}
