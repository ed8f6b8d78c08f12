/* SPDX-License-Identifier: Apache-2.0 */
/* What containers ask of an account: whose memory it is. Private to this folder. */
#ifndef IOF_PAGES_ACCOUNT_WHO_H
#define IOF_PAGES_ACCOUNT_WHO_H

#include "pages/account.h"
#include "pages/process.h"

const struct iofi_process *iofi_account_process(const struct iof_account *acct); /* NULL: no account */
bool iofi_account_counts(const struct iof_account *acct);
bool iofi_account_is_remote(const struct iof_account *acct); /* another process's */

#endif
