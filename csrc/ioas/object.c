/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/object.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>

#define FIRST_CHUNK_LG2 6
#define MAX_ID INT32_MAX

static unsigned chunk_of(uint32_t id, uint32_t *index)
{
	uint64_t n = (uint64_t)id + (1u << FIRST_CHUNK_LG2);
	unsigned k = iof_log2(n) - FIRST_CHUNK_LG2;

	*index = (uint32_t)(n - (UINT64_C(1) << (k + FIRST_CHUNK_LG2)));
	return k;
}

static size_t chunk_bytes(unsigned k)
{
	return sizeof(struct iof_slot) << (k + FIRST_CHUNK_LG2);
}

static struct iof_slot *slot_at(struct iof_objects *t, uint32_t id)
{
	uint32_t index;
	unsigned k = chunk_of(id, &index);
	struct iof_slot *chunk;

	if (k >= IOF_OBJECT_CHUNKS)
		return NULL;
	chunk = atomic_load_explicit(&t->chunk[k], memory_order_acquire);
	return chunk ? chunk + index : NULL;
}

static struct iof_slot *slot_make(struct iof_objects *t, uint32_t id)
{
	uint32_t index;
	unsigned k = chunk_of(id, &index);
	struct iof_slot *chunk = atomic_load_explicit(&t->chunk[k], memory_order_relaxed);

	if (!chunk) {
		chunk = iof_mem_zget(t->alloc, chunk_bytes(k), IOF_CACHELINE);
		if (!chunk)
			return NULL;
		atomic_store_explicit(&t->chunk[k], chunk, memory_order_release);
	}
	return chunk + index;
}

void iof_objects_init(struct iof_objects *t, struct iof_alloc *a)
{
	*t = (struct iof_objects){ .alloc = a, .lowest = 1 };
}

void iof_objects_fini(struct iof_objects *t)
{
	for (unsigned k = 0; k < IOF_OBJECT_CHUNKS; k++)
		iof_mem_put(t->alloc, atomic_load_explicit(&t->chunk[k], memory_order_relaxed), chunk_bytes(k));
}

int iof_object_reserve(struct iof_objects *t, struct iof_object *o, enum iof_object_type type)
{
	struct iof_slot *slot;
	uint32_t id = t->lowest;

	for (;; id++) {
		if (id > MAX_ID)
			return -EBUSY;
		slot = slot_make(t, id);
		if (!slot)
			return -ENOMEM;
		if (!slot->reserved)
			break;
	}
	slot->reserved = 1;
	t->lowest = id + 1;
	t->taken++;
	*o = (struct iof_object){ .slot = slot, .id = id, .type = type };
	return 0;
}

void iof_object_publish(struct iof_object *o)
{
	struct iof_slot *slot = o->slot;

	atomic_store_explicit(&slot->object, o, memory_order_relaxed);
	atomic_store_explicit(&slot->type, (uint16_t)o->type, memory_order_relaxed);
	atomic_store_explicit(&slot->users, 1, memory_order_release);
}

void iof_object_abort(struct iof_objects *t, struct iof_object *o)
{
	o->slot->reserved = 0;
	t->taken--;
	if (o->id < t->lowest)
		t->lowest = o->id;
}

struct iof_object *iof_object_get(struct iof_objects *t, uint32_t id, enum iof_object_type type)
{
	struct iof_slot *slot = slot_at(t, id);
	uint32_t n;

	if (!slot || iof_alloc_may_fail(t->alloc))
		return NULL;
	/* An id of another type is left alone: a look-up that fails should not make the object busy. */
	if (type != IOF_OBJECT_ANY && atomic_load_explicit(&slot->type, memory_order_relaxed) != type)
		return NULL;
	n = atomic_load_explicit(&slot->users, memory_order_relaxed);
	do {
		if (!n)
			return NULL;
	} while (!atomic_compare_exchange_weak_explicit(&slot->users, &n, n + 1, memory_order_acquire,
							memory_order_relaxed));
	if (type != IOF_OBJECT_ANY && atomic_load_explicit(&slot->type, memory_order_relaxed) != type) {
		atomic_fetch_sub_explicit(&slot->users, 1, memory_order_release);
		return NULL;
	}
	return atomic_load_explicit(&slot->object, memory_order_relaxed);
}

/* From "the table's own user only" to nobody's, in one step. */
static bool take_out(struct iof_object *o)
{
	uint32_t own = 1;

	return atomic_compare_exchange_strong_explicit(&o->slot->users, &own, 0, memory_order_acq_rel,
						       memory_order_relaxed);
}

int iof_object_remove(struct iof_objects *t, struct iof_object *o)
{
	if (!take_out(o))
		return -EBUSY;
	iof_object_abort(t, o);
	return 0;
}

void iof_object_bury(struct iof_objects *t, struct iof_object *o)
{
	while (!take_out(o))
		sched_yield();
	t->tombstones++;
}

void iof_object_remove_wait(struct iof_objects *t, struct iof_object *o)
{
	while (iof_object_remove(t, o))
		sched_yield();
}

struct iof_object *iof_object_next(struct iof_objects *t, uint32_t from)
{
	struct iof_slot *slot;

	for (uint32_t id = from; (slot = slot_at(t, id)); id++)
		if (atomic_load_explicit(&slot->users, memory_order_acquire))
			return atomic_load_explicit(&slot->object, memory_order_relaxed);
	return NULL;
}
