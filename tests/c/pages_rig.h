/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of page containers share: a memory, a model of who holds what, and its comparison with the container.
 */
#ifndef IOF_TESTS_PAGES_RIG_H
#define IOF_TESTS_PAGES_RIG_H

#include "check.h"
#include "pages/pages.h"

#define RIG_HOLDS 24
#define RIG_SLOTS 64

struct rig {
	struct iof_alloc alloc;
	struct iof_memory memory;
	struct iof_accounts *accounts;
	struct iof_account *account;
};

static inline void rig_open(struct rig *r, enum iof_address_mode mode, enum iof_account_mode account)
{
	*r = (struct rig){ .memory = { .address_mode = mode } };
	iof_alloc_init_heap(&r->alloc);
	r->memory.alloc = &r->alloc;
	if (mode == IOF_ADDRESS_SYNTHETIC)
		CHECK_EQ(iof_identities_create(&r->alloc, &r->memory.identities), 0);
	CHECK_EQ(iof_accounts_create(&r->alloc, &r->accounts), 0);
	CHECK_EQ(iof_account_of_caller(r->accounts, account, &r->account), 0);
	iof_account_set_limit(r->account, UINT64_C(1) << 40);
}

static inline void rig_close(struct rig *r)
{
	CHECK_EQ(iof_account_locked(r->account), 0);
	iof_identities_destroy(r->memory.identities);
	iof_accounts_destroy(r->accounts);
	CHECK_EQ(r->alloc.live_blocks, 0);
	CHECK_EQ(r->alloc.live_bytes, 0);
}

/* Who holds what of one container. */
struct model {
	struct {
		uint64_t first, last;
	} held[RIG_HOLDS];
	unsigned n;
};

static inline uint64_t model_count(const struct model *m, uint64_t slot)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < m->n; i++)
		n += m->held[i].first <= slot && slot <= m->held[i].last;
	return n;
}

static inline uint64_t model_pinned(const struct model *m)
{
	uint64_t n = 0;

	for (uint64_t slot = 0; slot < RIG_SLOTS; slot++)
		n += model_count(m, slot) != 0;
	return n;
}

static inline void model_note(struct model *m, uint64_t first, uint64_t last)
{
	m->held[m->n].first = first;
	m->held[m->n++].last = last;
}

/* The container says of each slot, and in total, what the model says. `charged`: pages on the account by others. */
static inline void rig_compare(struct rig *r, const struct iof_pages *p, const struct model *m, uint64_t charged)
{
	CHECK(iof_pages_is_valid(p, &r->memory));
	CHECK(!r->memory.identities || iof_identities_is_valid(r->memory.identities));
	CHECK_EQ(iof_pages_intervals(p), m->n);
	CHECK_EQ(iof_pages_pinned(p), model_pinned(m));
	for (uint64_t slot = 0; slot < p->npages; slot++) {
		uint64_t got, address, end = slot;

		while (end < p->npages && model_count(m, end))
			end++;
		CHECK_EQ(iof_pages_covered(p, slot, p->npages - 1), end - slot);
		CHECK_EQ(iof_pages_covered(p, slot, slot), end != slot);
		CHECK_EQ(iof_pages_holds(p, slot), model_count(m, slot));
		if (!model_count(m, slot))
			continue;
		address = iof_pages_address(p, &r->memory, slot << IOF_PAGE_SHIFT, IOF_PAGE_SIZE, &got);
		CHECK_EQ(got, IOF_PAGE_SIZE);
		if (r->memory.identities)
			CHECK(iof_identity_pins(r->memory.identities, address) >= 1);
		else
			CHECK_EQ(address, p->base + (slot << IOF_PAGE_SHIFT));
	}
	CHECK_EQ(iof_account_locked(r->account), r->account ? charged + model_pinned(m) : 0);
}

static inline void rig_release(struct rig *r, struct iof_pages *p, struct model *m, unsigned which)
{
	uint64_t first = m->held[which].first, last = m->held[which].last;

	m->held[which] = m->held[--m->n];
	iof_pages_release(p, &r->memory, first, last);
}

#endif
