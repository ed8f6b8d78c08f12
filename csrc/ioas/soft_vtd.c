/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VT-d's nested tables: a first-stage table at a guest address, given with the HWPT (behaviour.md appendix B). The PASID table stays the host's: one HWPT is one
 * table, and PASIDs are attached to it one by one.
 *
 * What Linux's driver refuses when the table is made is refused then, and what it finds only on attaching is refused on attaching: an address width that
 * the hardware cannot walk, supervisor requests or extended access flags that it does not have.
 */
#include <errno.h>

#include "dispatch/uapi_guest.h"
#include "ioas/soft_nested.h"
#include "ioas/softdrv.h"

#define ITEM_USER 4u /* a device's requests are a user's */
#define TABLE_MASK UINT64_C(0x000ffffffffff000)

enum { FLAGS, TABLE, WIDTH }; /* words */

int iofi_vtd_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			  const struct iof_user_data *data, void **priv)
{
	struct iof_soft_nested *n;
	struct iof_vtd_s1 s1;
	int rc;

	(void)drv;
	(void)dev;
	(void)v;
	if (flags & ~(uint32_t)IOF_HWPT_KIND_PASID || data->type != IOF_DATA_VTD_S1)
		return -EOPNOTSUPP;
	rc = iof_user_data_get(data, IOF_DATA_VTD_S1, &s1, sizeof(s1), sizeof(s1));
	if (!rc)
		rc = iofi_soft_nested_make(parent, NULL, &n);
	if (rc)
		return rc;
	n->word[FLAGS] = s1.flags;
	n->word[TABLE] = s1.pgtbl_addr & TABLE_MASK;
	n->word[WIDTH] = s1.addr_width;
	*priv = n;
	return 0;
}

static void flush(struct iof_soft_nested *n)
{
	iofi_soft_invalidate(n->parent, &(struct iof_iotlb_key){ .domain = n->domain, .tag = IOF_IOTLB_ANY_TAG }, IOF_RANGE_ALL);
}

void iofi_vtd_nested_free(void *drv, void *priv)
{
	(void)drv;
	flush(priv);
	iofi_soft_nested_free(priv);
}

/* Attaching empties the caches of what the guest's table said before. */
int iofi_vtd_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct iof_soft_nested *n = hwpt && hwpt->parent ? hwpt->priv : NULL;

	(void)drv;
	(void)dev;
	(void)pasid;
	(void)old;
	if (!n)
		return 0;
	if ((n->word[WIDTH] != 48 && n->word[WIDTH] != 57) || n->word[FLAGS] & IOF_VTD_S1_EAFE)
		return -EINVAL;
	flush(n);
	return 0;
}

int iofi_vtd_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out)
{
	struct iof_soft_nested *n = priv;
	uint8_t width = (uint8_t)n->word[WIDTH];

	(void)drv;
	(void)pasid;
	(void)guest;
	*out = (struct iof_first_stage){
		.kind = IOF_FIRST_TABLE,
		.key = { .domain = n->domain, .parent = n->parent->domain },
		.table = { .cfg = { .format = IOF_PT_X86_64, .va_lg2 = width, .oa_lg2 = 52, .features = IOF_PT_SIGN_EXTEND },
			   .root = n->word[TABLE],
			   .top_level = width == 57 ? 4 : 3 },
		.every_item = ITEM_USER,
	};
	return 0;
}

static int invalidate_one(struct iof_soft_nested *n, const struct iof_vtd_s1_invalidate *inv)
{
	struct iof_range r = IOF_RANGE_ALL;

	if (inv->flags & ~(uint32_t)IOF_VTD_INV_LEAF || inv->reserved)
		return -EOPNOTSUPP;
	if (inv->addr & IOF_PAGE_MASK || (inv->npages == UINT64_MAX && inv->addr))
		return -EINVAL;
	if (!inv->npages)
		return 0;
	if (inv->npages <= UINT64_MAX >> IOF_PAGE_SHIFT && iof_range_make(inv->addr, inv->npages << IOF_PAGE_SHIFT, &r))
		r = (struct iof_range){ inv->addr, UINT64_MAX };
	iofi_soft_invalidate(n->parent, &(struct iof_iotlb_key){ .domain = n->domain, .tag = IOF_IOTLB_ANY_TAG }, r);
	return 0;
}

int iofi_vtd_invalidate(void *drv, void *priv, const struct iof_user_array *a, uint32_t *done)
{
	struct iof_vtd_s1_invalidate inv;
	int rc = 0;

	(void)drv;
	if (a->type != IOF_INVALIDATE_VTD_S1)
		return -EINVAL;
	if (a->entry_num && a->entry_len < sizeof(inv))
		return -EINVAL;
	for (*done = 0; *done < a->entry_num; ++*done) {
		rc = iof_user_array_get(a, *done, &inv, sizeof(inv));
		if (!rc)
			rc = invalidate_one(priv, &inv);
		if (rc)
			break;
	}
	return rc;
}
