/* SPDX-License-Identifier: Apache-2.0 */
/* A context with one attached device and an IOAS, for the tests of csrc/memory; over one provider, named by how it is opened. */
#ifndef IOF_TESTS_MEMORY_RIG_H
#define IOF_TESTS_MEMORY_RIG_H

#include "check.h"
#include "engine.h"
#include "iommufd_fast_memory.h"
#include "util/alloc.h"

struct rig {
	struct iof_machine *machine;
	struct iof_handle *ctx, *dev;
	uint32_t ioas;
};

static inline void rig_open(struct rig *r)
{
	r->machine = machine_with(IOF_PRESET_INTEL, (uint32_t[]){ 1 }, 1, NULL);
	CHECK(r->machine);
	CHECK_EQ(iof_engine_open(r->machine, &r->ctx), 0);
	CHECK_EQ(iof_engine_open_device(r->machine, 0, &r->dev), 0);
	CHECK_EQ(bind_device(r->dev, r->ctx, NULL), 0);
	CHECK_EQ(ioas_alloc(r->ctx, &r->ioas), 0);
	CHECK_EQ(attach(r->dev, r->ioas, NULL), 0);
}

static inline uint64_t rig_mappings(struct rig *r)
{
	struct iof_ioas_stats s;

	CHECK_EQ(iof_ioas_stats(r->ctx, r->ioas, &s), 0);
	return s.mappings;
}

/* Nothing that was mapped is left. */
static inline void rig_close(struct rig *r)
{
	CHECK_EQ(rig_mappings(r), 0);
	CHECK(iof_machine_is_valid(r->machine));
	iof_close(r->dev);
	iof_close(r->ctx);
	iof_machine_put(r->machine);
}

#endif
