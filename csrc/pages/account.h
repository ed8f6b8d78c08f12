/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who mapped, and who pays for pinned pages (behaviour.md R4.6).
 *
 * An account is a process in one mode. `user` counts into the one counter of the process's user, `process` into the
 * process's own; both are limited. Whatever the mode, the process's *pinned* pages are counted without a limit (what
 * /proc/PID/status shows as VmPin, R4.6.3). No account at all (NULL) is the caller's own memory, counted nowhere.
 *
 * Accounts, processes and users are only added while the table lives, so a pointer to one stays good. Counters are
 * atomic; the table has its own lock.
 */
#ifndef IOF_PAGES_ACCOUNT_H
#define IOF_PAGES_ACCOUNT_H

#include "util/alloc.h"

enum iof_account_mode {
	IOF_ACCOUNT_NONE = 0, /* no limit */
	IOF_ACCOUNT_USER = 1,
	IOF_ACCOUNT_PROCESS = 2,
	IOF_ACCOUNT_UNCOUNTED = 3, /* only says whose memory it is */
};

struct iof_account;
struct iof_accounts; /* a machine's table */

int iof_accounts_create(struct iof_alloc *a, struct iof_accounts **out);
void iof_accounts_destroy(struct iof_accounts *t);

/*
 * The calling process's account in this mode, made on first use. -ENOMEM. A pid is taken for the process that had it
 * when its account was made, until iof_accounts_forked().
 */
int iof_account_of_process(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out);

/* The same, but NULL for NONE: who asks for no accounting has nothing counted. */
int iof_account_of_caller(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out);

/* A child right after fork(): whoever had its pid before is gone. See iof_memory_forked(). */
void iof_accounts_forked(struct iof_accounts *t);

/*
 * Charges n pages: -ENOMEM when the sum passes RLIMIT_MEMLOCK, as it is now, of the account's process (limit_pages when
 * that was set); -EINVAL when the mode is `process` and the process is gone. 0 for a NULL account.
 */
int iof_account_charge(struct iof_account *acct, uint64_t n);
void iof_account_uncharge(struct iof_account *acct, uint64_t n);
uint64_t iof_account_locked(const struct iof_account *acct); /* pages its payer is charged now */
void iof_account_set_limit(struct iof_account *acct, uint64_t limit_pages); /* UINT64_MAX: back to RLIMIT_MEMLOCK */

/*
 * What a process is seen to have pinned and locked, in pages. `pinned` may be negative: R4.6.3. 0 for a process that
 * never mapped.
 */
void iof_account_of_pid(struct iof_accounts *t, uint32_t pid, int64_t *pinned, uint64_t *locked);

enum iof_account_mode iof_account_mode(const struct iof_account *acct);

/* The account in `old`'s mode of the calling process: what CHANGE_PROCESS makes of an account. NULL: no memory. */
struct iof_account *iof_account_mine(struct iof_accounts *t, struct iof_account *old);

/*
 * CHANGE_PROCESS's exception: does a charge follow the container from `old` to `now`? Not with `none`, which is never
 * recounted; not when the payer and the process stay the same (R4.6.5).
 */
bool iof_account_moves(const struct iof_account *old, const struct iof_account *now);

#endif
