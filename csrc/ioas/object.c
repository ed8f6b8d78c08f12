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

static void chunk_free(struct iof_objects *t, struct iof_slot *chunk, unsigned k)
{
	for (size_t i = 0; chunk && i < chunk_bytes(k) / sizeof(*chunk); i++)
		iof_mem_put(t->alloc, atomic_load_explicit(&chunk[i].gate, memory_order_relaxed), sizeof(struct iof_brlock));
	iof_mem_put(t->alloc, chunk, chunk_bytes(k));
}

void iof_objects_fini(struct iof_objects *t)
{
	for (unsigned k = 0; k < IOF_OBJECT_CHUNKS; k++)
		chunk_free(t, atomic_load_explicit(&t->chunk[k], memory_order_relaxed), k);
}

static int gate_make(struct iof_objects *t, struct iof_slot *slot)
{
	struct iof_brlock *gate = atomic_load_explicit(&slot->gate, memory_order_relaxed);

	if (gate)
		return 0;
	gate = iof_mem_get(t->alloc, sizeof(*gate), IOF_CACHELINE);
	if (!gate)
		return -ENOMEM;
	iof_brlock_init(gate, t->alloc->shared);
	atomic_store_explicit(&slot->gate, gate, memory_order_release);
	return 0;
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
	if (type == IOF_OBJECT_IOAS && gate_make(t, slot))
		return -ENOMEM;
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

/* How many there are, once it is known that the object does not leave. */
static uint32_t settled_users(struct iof_slot *slot)
{
	uint32_t n;

	while ((n = atomic_load_explicit(&slot->users, memory_order_acquire)) & IOF_OBJECT_LEAVING)
		sched_yield();
	return n;
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
	do {
		n = settled_users(slot);
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

/* The gate of an IOAS that may be there; NULL: no IOAS. */
static struct iof_brlock *gate_of(struct iof_objects *t, struct iof_slot *slot)
{
	if (iof_unlikely(!slot || iof_alloc_may_fail(t->alloc)))
		return NULL;
	if (iof_unlikely(atomic_load_explicit(&slot->type, memory_order_relaxed) != IOF_OBJECT_IOAS))
		return NULL;
	return atomic_load_explicit(&slot->gate, memory_order_acquire);
}

int iof_object_enter(struct iof_objects *t, uint32_t id, bool nowait, struct iof_object **out)
{
	struct iof_slot *slot = slot_at(t, id);
	struct iof_brlock *gate = gate_of(t, slot);
	uint32_t n;

	if (iof_unlikely(!gate))
		return -ENOENT;
	for (;;) {
		if (iof_unlikely(!iof_brlock_read_try(gate))) {
			if (nowait)
				return -EAGAIN;
			iof_brlock_read_slow(gate);
		}
		n = atomic_load_explicit(&slot->users, memory_order_acquire);
		if (iof_likely(n && !(n & IOF_OBJECT_LEAVING) &&
			       atomic_load_explicit(&slot->type, memory_order_relaxed) == IOF_OBJECT_IOAS)) {
			*out = atomic_load_explicit(&slot->object, memory_order_relaxed);
			return 0;
		}
		iof_brlock_read_drop(gate);
		if (!(n & IOF_OBJECT_LEAVING))
			return -ENOENT;
		(void)settled_users(slot);
	}
}

void iof_object_give_way(struct iof_object *o)
{
	struct iof_brlock *gate = iof_object_gate(o);

	if (iof_likely(!atomic_load_explicit(&gate->closed, memory_order_relaxed)))
		return;
	iof_object_ref(o);
	iof_brlock_read_drop(gate);
	iof_brlock_read(gate);
	iof_object_put(o);
}

/* The object is marked as leaving, so calls that come now go away again; those that run have been here before. */
static bool leave_or_stay(struct iof_slot *slot, struct iof_brlock *gate)
{
	bool stays;

	iof_fence_writer();
	stays = iof_brlock_is_read(gate);
	if (stays)
		atomic_fetch_and_explicit(&slot->users, ~IOF_OBJECT_LEAVING, memory_order_release);
	else
		atomic_store_explicit(&slot->users, 0, memory_order_release);
	return !stays;
}

/* From "the table's own user only" to nobody's, in one step for all who look. */
static bool take_out(struct iof_object *o)
{
	struct iof_brlock *gate = o->type == IOF_OBJECT_IOAS ? iof_object_gate(o) : NULL;
	uint32_t own = 1;

	if (!atomic_compare_exchange_strong_explicit(&o->slot->users, &own, gate ? IOF_OBJECT_LEAVING | 1 : 0,
						     memory_order_seq_cst, memory_order_relaxed))
		return false;
	return !gate || leave_or_stay(o->slot, gate);
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
