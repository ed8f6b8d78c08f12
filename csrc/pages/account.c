/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts: three short lists, of processes, of users and of accounts (a process in a mode). Counters of a user are
 * shared by the accounts of all its processes; those of a process are in the process.
 *
 * The limit is read when a charge is made and not before, so that a setrlimit() in between counts. It is the limit of
 * the account's process, as in the kernel: two processes of one user may have different limits on one counter.
 */
#define _GNU_SOURCE
#include "pages/account.h"

#include <sys/resource.h>

#include "pages/account_who.h"
#include "pages/os.h"
#include "util/lock.h"

struct counter {
	_Atomic uint64_t locked; /* pages */
	_Atomic uint64_t limit; /* pages; UINT64_MAX: ask RLIMIT_MEMLOCK */
};

struct member {
	struct member *next;
	struct iofi_process id;
	_Atomic int64_t pinned;
	struct counter own;
};

struct user {
	struct user *next;
	uint32_t uid;
	struct counter own;
};

struct iof_account {
	struct iof_account *next;
	enum iof_account_mode mode;
	struct member *process;
	struct counter *payer; /* NULL: nobody */
};

struct iof_accounts {
	struct iof_alloc *alloc;
	struct iof_lock lock;
	struct iof_account *accounts;
	struct member *processes;
	struct user *users;
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

#define FREE_LIST(t, list)                                                                                             \
	while ((t)->list) {                                                                                            \
		void *gone = (t)->list;                                                                                \
                                                                                                                       \
		(t)->list = (t)->list->next;                                                                           \
		iof_mem_put((t)->alloc, gone, sizeof(*(t)->list));                                                     \
	}

void iof_accounts_destroy(struct iof_accounts *t)
{
	if (!t)
		return;
	FREE_LIST(t, accounts);
	FREE_LIST(t, processes);
	FREE_LIST(t, users);
	iof_mem_put(t->alloc, t, sizeof(*t));
}

/* The latest record of a pid is the living process's. */
static struct member *member_find(struct iof_accounts *t, uint32_t pid)
{
	struct member *p = t->processes;

	while (p && p->id.pid != pid)
		p = p->next;
	return p;
}

void iof_accounts_forked(struct iof_accounts *t)
{
	uint32_t mine = iofi_os_pid();

	iof_lock_take(&t->lock);
	for (struct member *p = t->processes; p; p = p->next)
		iofi_process_bury(&p->id, mine);
	iof_lock_drop(&t->lock);
}

static struct member *member_get(struct iof_accounts *t)
{
	struct member *p = member_find(t, iofi_os_pid());

	if (p)
		return p;
	p = iof_mem_zget(t->alloc, sizeof(*p), 16);
	if (!p)
		return NULL;
	iofi_process_self(&p->id);
	p->own.limit = UINT64_MAX;
	p->next = t->processes;
	t->processes = p;
	return p;
}

static struct user *user_get(struct iof_accounts *t)
{
	uint32_t uid = (uint32_t)getuid();
	struct user *u = t->users;

	while (u && u->uid != uid)
		u = u->next;
	if (u)
		return u;
	u = iof_mem_zget(t->alloc, sizeof(*u), 16);
	if (!u)
		return NULL;
	u->uid = uid;
	u->own.limit = UINT64_MAX;
	u->next = t->users;
	t->users = u;
	return u;
}

/* NULL in *out for the modes without a payer. */
static int payer_get(struct iof_accounts *t, enum iof_account_mode mode, struct member *process, struct counter **out)
{
	struct user *u;

	*out = mode == IOF_ACCOUNT_PROCESS ? &process->own : NULL;
	if (mode != IOF_ACCOUNT_USER)
		return 0;
	u = user_get(t);
	*out = u ? &u->own : NULL;
	return u ? 0 : -ENOMEM;
}

static struct iof_account *account_get(struct iof_accounts *t, enum iof_account_mode mode)
{
	struct member *process = member_get(t);
	struct iof_account *acct = t->accounts;
	struct counter *payer;

	if (!process || payer_get(t, mode, process, &payer))
		return NULL;
	while (acct && (acct->mode != mode || acct->process != process || acct->payer != payer))
		acct = acct->next;
	if (acct)
		return acct;
	acct = iof_mem_zget(t->alloc, sizeof(*acct), 16);
	if (!acct)
		return NULL;
	*acct = (struct iof_account){ t->accounts, mode, process, payer };
	t->accounts = acct;
	return acct;
}

int iof_account_of_process(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out)
{
	iof_lock_take(&t->lock);
	*out = account_get(t, mode);
	iof_lock_drop(&t->lock);
	return *out ? 0 : -ENOMEM;
}

int iof_account_of_caller(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out)
{
	*out = NULL;
	return mode == IOF_ACCOUNT_NONE ? 0 : iof_account_of_process(t, mode, out);
}

/*
 * RLIMIT_MEMLOCK of the process, in pages. When it is gone: -EINVAL for a process account; a user still exists, so
 * there the calling process stands in for it. The same when the process may not be asked (prlimit wants equal user
 * ids).
 */
static int account_rlimit(const struct iof_account *acct, uint64_t *pages)
{
	bool mine = iofi_process_is_self(&acct->process->id);
	uint64_t limit[2]; /* the kernel's struct rlimit64 */

	if (acct->mode == IOF_ACCOUNT_PROCESS && !mine && !iofi_process_lives(&acct->process->id))
		return -EINVAL;
	if (iofi_os(SYS_prlimit64, mine ? 0 : (pid_t)acct->process->id.pid, RLIMIT_MEMLOCK, NULL, limit) &&
	    iofi_os(SYS_prlimit64, 0, RLIMIT_MEMLOCK, NULL, limit))
		return -EINVAL;
	*pages = limit[0] == UINT64_MAX ? UINT64_MAX : limit[0] >> IOF_PAGE_SHIFT;
	return 0;
}

static int counter_add(struct counter *c, uint64_t n, uint64_t limit)
{
	uint64_t now = atomic_load_explicit(&c->locked, memory_order_relaxed);

	do {
		if (n > limit || now > limit - n)
			return -ENOMEM;
	} while (!atomic_compare_exchange_weak_explicit(&c->locked, &now, now + n, memory_order_relaxed,
							memory_order_relaxed));
	return 0;
}

static int charge_payer(struct iof_account *acct, uint64_t n)
{
	uint64_t limit = atomic_load_explicit(&acct->payer->limit, memory_order_relaxed);
	int rc = limit == UINT64_MAX ? account_rlimit(acct, &limit) : 0;

	return rc ? rc : counter_add(acct->payer, n, limit);
}

int iof_account_charge(struct iof_account *acct, uint64_t n)
{
	int rc;

	if (!acct || !n || acct->mode == IOF_ACCOUNT_UNCOUNTED)
		return 0;
	rc = acct->payer ? charge_payer(acct, n) : 0;
	if (!rc)
		atomic_fetch_add_explicit(&acct->process->pinned, (int64_t)n, memory_order_relaxed);
	return rc;
}

void iof_account_uncharge(struct iof_account *acct, uint64_t n)
{
	if (!acct || acct->mode == IOF_ACCOUNT_UNCOUNTED)
		return;
	if (acct->payer)
		atomic_fetch_sub_explicit(&acct->payer->locked, n, memory_order_relaxed);
	atomic_fetch_sub_explicit(&acct->process->pinned, (int64_t)n, memory_order_relaxed);
}

uint64_t iof_account_locked(const struct iof_account *acct)
{
	return acct && acct->payer ? atomic_load_explicit(&acct->payer->locked, memory_order_relaxed) : 0;
}

void iof_account_set_limit(struct iof_account *acct, uint64_t limit_pages)
{
	if (acct && acct->payer)
		atomic_store_explicit(&acct->payer->limit, limit_pages, memory_order_relaxed);
}

void iof_account_of_pid(struct iof_accounts *t, uint32_t pid, int64_t *pinned, uint64_t *locked)
{
	struct member *p;

	iof_lock_take(&t->lock);
	p = member_find(t, pid);
	iof_lock_drop(&t->lock);
	*pinned = p ? atomic_load_explicit(&p->pinned, memory_order_relaxed) : 0;
	*locked = p ? atomic_load_explicit(&p->own.locked, memory_order_relaxed) : 0;
}

struct iof_account *iof_account_mine(struct iof_accounts *t, struct iof_account *old)
{
	struct iof_account *now = NULL;

	(void)iof_account_of_process(t, old->mode, &now);
	return now;
}

enum iof_account_mode iof_account_mode(const struct iof_account *acct)
{
	return acct->mode;
}

bool iof_account_moves(const struct iof_account *old, const struct iof_account *now)
{
	return old->payer && (old->payer != now->payer || old->process != now->process);
}

const struct iofi_process *iofi_account_process(const struct iof_account *acct)
{
	return acct ? &acct->process->id : NULL;
}

bool iofi_account_counts(const struct iof_account *acct)
{
	return acct && acct->mode != IOF_ACCOUNT_UNCOUNTED;
}

bool iofi_account_is_remote(const struct iof_account *acct)
{
	return acct && !iofi_process_is_self(&acct->process->id);
}
