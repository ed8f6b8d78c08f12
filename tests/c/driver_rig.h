/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small IOMMU of an embedder's, through the public API only: page tables of any format, nested tables of one word, vIOMMUs with a page to map,
 * two hardware queues, one kind of event. It counts what is alive and can be told to refuse.
 */
#ifndef IOF_TESTS_DRIVER_RIG_H
#define IOF_TESTS_DRIVER_RIG_H

#include "check.h"
#include "engine.h"
#include "iommufd_fast_embed.h"

#define RIG_DATA 0x71u /* nested: struct rig_data; paging: the same, `word` ignored */
#define RIG_INVALIDATE 0x72u
#define RIG_VIOMMU 0x73u
#define RIG_EVENT 0x74u
#define RIG_QUEUE 0x75u
#define RIG_INFO 0x76u
#define RIG_BAD_VIRT_ID 0xbadull /* vdevice_init refuses it: -EPERM */
#define RIG_QUEUES 2

struct rig_data {
	uint32_t word, flags; /* flags: 0 */
};

struct rig_entry { /* of an invalidation: the word to write, or the error to report */
	uint32_t word, error;
};

struct rig_vcommand { /* the same on a vIOMMU, for the device with this id */
	uint64_t virt_id;
	uint32_t word, error;
};

struct rig_vdata {
	uint32_t in, out;
	uint64_t offset, length;
};

struct rig_viommu {
	struct iof_hw_queue *queue[RIG_QUEUES];
	struct iof_viommu *v;
};

struct rig_dev {
	uint32_t word, attaches, detaches;
	struct iof_hwpt *at; /* of the requester id */
	int refuse; /* what an attach answers */
	uint32_t refuse_pasid; /* only of this PASID; 0: of any */
};

/* One for a program: the driver's own memory, in no machine's budget. */
struct rig {
	struct iof_pt_config table;
	struct iof_range aperture;
	struct rig_dev dev[8];
	int nested, viommus, vdevices, queues; /* alive */
	struct iof_viommu *last_viommu; /* made last; for events */
};

static inline int rig_paging(void *drv, struct iof_mdev *dev, uint32_t flags, const struct iof_user_data *data,
			     struct iof_paging_plan *plan)
{
	struct rig *r = drv;
	struct rig_data d = { 0, 0 };
	int rc = 0;

	(void)dev;
	if (data)
		rc = data->type == RIG_DATA ? iof_user_data_get(data, RIG_DATA, &d, sizeof(d), 4) : -EOPNOTSUPP;
	if (!rc && d.flags)
		rc = -EOPNOTSUPP;
	plan->table = r->table;
	plan->aperture = r->aperture;
	plan->dirty = flags & IOF_HWPT_DIRTY_TRACKING;
	return rc;
}

static inline int rig_nested(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			     const struct iof_user_data *data, void **priv)
{
	struct rig *r = drv;
	struct rig_data d;
	int rc = data->type == RIG_DATA ? iof_user_data_get(data, RIG_DATA, &d, sizeof(d), 4) : -EOPNOTSUPP;

	(void)dev;
	if (rc || d.flags)
		return rc ? rc : -EOPNOTSUPP;
	if (iof_hwpt_is_nested(parent) || (v && iof_viommu_parent(v) != parent) || flags & ~(uint32_t)IOF_HWPT_PASID)
		abort(); /* the engine promised */
	*priv = malloc(sizeof(uint32_t));
	*(uint32_t *)*priv = d.word;
	r->nested++;
	return 0;
}

static inline void rig_nested_free(void *drv, void *priv)
{
	((struct rig *)drv)->nested--;
	free(priv);
}

static inline int rig_nested_invalidate(void *drv, void *priv, const struct iof_user_array *a, uint32_t *done)
{
	struct rig_entry e;
	int rc;

	(void)drv;
	if (a->type != RIG_INVALIDATE)
		return -EINVAL;
	for (*done = 0; *done < a->entry_num; ++*done) {
		rc = iof_user_array_get(a, *done, &e, sizeof(e));
		if (rc || e.error)
			return rc ? rc : -(int)e.error;
		*(uint32_t *)priv = e.word;
	}
	return 0;
}

static inline int rig_attach(void *drv, struct iof_mdev *mdev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct rig_dev *dev = iof_mdev_priv(mdev);
	uint64_t virt_id;

	(void)drv;
	(void)old;
	if (!hwpt) {
		dev->detaches++;
		dev->at = pasid ? dev->at : NULL;
		return 0;
	}
	if (dev->refuse && (!dev->refuse_pasid || dev->refuse_pasid == pasid))
		return dev->refuse;
	if (iof_hwpt_is_nested(hwpt) && iof_hwpt_viommu(hwpt) && iof_viommu_virt_id(iof_hwpt_viommu(hwpt), mdev, &virt_id))
		return -ENOENT;
	dev->attaches++;
	dev->at = pasid ? dev->at : hwpt;
	return 0;
}

static inline int rig_hw_info(void *drv, struct iof_mdev *dev, uint32_t *type, void *to, uint32_t *length)
{
	(void)drv;
	(void)dev;
	if (*type && *type != RIG_INFO)
		return -EOPNOTSUPP;
	*type = RIG_INFO;
	*length = 12;
	memcpy(to, "rig of tests", 12);
	return 0;
}

static inline int rig_viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type)
{
	(void)drv;
	(void)dev;
	return type == RIG_VIOMMU ? 0 : -EOPNOTSUPP;
}

static inline int rig_expose(struct iof_viommu *v, const struct iof_user_data *data)
{
	struct rig_vdata d;
	uint32_t *memory;
	int rc = iof_user_data_get(data, RIG_VIOMMU, &d, sizeof(d), 8);

	if (rc)
		return rc;
	d.length = 2 * PAGE;
	rc = iof_viommu_expose(v, d.length, (void **)&memory, &d.offset);
	if (rc)
		return rc;
	*memory = d.in;
	d.out = d.in;
	return iof_user_data_put(data, &d, sizeof(d));
}

static inline int rig_viommu_init(void *drv, struct iof_viommu *v, uint32_t type, const struct iof_user_data *data)
{
	struct rig *r = drv;
	struct rig_viommu *rv;
	int rc = data ? rig_expose(v, data) : 0;

	(void)type;
	if (rc)
		return rc;
	rv = calloc(1, sizeof(*rv));
	rv->v = v;
	iof_viommu_set_priv(v, rv);
	r->last_viommu = v;
	r->viommus++;
	return 0;
}

static inline void rig_viommu_free(void *drv, struct iof_viommu *v)
{
	struct rig *r = drv;

	free(iof_viommu_priv(v));
	r->viommus--;
	if (r->last_viommu == v)
		r->last_viommu = NULL;
}

static inline int rig_viommu_invalidate(void *drv, struct iof_viommu *v, const struct iof_user_array *a, uint32_t *done)
{
	struct rig_vcommand c;
	struct iof_mdev *dev;
	int rc;

	(void)drv;
	if (a->type != RIG_INVALIDATE)
		return -EINVAL;
	for (*done = 0; *done < a->entry_num; ++*done) {
		rc = iof_user_array_get(a, *done, &c, sizeof(c));
		dev = rc ? NULL : iof_viommu_device(v, c.virt_id);
		if (rc || c.error || !dev)
			return rc ? rc : c.error ? -(int)c.error : -EIO;
		((struct rig_dev *)iof_mdev_priv(dev))->word = c.word;
	}
	return 0;
}

static inline int rig_vdevice_init(void *drv, struct iof_vdevice *vd)
{
	if (iof_vdevice_virt_id(vd) == RIG_BAD_VIRT_ID)
		return -EPERM;
	((struct rig *)drv)->vdevices++;
	return 0;
}

static inline void rig_vdevice_free(void *drv, struct iof_vdevice *vd)
{
	(void)vd;
	((struct rig *)drv)->vdevices--;
}

static inline int rig_queue_supported(void *drv, struct iof_viommu *v, uint32_t type)
{
	(void)drv;
	(void)v;
	return type == RIG_QUEUE ? 0 : -EOPNOTSUPP;
}

static inline int rig_queue_init(void *drv, struct iof_hw_queue *q, uint32_t index, uint64_t address)
{
	struct iof_viommu *v = iof_hw_queue_viommu(q);
	struct rig_viommu *rv = iof_viommu_priv(v);

	if (index >= RIG_QUEUES)
		return -EINVAL;
	if (rv->queue[index])
		return -EEXIST;
	if (index && !rv->queue[index - 1])
		return -EIO;
	if (iof_hwpt_lookup(iof_viommu_parent(v), iof_hw_queue_iova(q)) != address)
		return -EXDEV;
	if (index)
		iof_hw_queue_depend(q, rv->queue[index - 1]);
	rv->queue[index] = q;
	((struct rig *)drv)->queues++;
	return 0;
}

static inline void rig_queue_free(void *drv, struct iof_hw_queue *q)
{
	struct rig_viommu *rv = iof_viommu_priv(iof_hw_queue_viommu(q));

	for (unsigned i = 0; i < RIG_QUEUES; i++)
		if (rv->queue[i] == q)
			rv->queue[i] = NULL;
	((struct rig *)drv)->queues--;
}

static const struct iof_driver rig_driver = {
	.name = "rig",
	.paging_flags = true,
	.paging_alloc = rig_paging,
	.nested_alloc = rig_nested,
	.nested_free = rig_nested_free,
	.nested_invalidate = rig_nested_invalidate,
	.attach = rig_attach,
	.hw_info = rig_hw_info,
	.viommu_supported = rig_viommu_supported,
	.viommu_init = rig_viommu_init,
	.viommu_free = rig_viommu_free,
	.viommu_invalidate = rig_viommu_invalidate,
	.vdevice_init = rig_vdevice_init,
	.vdevice_free = rig_vdevice_free,
	.hw_queue_supported = rig_queue_supported,
	.hw_queue_init = rig_queue_init,
	.hw_queue_free = rig_queue_free,
};

static inline void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->table = (struct iof_pt_config){ .format = IOF_PT_VTDSS, .va_lg2 = 48 };
}

/* Devices rig->dev[first], [first+1]… behind one IOMMU of its own, all in one group. *index: of the first on the machine. */
static inline int rig_plug(struct rig *r, struct iof_machine *m, struct iof_iommu *iommu, unsigned first, unsigned n, uint32_t *index)
{
	struct iof_machine_device info;
	uint32_t group = UINT32_MAX, at;
	int rc = 0;

	for (unsigned i = 0; i < n && !rc; i++) {
		struct iof_device_caps caps = { .max_pasids = 1 << 16, .pasids = true, .dirty_tracking = true, .user_pasids = true,
						.priv = &r->dev[first + i] };

		rc = iof_machine_plug_device(m, iommu, group, &caps, &at);
		if (!rc && !i) {
			*index = at;
			rc = iof_machine_device_at(m, at, &info);
			group = info.group;
		}
	}
	return rc;
}

/* ---- the commands on such things ---- */

static inline int hwpt_kind(struct iof_handle *ctx, uint32_t dev, uint32_t pt, uint32_t flags, uint32_t *id)
{
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = dev, .pt_id = pt };
	int rc = iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c);

	*id = c.out_hwpt_id;
	return rc;
}

static inline int nested_alloc(struct iof_handle *ctx, uint32_t dev, uint32_t pt, uint32_t flags, uint32_t fault, uint32_t *id)
{
	struct rig_data d = { .word = 5 };
	struct iof_cmd_hwpt_alloc c = { .size = sizeof(c), .flags = flags, .dev_id = dev, .pt_id = pt, .data_type = RIG_DATA,
					.data_len = sizeof(d), .data_uptr = (uintptr_t)&d, .fault_id = fault };
	int rc = iof_ioctl(ctx, IOF_CMD_HWPT_ALLOC, &c);

	*id = c.out_hwpt_id;
	return rc;
}

static inline int viommu_alloc(struct iof_handle *ctx, uint32_t dev, uint32_t hwpt, struct rig_vdata *d, uint32_t *id)
{
	struct iof_cmd_viommu_alloc c = { .size = sizeof(c), .type = RIG_VIOMMU, .dev_id = dev, .hwpt_id = hwpt,
					  .data_len = d ? sizeof(*d) : 0, .data_uptr = (uintptr_t)d };
	int rc = iof_ioctl(ctx, IOF_CMD_VIOMMU_ALLOC, &c);

	*id = c.out_viommu_id;
	return rc;
}

static inline int vdevice_alloc(struct iof_handle *ctx, uint32_t viommu, uint32_t dev, uint64_t virt_id, uint32_t *id)
{
	struct iof_cmd_vdevice_alloc c = { .size = sizeof(c), .viommu_id = viommu, .dev_id = dev, .virt_id = virt_id };
	int rc = iof_ioctl(ctx, IOF_CMD_VDEVICE_ALLOC, &c);

	*id = c.out_vdevice_id;
	return rc;
}

static inline int hw_queue_alloc(struct iof_handle *ctx, uint32_t viommu, uint32_t type, uint32_t index, uint64_t iova,
				 uint64_t length, uint32_t *id)
{
	struct iof_cmd_hw_queue_alloc c = { .size = sizeof(c), .viommu_id = viommu, .type = type, .index = index,
					    .nesting_parent_iova = iova, .length = length };
	int rc = iof_ioctl(ctx, IOF_CMD_HW_QUEUE_ALLOC, &c);

	*id = c.out_hw_queue_id;
	return rc;
}

/* *n: entries in, entries handled out. */
static inline int invalidate(struct iof_handle *ctx, uint32_t id, uint32_t type, const void *entries, uint32_t length, uint32_t *n)
{
	struct iof_cmd_hwpt_invalidate c = { .size = sizeof(c), .hwpt_id = id, .data_uptr = (uintptr_t)entries, .data_type = type,
					     .entry_len = length, .entry_num = *n };
	int rc = iof_ioctl(ctx, IOF_CMD_HWPT_INVALIDATE, &c);

	*n = c.entry_num;
	return rc;
}

static inline int rig_fault_alloc(struct iof_handle *ctx, uint32_t *id, int *fd)
{
	struct iof_cmd_fault_queue_alloc c = { .size = sizeof(c) };
	int rc = iof_ioctl(ctx, IOF_CMD_FAULT_QUEUE_ALLOC, &c);

	*id = c.out_fault_id;
	*fd = (int)c.out_fault_fd;
	return rc;
}

static inline int rig_veventq_alloc(struct iof_handle *ctx, uint32_t viommu, uint32_t depth, uint32_t *id, int *fd)
{
	struct iof_cmd_veventq_alloc c = { .size = sizeof(c), .viommu_id = viommu, .type = RIG_EVENT, .veventq_depth = depth };
	int rc = iof_ioctl(ctx, IOF_CMD_VEVENTQ_ALLOC, &c);

	*id = c.out_veventq_id;
	*fd = (int)c.out_veventq_fd;
	return rc;
}

/* close(2) of a queue's number. */
static inline void close_number(struct iof_machine *m, int fd)
{
	struct iof_handle *h;

	CHECK_EQ(iof_file_handle(m, fd, &h), 0);
	iof_close(h);
}

static inline int attach_pasid(struct iof_handle *dev, uint32_t pasid, uint32_t pt, uint32_t *hwpt)
{
	struct iof_cmd_attach c = { .argsz = sizeof(c), .flags = IOF_ATTACH_PASID, .pt_id = pt, .pasid = pasid };
	int rc = iof_ioctl(dev, IOF_CMD_DEVICE_ATTACH_PT, &c);

	if (hwpt)
		*hwpt = c.pt_id;
	return rc;
}

static inline int detach_pasid(struct iof_handle *dev, uint32_t pasid)
{
	struct iof_cmd_detach c = { .argsz = sizeof(c), .flags = IOF_ATTACH_PASID, .pasid = pasid };

	return iof_ioctl(dev, IOF_CMD_DEVICE_DETACH_PT, &c);
}

static inline uint64_t digest_of(struct iof_handle *ctx)
{
	uint64_t d;

	CHECK_EQ(iof_digest(ctx, &d), 0);
	return d;
}

static inline int set_tracking(struct iof_handle *ctx, uint32_t hwpt, uint32_t flags)
{
	struct iof_cmd_set_dirty_tracking c = { .size = sizeof(c), .flags = flags, .hwpt_id = hwpt };

	return iof_ioctl(ctx, IOF_CMD_HWPT_SET_DIRTY_TRACKING, &c);
}

static inline int get_dirty(struct iof_handle *ctx, uint32_t hwpt, uint32_t flags, uint64_t iova, uint64_t length, uint64_t page,
			    void *bitmap)
{
	struct iof_cmd_get_dirty_bitmap c = { .size = sizeof(c), .hwpt_id = hwpt, .flags = flags, .iova = iova, .length = length,
					      .page_size = page, .data = (uintptr_t)bitmap };

	return iof_ioctl(ctx, IOF_CMD_HWPT_GET_DIRTY_BITMAP, &c);
}

#endif
