/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock IOMMU as a driver (behaviour.md 9.4): page tables with a granule of 2 KiB, nested tables that are four words, vIOMMUs with a page to
 * map and two hardware queues. Everything here runs under the context's control lock.
 */
#include <errno.h>
#include <string.h>

#include "preload/mock_priv.h"

static struct iof_alloc *memory_of(void *drv)
{
	return ((struct mock *)drv)->alloc;
}

static void zero_words(uint32_t *words, uint32_t flags, uint32_t index)
{
	for (unsigned i = 0; i < MOCK_WORDS; i++)
		if (flags || i == index)
			words[i] = 0;
}

/* ---- page tables ---- */

enum { TABLE_DEFAULT = 0, TABLE_HUGE = 1 };

struct hwpt_data {
	uint32_t iotlb, table;
};

static int get_hwpt_data(const struct iof_user_data *data, struct hwpt_data *out)
{
	if (data->type != MOCK_DATA_HWPT)
		return -EOPNOTSUPP;
	return iof_user_data_get(data, MOCK_DATA_HWPT, out, sizeof(*out), sizeof(out->iotlb));
}

static int paging_alloc(void *drv, struct iof_mdev *mdev, uint32_t flags, const struct iof_user_data *data,
			struct iof_paging_plan *plan)
{
	const struct mock_device *dev = iof_mdev_priv(mdev);
	struct hwpt_data d = { 0, TABLE_DEFAULT };
	int rc = 0;

	(void)drv;
	if (flags & ~(uint32_t)(IOF_HWPT_NEST_PARENT | IOF_HWPT_DIRTY_TRACKING | IOF_HWPT_PASID))
		return -EOPNOTSUPP;
	if (flags & IOF_HWPT_DIRTY_TRACKING && dev->flags & MOCK_DEVICE_NO_DIRTY)
		return -EOPNOTSUPP;
	if (data)
		rc = get_hwpt_data(data, &d);
	if (rc)
		return rc;
	if (d.table > TABLE_HUGE)
		return -EOPNOTSUPP;
	plan->table = (struct iof_pt_config){ .format = IOF_PT_MOCK, .top_level = 2 };
	if (d.table == TABLE_HUGE)
		plan->table.page_sizes = IOF_PAGE_SIZE | MOCK_HUGE_PAGE_SIZE;
	else
		plan->aperture = (struct iof_range){ MOCK_APERTURE_START, MOCK_APERTURE_LAST };
	plan->dirty = flags & IOF_HWPT_DIRTY_TRACKING;
	return 0;
}

static int nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *viommu, uint32_t flags,
			const struct iof_user_data *data, void **priv)
{
	struct mock_nested *n;
	struct hwpt_data d;
	int rc = get_hwpt_data(data, &d);

	(void)dev, (void)parent, (void)viommu, (void)flags;
	if (rc)
		return rc;
	n = iof_mem_get(memory_of(drv), sizeof(*n), 16);
	if (!n)
		return -ENOMEM;
	for (unsigned i = 0; i < MOCK_WORDS; i++)
		n->iotlb[i] = d.iotlb;
	*priv = n;
	return 0;
}

static void nested_free(void *drv, void *priv)
{
	iof_mem_put(memory_of(drv), priv, sizeof(struct mock_nested));
}

struct iotlb_entry {
	uint32_t flags, index;
};

static int nested_invalidate_one(struct mock_nested *n, const struct iof_user_array *a, uint32_t i)
{
	struct iotlb_entry e;
	int rc;

	if (a->entry_len != sizeof(e))
		return -EINVAL;
	rc = iof_user_array_get(a, i, &e, sizeof(e));
	if (rc)
		return rc;
	if (e.flags > 1)
		return -EOPNOTSUPP;
	if (e.index >= MOCK_WORDS)
		return -EINVAL;
	zero_words(n->iotlb, e.flags, e.index);
	return 0;
}

static int nested_invalidate(void *drv, void *priv, const struct iof_user_array *a, uint32_t *done)
{
	int rc = 0;

	(void)drv;
	*done = 0;
	if (a->type != MOCK_DATA_INVALIDATE)
		return -EINVAL;
	while (*done < a->entry_num) {
		rc = nested_invalidate_one(priv, a, *done);
		if (rc)
			break;
		++*done;
	}
	return rc;
}

/* ---- attachments ---- */

/* The second attach in a row to a certain PASID fails, so that a test sees a replace go wrong. */
static int attach_pasid(struct mock_device *dev, uint32_t pasid, const struct iof_hwpt *hwpt)
{
	bool failed = hwpt && dev->fragile;

	if (pasid != MOCK_PASID_FRAGILE)
		return 0;
	dev->fragile = hwpt && !failed;
	return failed ? -ENOMEM : 0;
}

/* A device with a guest's table keeps the id that it had when it came to the vIOMMU. */
static int attach_nested(struct mock_device *dev, struct iof_mdev *mdev, struct iof_viommu *v)
{
	uint64_t virt_id = 0;
	int rc = v ? iof_viommu_virt_id(v, mdev, &virt_id) : 0;

	if (rc)
		return rc;
	if (dev->viommu != v) {
		dev->viommu = v;
		dev->virt_id = virt_id;
	}
	return 0;
}

static int attach(void *drv, struct iof_mdev *mdev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct mock_device *dev = iof_mdev_priv(mdev);

	(void)drv, (void)old;
	if (pasid)
		return attach_pasid(dev, pasid, hwpt);
	if (hwpt && iof_hwpt_is_nested(hwpt))
		return attach_nested(dev, mdev, iof_hwpt_viommu(hwpt));
	if (hwpt && iof_hwpt_tracks_dirty(hwpt) && dev->flags & MOCK_DEVICE_NO_DIRTY)
		return -EINVAL;
	dev->viommu = NULL;
	return 0;
}

static int hw_info(void *drv, struct iof_mdev *dev, uint32_t *type, void *to, uint32_t *length)
{
	static const uint32_t info[2] = { 0, 0xdeadbeef };

	(void)drv, (void)dev;
	if (*type && *type != MOCK_HW_INFO)
		return -EOPNOTSUPP;
	*type = MOCK_HW_INFO;
	*length = sizeof(info);
	memcpy(to, info, sizeof(info));
	return 0;
}

/* ---- vIOMMUs ---- */

struct mock_viommu {
	bool taken[MOCK_HW_QUEUES]; /* not which queues there are: see hw_queue_free() */
	struct iof_hw_queue *first; /* while taken[0] */
};

struct viommu_data {
	uint32_t in, out;
	uint64_t offset, length;
};

static int viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type)
{
	(void)drv, (void)dev;
	return type == MOCK_VIOMMU ? 0 : -EOPNOTSUPP;
}

/* Two pages that the guest can map: the first word says what came in. */
static int expose(struct iof_viommu *v, const struct iof_user_data *data)
{
	struct viommu_data d;
	uint32_t *memory;
	int rc = iof_user_data_get(data, MOCK_VIOMMU, &d, sizeof(d), 2 * sizeof(uint32_t));

	if (rc)
		return rc;
	d.length = 2 * IOF_PAGE_SIZE;
	rc = iof_viommu_expose(v, d.length, (void **)&memory, &d.offset);
	if (rc)
		return rc;
	*memory = d.in;
	d.out = d.in;
	return iof_user_data_put(data, &d, sizeof(d));
}

static int viommu_init(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data)
{
	struct mock_viommu *mv = iof_mem_zget(memory_of(drv), sizeof(*mv), 16);
	int rc = 0;

	(void)type;
	if (!mv)
		return -ENOMEM;
	if (data)
		rc = expose(v, data);
	if (rc)
		iof_mem_put(memory_of(drv), mv, sizeof(*mv));
	else
		iof_viommu_set_priv(v, mv);
	return rc;
}

static void viommu_free(void *drv, struct iof_viommu *v)
{
	iof_mem_put(memory_of(drv), iof_viommu_priv(v), sizeof(struct mock_viommu));
}

struct cache_entry {
	uint32_t flags, virt_id, index;
};

static int viommu_invalidate_one(struct iof_viommu *v, const struct iof_user_array *a, uint32_t i)
{
	struct cache_entry e;
	struct iof_mdev *dev;
	int rc = iof_user_array_get(a, i, &e, sizeof(e));

	if (rc)
		return rc;
	if (e.flags > 1)
		return -EOPNOTSUPP;
	if (e.index >= MOCK_WORDS)
		return -EINVAL;
	dev = iof_viommu_device(v, e.virt_id);
	if (!dev)
		return -EINVAL;
	zero_words(((struct mock_device *)iof_mdev_priv(dev))->cache, e.flags, e.index);
	return 0;
}

/* Linux's mock copies all entries, into one piece of memory, before it looks at the first. */
static int viommu_can_read(const struct iof_user_array *a)
{
	struct cache_entry e;
	int rc = a->type == MOCK_DATA_INVALIDATE ? 0 : -EINVAL;

	if (a->entry_num > MOCK_KMALLOC_MAX / sizeof(e))
		return -ENOMEM;
	for (uint32_t i = 0; i < a->entry_num && !rc; i++)
		rc = iof_user_array_get(a, i, &e, sizeof(e));
	return rc;
}

static int viommu_invalidate(void *drv, struct iof_viommu *v, const struct iof_user_array *a, uint32_t *done)
{
	int rc;

	(void)drv;
	*done = 0;
	rc = viommu_can_read(a);
	if (rc == -ENOMEM)
		*done = a->entry_num; /* nobody had counted yet */
	if (rc)
		return rc;
	while (*done < a->entry_num) {
		rc = viommu_invalidate_one(v, a, *done);
		if (rc)
			break;
		++*done;
	}
	return rc;
}

/* ---- hardware queues ---- */

static int hw_queue_supported(void *drv, struct iof_viommu *v, uint32_t type)
{
	(void)drv, (void)v;
	return type == MOCK_HW_QUEUE ? 0 : -EOPNOTSUPP;
}

/* In order: the second stands on the first. */
static int hw_queue_init(void *drv, struct iof_hw_queue *q, uint32_t index, uint64_t address)
{
	struct iof_viommu *v = iof_hw_queue_viommu(q);
	struct mock_viommu *mv = iof_viommu_priv(v);

	(void)drv;
	if (index >= MOCK_HW_QUEUES)
		return -EINVAL;
	if (mv->taken[index])
		return -EEXIST;
	if (index && !mv->taken[index - 1])
		return -EIO;
	if (iof_hwpt_lookup(iof_viommu_parent(v), iof_hw_queue_iova(q)) != address)
		return -EFAULT;
	if (index)
		iof_hw_queue_depend(q, mv->first);
	else
		mv->first = q;
	mv->taken[index] = true;
	return 0;
}

/*
 * Linux's mock forgets which queue it was: index 0 becomes free whichever goes, and index 1 never again. So a queue may stand where taken[0]
 * is false, but while it is true `first` has not gone.
 */
static void hw_queue_free(void *drv, struct iof_hw_queue *q)
{
	struct mock_viommu *mv = iof_viommu_priv(iof_hw_queue_viommu(q));

	(void)drv;
	mv->taken[0] = false;
}

const struct iof_driver mock_driver = {
	.name = "mock",
	.paging_flags = true,
	.paging_alloc = paging_alloc,
	.nested_alloc = nested_alloc,
	.nested_free = nested_free,
	.nested_invalidate = nested_invalidate,
	.attach = attach,
	.hw_info = hw_info,
	.viommu_supported = viommu_supported,
	.viommu_init = viommu_init,
	.viommu_free = viommu_free,
	.viommu_invalidate = viommu_invalidate,
	.hw_queue_supported = hw_queue_supported,
	.hw_queue_init = hw_queue_init,
	.hw_queue_free = hw_queue_free,
};
