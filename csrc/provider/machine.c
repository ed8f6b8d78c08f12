/* SPDX-License-Identifier: Apache-2.0 */
/* Machines as the public API has them. A machine made without an allocator brings its own heap, in front of itself. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ioas/machine.h"
#include "ioas/valid.h"
#include "iommufd_fast.h"

_Static_assert(IOF_POLICY_TRUST - 1 == IOF_HOLD_TRUST && IOF_POLICY_PROBE - 1 == IOF_HOLD_PROBE &&
		       IOF_POLICY_MLOCK - 1 == IOF_HOLD_MLOCK && IOF_POLICY_IO_URING - 1 == IOF_HOLD_IO_URING,
	       "policies");
_Static_assert((int)IOF_ADDRESSES_SYNTHETIC == (int)IOF_ADDRESS_SYNTHETIC, "address modes");
_Static_assert((int)IOF_ACCOUNTING_PROCESS == (int)IOF_ACCOUNT_PROCESS, "accounting");

int iof_machine_create(const struct iof_machine_config *cfg, struct iof_machine **out)
{
	struct iof_machine_options opt;

	if (cfg->size != sizeof(*cfg) || cfg->policy > IOF_POLICY_IO_URING)
		return -EINVAL;
	opt = (struct iof_machine_options){
		.alloc = cfg->alloc,
		.preset = cfg->preset,
		.policy = cfg->policy ? cfg->policy - 1 : IOF_HOLD_TRUST,
		.addresses = cfg->addresses,
		.accounting = cfg->accounting,
		.groups = cfg->groups,
		.n_groups = cfg->n_groups,
	};
	return iof_machine_make(&opt, out);
}

void iof_machine_put(struct iof_machine *m)
{
	if (m)
		iof_machine_unref(m);
}

int iof_machine_plug(struct iof_machine *m, enum iof_preset preset, uint32_t group, uint32_t *index)
{
	struct iof_iommu *iommu = iof_preset_info(preset) ? iof_machine_soft(m, preset) : NULL;
	struct iof_mdev *d;
	int rc;

	if (!iommu)
		return iof_preset_info(preset) ? -ENOMEM : -EINVAL;
	rc = iof_machine_add_device(m, iommu, group, &iof_preset_info(preset)->caps, &d);
	if (!rc)
		*index = d->index;
	return rc;
}

static uint32_t count_of(struct iof_machine *m, const struct iof_table *t)
{
	uint32_t n;

	iof_lock_take(&m->lock);
	n = t->n;
	iof_lock_drop(&m->lock);
	return n;
}

uint32_t iof_machine_device_count(struct iof_machine *m)
{
	return count_of(m, &m->devices);
}

uint32_t iof_machine_group_count(struct iof_machine *m)
{
	return count_of(m, &m->groups);
}

/* 0: an embedder's driver. */
static enum iof_preset preset_of(const struct iof_machine *m, const struct iof_iommu *iommu)
{
	for (unsigned i = 1; i < IOF_PRESETS; i++)
		if (m->soft[i] == iommu)
			return (enum iof_preset)i;
	return (enum iof_preset)0;
}

int iof_machine_device_at(struct iof_machine *m, uint32_t index, struct iof_machine_device *out)
{
	struct iof_mdev *d = iof_machine_mdev(m, index);

	if (!d)
		return -ENODEV;
	iof_lock_take(&m->lock);
	*out = (struct iof_machine_device){ .index = d->index, .group = d->group->index, .preset = preset_of(m, d->iommu),
					    .open = d->opens, .bound = d->bound };
	memcpy(out->name, d->name, sizeof(out->name));
	iof_lock_drop(&m->lock);
	return 0;
}

bool iof_machine_is_valid(struct iof_machine *m)
{
	return iofi_machine_is_valid(m);
}

static int pins_of(void *ctx, struct iof_identity_run run)
{
	*(uint64_t *)ctx = run.address;
	return 0;
}

int64_t iof_machine_pins(struct iof_machine *m, uint64_t va)
{
	uint64_t address;
	int rc;

	if (!m->memory.identities)
		return -EOPNOTSUPP;
	rc = iof_identity_runs(m->memory.identities, iof_align_down(va, IOF_PAGE_SIZE), 1, false, pins_of, &address);
	return rc ? rc : (int64_t)iof_identity_pins(m->memory.identities, address);
}

/* ---- IOTLB, all IOMMUs together ---- */

static void add_iotlb(struct iof_iotlb *t, struct iof_iotlb_stats *out)
{
	out->hits += atomic_load(&t->hits);
	out->misses += atomic_load(&t->misses);
	out->evictions += atomic_load(&t->evictions);
	out->invalidations += atomic_load(&t->invalidations);
	out->dropped += atomic_load(&t->dropped);
	out->entries += IOF_IOTLB_SETS * IOF_IOTLB_WAYS;
	out->live += iof_iotlb_live(t);
}

/* The machine's lock: plugging a device may bring an IOMMU. */
int iof_iotlb_stats(struct iof_machine *m, struct iof_iotlb_stats *out)
{
	*out = (struct iof_iotlb_stats){ 0 };
	iof_lock_take(&m->lock);
	for (uint32_t i = 0; i < m->iommus.n; i++)
		add_iotlb(&((struct iof_iommu *)m->iommus.at[i])->iotlb, out);
	iof_lock_drop(&m->lock);
	return 0;
}

void iof_iotlb_drop_invalidations(struct iof_machine *m, bool drop)
{
	iof_lock_take(&m->lock);
	for (uint32_t i = 0; i < m->iommus.n; i++)
		atomic_store(&((struct iof_iommu *)m->iommus.at[i])->iotlb.drop, drop);
	iof_lock_drop(&m->lock);
}
