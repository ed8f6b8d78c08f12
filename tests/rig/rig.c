/* SPDX-License-Identifier: Apache-2.0 */
/* The embedder's IOMMU of the C tests (tests/c/driver_rig.h) as a library, for tests in Python that reach it by ctypes. */
#include "../c/driver_rig.h"

struct answers {
	uint32_t n, code, group;
};

static void answered(void *data, uint32_t pasid, uint32_t group, uint32_t code)
{
	struct answers *a = data;

	(void)pasid;
	a->n++;
	a->code = code;
	a->group = group;
}

/* Plugs n devices, each into a group of its own: the rig, and the index of the first. The rig must outlive the machine. */
struct rig *rig_make(struct iof_machine *m, unsigned n, uint32_t *index)
{
	struct rig *r = malloc(sizeof(*r));
	struct iof_iommu *iommu;
	uint32_t at;
	int rc;

	rig_init(r);
	rc = iof_machine_add_driver(m, &rig_driver, r, &iommu);
	for (unsigned i = 0; i < n && !rc; i++)
		rc = rig_plug(r, m, iommu, i, 1, i ? &at : index);
	return rc ? NULL : r;
}

void rig_free(struct rig *r)
{
	free(r);
}

/* How many nested page tables, vIOMMUs, vDEVICEs and queues are alive. */
void rig_alive(const struct rig *r, int out[4])
{
	out[0] = r->nested;
	out[1] = r->viommus;
	out[2] = r->vdevices;
	out[3] = r->queues;
}

uint32_t rig_word(const struct rig *r, unsigned device)
{
	return r->dev[device].word;
}

int rig_event(struct rig *r, const void *data, size_t n)
{
	return iof_report_event(r->last_viommu, RIG_EVENT, data, n);
}

/* pasid 0: the device itself. `a` counts answers. */
int rig_request(struct iof_handle *ctx, uint32_t dev_id, uint32_t pasid, uint32_t group, uint64_t addr, int last, struct answers *a)
{
	struct iof_page_request rq = { .pasid = pasid, .pasid_valid = pasid, .last = last, .group = group, .perm = 3,
				       .addr = addr, .answer = answered, .data = a };

	return iof_report_page_request(ctx, dev_id, &rq);
}
