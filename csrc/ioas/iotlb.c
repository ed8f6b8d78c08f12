/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/iotlb.h"

#include <string.h>

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void iof_iotlb_init(struct iof_iotlb *t, bool shared)
{
	memset(t, 0, sizeof(*t));
	for (unsigned i = 0; i < IOF_IOTLB_SETS; i++)
		iof_lock_init(&t->set[i].lock, shared);
}

/* Leaves of any size are looked up by their 4 KiB page, so one large leaf may be in several sets. */
static unsigned index_of(uint32_t domain, uint64_t iova)
{
	return ((iova >> IOF_PAGE_SHIFT) + domain) % IOF_IOTLB_SETS;
}

static struct iof_iotlb_set *set_of(struct iof_iotlb *t, uint32_t domain, uint64_t iova)
{
	return &t->set[index_of(domain, iova)];
}

static bool covers(const struct iof_iotlb_entry *e, const struct iof_iotlb_key *key, uint64_t iova)
{
	return e->domain == key->domain && e->tag == key->tag && ((iova ^ e->leaf.iova) & ~iof_low_mask(e->leaf.size_lg2)) == 0;
}

bool iof_iotlb_find_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, uint64_t iova, struct iof_pt_leaf *leaf,
			   uint64_t *through)
{
	struct iof_iotlb_set *s = set_of(t, key->domain, iova);
	bool found = false;

	iof_lock_take(&s->lock);
	for (unsigned i = 0; i < IOF_IOTLB_WAYS && !found; i++)
		if (covers(&s->way[i], key, iova)) {
			s->way[i].age = ++s->clock;
			*leaf = s->way[i].leaf;
			*through = s->way[i].through;
			found = true;
		}
	iof_lock_drop(&s->lock);
	count(found ? &t->hits : &t->misses, 1);
	return found;
}

bool iof_iotlb_find(struct iof_iotlb *t, uint32_t domain, uint64_t iova, struct iof_pt_leaf *leaf)
{
	uint64_t through;

	return iof_iotlb_find_nested(t, &(struct iof_iotlb_key){ .domain = domain }, iova, leaf, &through);
}

/* A leaf is kept under the set of the page that missed; `leaf->iova` tells that page's leaf, so any page inside will do. */
static struct iof_iotlb_entry *victim(struct iof_iotlb_set *s)
{
	struct iof_iotlb_entry *oldest = &s->way[0];

	for (unsigned i = 0; i < IOF_IOTLB_WAYS; i++) {
		if (!s->way[i].domain)
			return &s->way[i];
		if ((int32_t)(s->way[i].age - oldest->age) < 0)
			oldest = &s->way[i];
	}
	return oldest;
}

void iof_iotlb_insert_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, uint64_t iova, const struct iof_pt_leaf *leaf,
			     uint64_t through)
{
	struct iof_iotlb_set *s = set_of(t, key->domain, iova);
	struct iof_iotlb_entry *e;

	iof_lock_take(&s->lock);
	e = victim(s);
	if (e->domain)
		count(&t->evictions, 1);
	atomic_fetch_or_explicit(&t->occupied, UINT64_C(1) << (s - t->set), memory_order_relaxed);
	if (leaf->size_lg2 > IOF_PAGE_SHIFT)
		atomic_fetch_or_explicit(&t->large, UINT64_C(1) << (s - t->set), memory_order_relaxed);
	*e = (struct iof_iotlb_entry){ .domain = key->domain, .age = ++s->clock, .tag = key->tag, .parent = key->parent,
				       .through = through, .leaf = *leaf };
	iof_lock_drop(&s->lock);
}

void iof_iotlb_insert(struct iof_iotlb *t, uint32_t domain, uint64_t iova, const struct iof_pt_leaf *leaf)
{
	iof_iotlb_insert_nested(t, &(struct iof_iotlb_key){ .domain = domain }, iova, leaf, 0);
}

static bool intersects(const struct iof_iotlb_entry *e, struct iof_range r)
{
	return iof_range_intersects((struct iof_range){ e->leaf.iova, e->leaf.iova | iof_low_mask(e->leaf.size_lg2) }, r);
}

static bool meets(const struct iof_iotlb_entry *e, const struct iof_iotlb_key *key, struct iof_range r)
{
	return e->domain == key->domain && !e->parent && intersects(e, r);
}

static bool meets_nested(const struct iof_iotlb_entry *e, const struct iof_iotlb_key *key, struct iof_range r)
{
	return e->domain && e->parent && (!key->domain || e->domain == key->domain) && (!key->parent || e->parent == key->parent) &&
	       (key->tag == IOF_IOTLB_ANY_TAG || e->tag == key->tag) && intersects(e, r);
}

typedef bool (*meets_fn)(const struct iof_iotlb_entry *e, const struct iof_iotlb_key *key, struct iof_range r);

static unsigned invalidate_set(struct iof_iotlb *t, struct iof_iotlb_set *s, meets_fn meet, const struct iof_iotlb_key *key,
			       struct iof_range r)
{
	uint64_t bit = UINT64_C(1) << (s - t->set);
	bool any = false, large = false;
	unsigned n = 0;

	iof_lock_take(&s->lock);
	for (unsigned i = 0; i < IOF_IOTLB_WAYS; i++) {
		struct iof_iotlb_entry *e = &s->way[i];

		if (meet(e, key, r)) {
			e->domain = 0;
			n++;
		}
		any |= e->domain != 0;
		large |= e->domain && e->leaf.size_lg2 > IOF_PAGE_SHIFT;
	}
	if (!any)
		atomic_fetch_and_explicit(&t->occupied, ~bit, memory_order_relaxed);
	if (n && !large)
		atomic_fetch_and_explicit(&t->large, ~bit, memory_order_relaxed);
	iof_lock_drop(&s->lock);
	return n;
}

/* The sets that may hold something of a range: those of its pages, and wherever a large leaf sits (under the page that missed). */
static uint64_t sets_of(struct iof_iotlb *t, uint32_t domain, struct iof_range r)
{
	uint64_t first = r.start >> IOF_PAGE_SHIFT, pages = (r.last >> IOF_PAGE_SHIFT) - first, sets = 0;

	if (pages >= IOF_IOTLB_SETS - 1)
		sets = UINT64_MAX;
	else
		for (uint64_t i = 0; i <= pages; i++)
			sets |= UINT64_C(1) << index_of(domain, (first + i) << IOF_PAGE_SHIFT);
	sets |= atomic_load_explicit(&t->large, memory_order_relaxed);
	return sets & atomic_load_explicit(&t->occupied, memory_order_relaxed);
}

static unsigned invalidate(struct iof_iotlb *t, uint64_t sets, meets_fn meet, const struct iof_iotlb_key *key, struct iof_range r)
{
	unsigned n = 0;

	if (atomic_load_explicit(&t->drop, memory_order_relaxed)) {
		count(&t->dropped, 1);
		return 0;
	}
	for (; sets; sets &= sets - 1)
		n += invalidate_set(t, &t->set[__builtin_ctzll(sets)], meet, key, r);
	count(&t->invalidations, 1);
	return n;
}

unsigned iof_iotlb_invalidate(struct iof_iotlb *t, uint32_t domain, struct iof_range r)
{
	return invalidate(t, sets_of(t, domain, r), meets, &(struct iof_iotlb_key){ .domain = domain }, r);
}

unsigned iof_iotlb_invalidate_nested(struct iof_iotlb *t, const struct iof_iotlb_key *key, struct iof_range r)
{
	return invalidate(t, atomic_load_explicit(&t->occupied, memory_order_relaxed), meets_nested, key, r);
}

uint32_t iof_iotlb_live(struct iof_iotlb *t)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < IOF_IOTLB_SETS; i++) {
		iof_lock_take(&t->set[i].lock);
		for (unsigned w = 0; w < IOF_IOTLB_WAYS; w++)
			n += t->set[i].way[w].domain != 0;
		iof_lock_drop(&t->set[i].lock);
	}
	return n;
}
