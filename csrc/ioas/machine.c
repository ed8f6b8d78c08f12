/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pages/region.h"

/* ---- tables ---- */

static int table_room(struct iof_alloc *a, struct iof_table *t)
{
	uint32_t room = t->room ? t->room * 2 : 8;
	void **at;

	if (t->n < t->room)
		return 0;
	at = iof_mem_zget(a, room * sizeof(*at), 16);
	if (!at)
		return -ENOMEM;
	if (t->n)
		memcpy(at, t->at, t->n * sizeof(*at));
	iof_mem_put(a, t->at, t->room * sizeof(*at));
	t->at = at;
	t->room = room;
	return 0;
}

static void table_fini(struct iof_alloc *a, struct iof_table *t, size_t object_size)
{
	for (uint32_t i = 0; object_size && i < t->n; i++)
		iof_mem_put(a, t->at[i], object_size);
	iof_mem_put(a, t->at, t->room * sizeof(*t->at));
}

/* ---- life ---- */

static void machine_free(struct iof_machine *m)
{
	struct iof_alloc *a = m->memory.alloc;

	table_fini(a, &m->devices, sizeof(struct iof_mdev));
	table_fini(a, &m->groups, sizeof(struct iof_group));
	table_fini(a, &m->iommus, sizeof(struct iof_iommu));
	iof_memory_fini(&m->memory);
	if (m->memory.identities)
		iof_identities_destroy(m->memory.identities);
	if (m->accounts)
		iof_accounts_destroy(m->accounts);
	if (a == &m->heap)
		iof_mem_put(&(struct iof_alloc){ .put = m->heap.put }, m, sizeof(*m));
	else
		iof_mem_put(a, m, sizeof(*m));
}

void iof_machine_ref(struct iof_machine *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
}

void iof_machine_unref(struct iof_machine *m)
{
	if (atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
		machine_free(m);
}

static int plug_groups(struct iof_machine *m, const struct iof_machine_options *opt)
{
	struct iof_iommu *iommu = iof_machine_soft(m, opt->preset);
	struct iof_mdev *d;
	int rc;

	if (!iommu)
		return -ENOMEM;
	for (size_t g = 0; g < opt->n_groups; g++)
		for (uint32_t i = 0; i < opt->groups[g]; i++) {
			rc = iof_machine_add_device(m, iommu, i ? (uint32_t)g : UINT32_MAX,
						    &iof_preset_info(opt->preset)->caps, &d);
			if (rc)
				return rc;
		}
	return 0;
}

static bool options_ok(const struct iof_machine_options *opt)
{
	for (size_t g = 0; g < opt->n_groups; g++)
		if (!opt->groups[g])
			return false;
	return iof_preset_info(opt->preset) && opt->policy <= IOF_HOLD_IO_URING && opt->addresses <= IOF_ADDRESS_SYNTHETIC &&
	       opt->accounting <= 3;
}

static int machine_fill(struct iof_machine *m, const struct iof_machine_options *opt)
{
	int rc = iof_accounts_create(m->memory.alloc, &m->accounts);

	if (!rc)
		rc = iof_memory_init(&m->memory);
	if (!rc)
		rc = iof_hold_policy_try(&m->memory, opt->policy);
	if (!rc && opt->addresses == IOF_ADDRESS_SYNTHETIC)
		rc = iof_identities_create(m->memory.alloc, &m->memory.identities);
	return rc ? rc : plug_groups(m, opt);
}

/* The machine's own memory comes from a heap of the moment when it is to have its own: the two count apart, the memory is the same. */
static struct iof_machine *make_empty(struct iof_alloc *given)
{
	struct iof_alloc heap;
	struct iof_machine *m;

	iof_alloc_init_heap(&heap);
	m = iof_mem_zget(given ? given : &heap, sizeof(*m), IOF_CACHELINE);
	if (!m)
		return NULL;
	iof_alloc_init_heap(&m->heap);
	m->memory.alloc = given ? given : &m->heap;
	atomic_init(&m->refs, 1);
	iof_lock_init(&m->lock, m->memory.alloc->shared);
	return m;
}

int iof_machine_make(const struct iof_machine_options *opt, struct iof_machine **out)
{
	struct iof_machine *m;
	int rc;

	if (!options_ok(opt))
		return -EINVAL;
	m = make_empty(opt->alloc);
	if (!m)
		return -ENOMEM;
	m->memory.address_mode = (enum iof_address_mode)opt->addresses;
	m->memory.policy = (enum iof_hold_policy)opt->policy;
	m->accounting = opt->accounting;
	rc = machine_fill(m, opt);
	if (rc) {
		machine_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

/* ---- IOMMUs, groups, devices ---- */

static int add_iommu(struct iof_machine *m, const struct iof_driver *driver, void *drv, struct iof_iommu **out)
{
	struct iof_iommu *iommu;

	if (table_room(m->memory.alloc, &m->iommus))
		return -ENOMEM;
	iommu = iof_mem_zget(m->memory.alloc, sizeof(*iommu), IOF_CACHELINE);
	if (!iommu)
		return -ENOMEM;
	iommu->driver = driver;
	iommu->drv = drv;
	iof_iotlb_init(&iommu->iotlb, m->memory.alloc->shared);
	m->iommus.at[m->iommus.n++] = iommu;
	*out = iommu;
	return 0;
}

int iof_machine_add_iommu(struct iof_machine *m, const struct iof_driver *driver, void *drv, struct iof_iommu **out)
{
	int rc;

	iof_lock_take(&m->lock);
	rc = add_iommu(m, driver, drv, out);
	iof_lock_drop(&m->lock);
	return rc;
}

/* The preset's record is constant: a driver only reads its `drv`. */
struct iof_iommu *iof_machine_soft(struct iof_machine *m, unsigned preset)
{
	const struct iof_preset_info *info = iof_preset_info(preset);
	struct iof_iommu *iommu;

	if (!info)
		return NULL;
	iof_lock_take(&m->lock);
	iommu = m->soft[preset];
	if (!iommu && !add_iommu(m, info->driver, (void *)(uintptr_t)info, &iommu))
		m->soft[preset] = iommu;
	iof_lock_drop(&m->lock);
	return iommu;
}

/* The lowest free place of a table, made if there is none. */
static int free_place(struct iof_machine *m, struct iof_table *t, uint32_t *index)
{
	for (*index = 0; *index < t->n; ++*index)
		if (!t->at[*index])
			return 0;
	if (table_room(m->memory.alloc, t))
		return -ENOMEM;
	t->at[t->n++] = NULL;
	return 0;
}

static int add_group(struct iof_machine *m, struct iof_iommu *iommu, struct iof_group **out)
{
	struct iof_group *g;
	uint32_t index;

	if (free_place(m, &m->groups, &index))
		return -ENOMEM;
	g = iof_mem_zget(m->memory.alloc, sizeof(*g), 16);
	if (!g)
		return -ENOMEM;
	g->index = index;
	g->iommu = iommu;
	m->groups.at[index] = g;
	*out = g;
	return 0;
}

static int add_device(struct iof_machine *m, struct iof_iommu *iommu, struct iof_group *g, const struct iof_device_caps *caps,
		      struct iof_mdev **out)
{
	struct iof_mdev *d;
	uint32_t index;

	if (free_place(m, &m->devices, &index))
		return -ENOMEM;
	d = iof_mem_zget(m->memory.alloc, sizeof(*d), IOF_CACHELINE);
	if (!d)
		return -ENOMEM;
	if (!g && add_group(m, iommu, &g)) {
		iof_mem_put(m->memory.alloc, d, sizeof(*d));
		return -ENOMEM;
	}
	d->index = index;
	d->group = g;
	d->iommu = iommu;
	d->caps = *caps;
	iof_rsec_init(&d->rsec, m->memory.alloc->shared);
	snprintf(d->name, sizeof(d->name), "%s-soft-%u", iommu->driver->name, index);
	g->n_devices++;
	m->devices.at[index] = d;
	*out = d;
	return 0;
}

int iof_machine_add_device(struct iof_machine *m, struct iof_iommu *iommu, uint32_t group, const struct iof_device_caps *caps,
			   struct iof_mdev **out)
{
	struct iof_group *g = NULL;
	int rc = 0;

	iof_lock_take(&m->lock);
	if (group != UINT32_MAX) {
		g = group < m->groups.n ? m->groups.at[group] : NULL;
		rc = !g ? -ENODEV : g->iommu != iommu ? -EINVAL : 0;
	}
	if (!rc)
		rc = add_device(m, iommu, g, caps, out);
	iof_lock_drop(&m->lock);
	return rc;
}

void iof_machine_remove_device(struct iof_machine *m, struct iof_mdev *d)
{
	struct iof_group *g = d->group;

	iof_lock_take(&m->lock);
	m->devices.at[d->index] = NULL;
	if (!--g->n_devices) {
		m->groups.at[g->index] = NULL;
		iof_mem_put(m->memory.alloc, g, sizeof(*g));
	}
	iof_mem_put(m->memory.alloc, d, sizeof(*d));
	iof_lock_drop(&m->lock);
}

struct iof_mdev *iof_machine_mdev(struct iof_machine *m, uint32_t index)
{
	struct iof_mdev *d;

	iof_lock_take(&m->lock);
	d = index < m->devices.n ? m->devices.at[index] : NULL;
	iof_lock_drop(&m->lock);
	return d;
}

void *iof_mdev_priv(const struct iof_mdev *dev)
{
	return dev->caps.priv;
}

/* ---- ownership ---- */

static int claim(struct iof_mdev *d, struct iof_context *ctx)
{
	struct iof_group *g = d->group;

	if (d->bound)
		return -EINVAL;
	if (g->bound && g->owner != ctx)
		return -EPERM;
	g->owner = ctx;
	g->bound++;
	d->bound = true;
	return 0;
}

int iof_group_claim(struct iof_machine *m, struct iof_mdev *d, struct iof_context *ctx)
{
	int rc;

	iof_lock_take(&m->lock);
	rc = claim(d, ctx);
	iof_lock_drop(&m->lock);
	return rc;
}

void iof_group_release(struct iof_machine *m, struct iof_mdev *d)
{
	iof_lock_take(&m->lock);
	d->bound = false;
	if (!--d->group->bound) {
		d->group->owner = NULL;
		d->group->msi_needed = 0;
	}
	iof_lock_drop(&m->lock);
}

uint32_t iof_group_max_pasids(struct iof_machine *m, const struct iof_group *g)
{
	uint32_t least = UINT32_MAX;

	iof_lock_take(&m->lock);
	for (uint32_t i = 0; i < m->devices.n; i++) {
		struct iof_mdev *d = m->devices.at[i];

		if (d && d->group == g && d->caps.max_pasids && d->caps.max_pasids < least)
			least = d->caps.max_pasids;
	}
	iof_lock_drop(&m->lock);
	return least;
}
