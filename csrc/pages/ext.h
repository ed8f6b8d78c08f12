/* SPDX-License-Identifier: Apache-2.0 */
/* What a container grows when it is held otherwise than whole (pages.c). Private to this folder. */
#ifndef IOF_PAGES_EXT_H
#define IOF_PAGES_EXT_H

#include "pages/account_who.h"
#include "pages/backing.h"
#include "pages/names.h"
#include "pages/runmap.h"

struct iof_pages_ext {
	struct iofi_runmap map;
	uint64_t holds;
	uint64_t pinned;
	struct iofi_names names; /* empty with virtual addresses */
};

/* Nothing to probe, to name or to count. */
static inline bool is_plain(const struct iof_pages *p, const struct iof_memory *m)
{
	return iofi_is_user(p) && p->policy == IOF_HOLD_TRUST && m->address_mode == IOF_ADDRESS_VA &&
	       iof_likely(!p->account || !iofi_account_counts(p->account));
}

#endif
