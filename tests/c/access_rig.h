/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An emulated device for the tests of accesses: it notes down what it pins, and its call-back unpins what meets an
 * unmapped range.
 *
 * Its lock is held from before a pin until the pin is noted, so that a call-back in another thread waits for the
 * note.
 */
#ifndef IOF_TESTS_ACCESS_RIG_H
#define IOF_TESTS_ACCESS_RIG_H

#include <pthread.h>

#include "check.h"
#include "engine.h"
#include "iommufd_fast_access.h"
#include "util/alloc.h"

#define RIG_PINS 256

struct emu {
	struct iof_access *access;
	pthread_mutex_t lock;
	struct iof_dma_segment pin[RIG_PINS];
	unsigned n_pins, calls, order;
	uint64_t last_iova, last_length;
	bool stubborn; /* keeps its pins whatever it is told */
};

static unsigned emu_order; /* counts call-backs of all devices */

static inline bool emu_meets(const struct iof_dma_segment *p, uint64_t iova, uint64_t length)
{
	return p->iova <= iova + (length - 1) && iova <= p->iova + (p->length - 1);
}

static inline void emu_forget(struct emu *e, unsigned i)
{
	e->pin[i] = e->pin[--e->n_pins];
}

static inline void emu_unmap(void *data, uint64_t iova, uint64_t length)
{
	struct emu *e = data;

	pthread_mutex_lock(&e->lock);
	e->calls++;
	e->order = __atomic_add_fetch(&emu_order, 1, __ATOMIC_RELAXED);
	e->last_iova = iova;
	e->last_length = length;
	for (unsigned i = 0; i < e->n_pins && !e->stubborn;) {
		if (!emu_meets(&e->pin[i], iova, length)) {
			i++;
			continue;
		}
		if (iof_access_unpin(e->access, e->pin[i].iova, e->pin[i].length))
			abort();
		emu_forget(e, i);
	}
	pthread_mutex_unlock(&e->lock);
}

static inline int emu_open(struct emu *e, struct iof_handle *ctx, bool needs_pin)
{
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = needs_pin, .unmap = emu_unmap, .data = e };

	memset(e, 0, sizeof(*e));
	pthread_mutex_init(&e->lock, NULL);
	return iof_access_open(ctx, &cfg, &e->access);
}

static inline int emu_pin(struct emu *e, uint64_t iova, uint64_t length, bool write, uint64_t *addresses)
{
	int rc;

	pthread_mutex_lock(&e->lock);
	rc = e->n_pins < RIG_PINS ? iof_access_pin(e->access, iova, length, write, addresses) : -ENOENT;
	if (!rc)
		e->pin[e->n_pins++] = (struct iof_dma_segment){ iova, length };
	pthread_mutex_unlock(&e->lock);
	return rc;
}

/* Gives back the newest pin. */
static inline int emu_unpin(struct emu *e)
{
	int rc = -ENOENT;

	pthread_mutex_lock(&e->lock);
	if (e->n_pins) {
		e->n_pins--;
		rc = iof_access_unpin(e->access, e->pin[e->n_pins].iova, e->pin[e->n_pins].length);
	}
	pthread_mutex_unlock(&e->lock);
	return rc;
}

static inline uint64_t alignment_of(struct iof_handle *ctx, uint32_t ioas)
{
	struct iof_uapi_range r[8];
	struct iof_cmd_ioas_iova_ranges c = { .size = sizeof(c), .ioas_id = ioas, .num_iovas = 8,
					      .allowed_iovas = (uintptr_t)r };

	return iof_ioctl(ctx, IOF_CMD_IOAS_IOVA_RANGES, &c) ? 0 : c.out_iova_alignment;
}

static inline struct iof_machine *rig_machine(enum iof_policy policy, enum iof_addresses addresses, struct iof_alloc *a)
{
	static const uint32_t groups[] = { 1, 1 };
	struct iof_machine_config cfg = { .size = sizeof(cfg), .preset = IOF_PRESET_INTEL, .groups = groups,
					  .n_groups = 2, .alloc = a, .policy = policy, .addresses = addresses };
	struct iof_machine *m = NULL;

	return iof_machine_create(&cfg, &m) ? NULL : m;
}

#endif
