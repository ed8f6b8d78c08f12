/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	table_fini(a, &m->files, 0);
	for (unsigned i = 0; i < IOF_PRESETS; i++)
		iof_mem_put(a, m->iommu[i], sizeof(struct iof_iommu));
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
	struct iof_mdev *d;
	int rc = 0;

	for (size_t g = 0; g < opt->n_groups; g++)
		for (uint32_t i = 0; i < opt->groups[g]; i++) {
			rc = iof_machine_add_device(m, opt->preset, i ? (uint32_t)g : UINT32_MAX, &d);
			if (rc)
				return rc;
		}
	return rc;
}

static bool options_ok(const struct iof_machine_options *opt)
{
	for (size_t g = 0; g < opt->n_groups; g++)
		if (!opt->groups[g])
			return false;
	return iof_preset_info(opt->preset) && opt->policy <= IOF_HOLD_PROBE && opt->addresses <= IOF_ADDRESS_SYNTHETIC &&
	       opt->accounting <= 3;
}

static int machine_fill(struct iof_machine *m, const struct iof_machine_options *opt)
{
	int rc = iof_accounts_create(m->memory.alloc, &m->accounts);

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
	m->preset = opt->preset;
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

static struct iof_iommu *iommu_of(struct iof_machine *m, unsigned preset)
{
	struct iof_iommu *iommu = m->iommu[preset];

	if (iommu)
		return iommu;
	iommu = iof_mem_zget(m->memory.alloc, sizeof(*iommu), IOF_CACHELINE);
	if (!iommu)
		return NULL;
	iommu->preset = iof_preset_info(preset);
	iof_iotlb_init(&iommu->iotlb, m->memory.alloc->shared);
	return m->iommu[preset] = iommu;
}

static int add_group(struct iof_machine *m, unsigned preset, struct iof_group **out)
{
	struct iof_iommu *iommu = iommu_of(m, preset);
	struct iof_group *g;

	if (!iommu || table_room(m->memory.alloc, &m->groups))
		return -ENOMEM;
	g = iof_mem_zget(m->memory.alloc, sizeof(*g), 16);
	if (!g)
		return -ENOMEM;
	g->index = m->groups.n;
	g->iommu = iommu;
	m->groups.at[m->groups.n++] = g;
	*out = g;
	return 0;
}

static void mdev_init(struct iof_machine *m, struct iof_mdev *d, unsigned preset, struct iof_group *g)
{
	d->index = m->devices.n;
	d->preset = preset;
	d->group = g;
	d->iommu = g->iommu;
	iof_rsec_init(&d->rsec, m->memory.alloc->shared);
	snprintf(d->name, sizeof(d->name), "%s-soft-%u", g->iommu->preset->name, d->index);
}

/* The room for the device is made before the group, so that a failure leaves no empty group behind. */
static int add_device(struct iof_machine *m, unsigned preset, uint32_t group, struct iof_mdev **out)
{
	struct iof_group *g = group < m->groups.n ? m->groups.at[group] : NULL;
	struct iof_mdev *d;
	int rc = 0;

	if (!g && group != UINT32_MAX)
		return -ENODEV;
	if (g && g->iommu->preset != iof_preset_info(preset))
		return -EINVAL;
	if (table_room(m->memory.alloc, &m->devices))
		return -ENOMEM;
	d = iof_mem_zget(m->memory.alloc, sizeof(*d), IOF_CACHELINE);
	if (!d)
		return -ENOMEM;
	if (!g)
		rc = add_group(m, preset, &g);
	if (rc) {
		iof_mem_put(m->memory.alloc, d, sizeof(*d));
		return rc;
	}
	mdev_init(m, d, preset, g);
	g->n_devices++;
	m->devices.at[m->devices.n++] = d;
	*out = d;
	return 0;
}

int iof_machine_add_device(struct iof_machine *m, unsigned preset, uint32_t group, struct iof_mdev **out)
{
	int rc;

	if (!iof_preset_info(preset))
		return -EINVAL;
	iof_lock_take(&m->lock);
	rc = add_device(m, preset, group, out);
	iof_lock_drop(&m->lock);
	return rc;
}

struct iof_mdev *iof_machine_mdev(struct iof_machine *m, uint32_t index)
{
	struct iof_mdev *d;

	iof_lock_take(&m->lock);
	d = index < m->devices.n ? m->devices.at[index] : NULL;
	iof_lock_drop(&m->lock);
	return d;
}

/* ---- files ---- */

static int add_file(struct iof_machine *m, struct iof_file *file)
{
	uint32_t i;

	for (i = 0; i < m->files.n; i++)
		if (!m->files.at[i])
			break;
	if (i == m->files.n) {
		if (table_room(m->memory.alloc, &m->files))
			return -ENOMEM;
		m->files.n++;
	}
	m->files.at[i] = file;
	return (int)i;
}

int iof_machine_add_file(struct iof_machine *m, struct iof_file *file, int *number)
{
	int rc;

	iof_lock_take(&m->lock);
	rc = add_file(m, file);
	iof_lock_drop(&m->lock);
	if (rc < 0)
		return rc;
	*number = rc;
	return 0;
}

void iof_machine_drop_file(struct iof_machine *m, int number)
{
	iof_lock_take(&m->lock);
	m->files.at[number] = NULL;
	iof_lock_drop(&m->lock);
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
	if (!--d->group->bound)
		d->group->owner = NULL;
	iof_lock_drop(&m->lock);
}
