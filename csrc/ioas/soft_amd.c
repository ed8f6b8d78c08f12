/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AMD's nested tables: four words of a device table entry on a vIOMMU (AMD IOMMU specification 2.2.2; behaviour.md appendix B). The GCR3 table that the entry
 * names is the guest's table of PASIDs, in up to three levels; each leads to a table in the format of the CPU's.
 *
 * Requests without a PASID use the table's entry 0 where the guest has set GIOV, and else go through the second stage alone. Tables of one vIOMMU with the same domain
 * number share their translations, as the guest asked. There is no command to invalidate them yet, as in Linux 7.2: attaching does.
 */
#include <errno.h>

#include "dispatch/uapi_guest.h"
#include "ioas/soft_nested.h"
#include "ioas/softdrv.h"

#define DTE0_MODE (UINT64_C(7) << 9)
#define DTE0_HOST_ROOT UINT64_C(0x000ffffffffff000)
#define DTE0_V UINT64_C(1)
#define DTE0_GV (UINT64_C(1) << 55)
#define DTE0_GIOV (UINT64_C(1) << 54)
#define GCR3_V 1u
#define ADDRESS UINT64_C(0x000ffffffffff000)
#define ITEM_USER 4u

static unsigned glx(const uint64_t *dte)
{
	return dte[0] >> 56 & 3;
}

static unsigned guest_levels(const uint64_t *dte) /* 0: four, 1: five */
{
	return dte[2] >> 54 & 3;
}

static uint64_t gcr3(const uint64_t *dte)
{
	return (dte[0] >> 58 & 7) << 12 | (dte[1] >> 16 & 0xffff) << 15 | (dte[1] >> 43) << 31;
}

static int check(const uint64_t *dte)
{
	if (dte[0] & (DTE0_MODE | DTE0_HOST_ROOT))
		return -EINVAL;
	if (dte[0] & DTE0_V && dte[0] & DTE0_GV && !gcr3(dte))
		return -EINVAL;
	return guest_levels(dte) > 1 || glx(dte) == 3 ? -EINVAL : 0;
}

static uint64_t domain_of(const uint64_t *dte)
{
	return dte[1] & 0xffff;
}

/* Another table of the vIOMMU with the guest's domain number has its tag. */
static void share_domain(struct iof_soft_nested *n)
{
	for (const struct iof_soft_nested *o = iofi_soft_viommu_first(n->viommu); o; o = o->next)
		if (o != n && domain_of(o->word) == domain_of(n->word))
			n->domain = o->domain;
}

int iofi_amd_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			  const struct iof_user_data *data, void **priv)
{
	struct iof_soft_nested *n;
	uint64_t dte[4];
	int rc;

	(void)drv;
	(void)dev;
	(void)flags;
	if (data->type != IOF_DATA_AMD_GUEST)
		return -EOPNOTSUPP;
	rc = iof_user_data_get(data, IOF_DATA_AMD_GUEST, dte, sizeof(dte), sizeof(dte));
	if (!rc)
		rc = check(dte);
	if (!rc)
		rc = iofi_soft_nested_make(parent, v, &n);
	if (rc)
		return rc;
	for (unsigned i = 0; i < 4; i++)
		n->word[i] = dte[i];
	share_domain(n);
	*priv = n;
	return 0;
}

static void flush(struct iof_soft_nested *n)
{
	iofi_soft_forget(n, IOF_IOTLB_ANY_TAG);
	iofi_soft_invalidate(n->parent, &(struct iof_iotlb_key){ .domain = n->domain, .tag = IOF_IOTLB_ANY_TAG }, IOF_RANGE_ALL);
}

void iofi_amd_nested_free(void *drv, void *priv)
{
	(void)drv;
	flush(priv);
	iofi_soft_nested_free(priv);
}

int iofi_amd_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	(void)drv;
	(void)dev;
	(void)old;
	if (!hwpt || !hwpt->parent)
		return 0;
	if (pasid)
		return -EOPNOTSUPP; /* PASIDs are the guest's own, behind its table of them */
	flush(hwpt->priv);
	return 0;
}

/* The guest's entry for a PASID. */
static int find_root(const struct iof_guest *g, const uint64_t *dte, uint32_t pasid, uint64_t *root)
{
	uint64_t table = gcr3(dte), item = 0, at = table;

	if (pasid >> 9 * (glx(dte) + 1))
		return iofi_soft_refuse(g, IOF_DMA_FAULT_BLOCKED, 0, table, 0);
	for (int level = (int)glx(dte); level >= 0; level--) {
		at = table + (pasid >> 9 * level & 511) * 8;
		if (iof_guest_read(g, at, &item, sizeof(item)))
			return -EFAULT;
		if (!(item & GCR3_V))
			return iofi_soft_refuse(g, IOF_DMA_FAULT_UNMAPPED, 0, at, item);
		table = item & ADDRESS;
	}
	*root = table;
	return 0;
}

int iofi_amd_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out)
{
	struct iof_soft_nested *n = priv;
	unsigned five = guest_levels(n->word);
	uint64_t root = 0;

	(void)drv;
	if (!pasid && !(n->word[0] & DTE0_GIOV)) {
		out->kind = IOF_FIRST_BYPASS;
		return 0;
	}
	if (iofi_soft_context_find(n, pasid, out))
		return 0;
	if (find_root(guest, n->word, pasid, &root))
		return -EFAULT;
	*out = (struct iof_first_stage){
		.kind = IOF_FIRST_TABLE,
		.key = { .domain = n->domain, .tag = pasid + 1, .parent = n->parent->domain },
		.table = { .cfg = { .format = IOF_PT_X86_64, .va_lg2 = five ? 57 : 48, .oa_lg2 = 52,
				    .features = IOF_PT_SIGN_EXTEND },
			   .root = root,
			   .top_level = five ? 4 : 3 },
		.every_item = ITEM_USER,
	};
	iofi_soft_context_keep(n, pasid, out);
	return 0;
}

/* As in Linux, any type but the default's 0 will do: none has a name. */
int iofi_amd_viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type)
{
	(void)drv;
	(void)dev;
	(void)type;
	return 0;
}
