/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who pays for pinned pages (behaviour.md R4.6). One record per payer and machine: a user (uid) or a process (tgid),
 * with its count of locked pages and a limit. `none` has no record: a NULL account is never charged.
 *
 * Counters are atomic; the table has its own lock.
 */
#ifndef IOF_PAGES_ACCOUNT_H
#define IOF_PAGES_ACCOUNT_H

#include "util/alloc.h"

enum iof_account_mode { IOF_ACCOUNT_NONE = 0, IOF_ACCOUNT_USER = 1, IOF_ACCOUNT_PROCESS = 2 };

struct iof_account;
struct iof_accounts; /* a machine's table */

int iof_accounts_create(struct iof_alloc *a, struct iof_accounts **out);
void iof_accounts_destroy(struct iof_accounts *t);

/*
 * The record of the calling process's user or of the process itself, made on first use (kept until the table goes).
 * NULL and 0 for NONE. -ENOMEM.
 */
int iof_account_of_caller(struct iof_accounts *t, enum iof_account_mode mode, struct iof_account **out);

/*
 * Charges n pages: -ENOMEM when the sum passes RLIMIT_MEMLOCK, as it is now, of the process that asked for the record
 * last (limit_pages when that was set); -EINVAL when the record is a process's and that process is gone. 0 for a NULL
 * record.
 */
int iof_account_charge(struct iof_account *acct, uint64_t n);
void iof_account_uncharge(struct iof_account *acct, uint64_t n);
uint64_t iof_account_locked(const struct iof_account *acct); /* pages charged now */
void iof_account_set_limit(struct iof_account *acct, uint64_t limit_pages); /* UINT64_MAX: back to RLIMIT_MEMLOCK */

#endif
