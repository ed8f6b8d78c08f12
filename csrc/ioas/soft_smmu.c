/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMMUv3's nested tables: two words of a stream table entry on a vIOMMU (behaviour.md appendix B; SMMUv3 specification 5.2). What a guest may set, what is refused with EIO, and which
 * commands a guest's invalidations are made of, is as in Linux's driver.
 *
 * Translations are tagged by VMID and ASID: all vIOMMUs on one parent have its VMID, and a command of one of them reaches what the others' guests share with it.
 * A device is known to its guest by the id of its vDevice, as of its last attach.
 */
#include "ioas/soft_smmu.h"

#include <endian.h>
#include <errno.h>

#include "dispatch/uapi_guest.h"
#include "ioas/softdrv.h"
#include "ioas/veventq.h"

#define STE0_V UINT64_C(1)
#define STE0_ALLOWED UINT64_C(0xf80fffffffffffff) /* V, Cfg, S1Fmt, S1ContextPtr, S1CDMax */
#define STE1_ALLOWED UINT64_C(0x380000ff) /* S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS */
#define CONFIG_ABORT 0
#define CONFIG_BYPASS 4
#define CONFIG_TRANSLATE 5

static unsigned config_of(const uint64_t *ste)
{
	return ste[0] >> 1 & 7;
}

/* ---- nested tables ---- */

static int check(uint64_t *ste)
{
	unsigned config = config_of(ste), eats = ste[1] >> 28 & 3;

	if (!(ste[0] & STE0_V)) {
		ste[0] = ste[1] = 0;
		return 0;
	}
	if (ste[0] & ~STE0_ALLOWED || ste[1] & ~STE1_ALLOWED)
		return -EIO;
	if (config != CONFIG_ABORT && config != CONFIG_BYPASS && config != CONFIG_TRANSLATE)
		return -EIO;
	return eats > 1 ? -EIO : 0;
}

int iofi_smmu_nested_alloc(void *drv, struct iof_mdev *dev, struct iof_hwpt *parent, struct iof_viommu *v, uint32_t flags,
			   const struct iof_user_data *data, void **priv)
{
	struct iof_soft_nested *n;
	uint64_t ste[2];
	int rc;

	(void)drv;
	(void)dev;
	if (flags)
		return -EOPNOTSUPP;
	rc = iof_user_data_get(data, IOF_DATA_ARM_SMMUV3, ste, sizeof(ste), sizeof(ste));
	if (rc)
		return rc;
	ste[0] = le64toh(ste[0]);
	ste[1] = le64toh(ste[1]);
	rc = check(ste);
	if (!rc)
		rc = iofi_soft_nested_make(parent, v, &n);
	if (rc)
		return rc;
	n->word[0] = ste[0];
	n->word[1] = ste[1];
	*priv = n;
	return 0;
}

void iofi_smmu_nested_free(void *drv, void *priv)
{
	(void)drv;
	iofi_soft_nested_free(priv);
}

/* A translating entry needs the guest's id of the device; an aborting or bypassing one does without. */
int iofi_smmu_attach(void *drv, struct iof_mdev *dev, uint32_t pasid, struct iof_hwpt *hwpt, struct iof_hwpt *old)
{
	struct iof_soft_nested *n = hwpt && hwpt->parent ? hwpt->priv : NULL;
	uint64_t id = 0;

	(void)drv;
	(void)old;
	if (pasid)
		return 0;
	if (n && iof_viommu_virt_id(n->viommu, dev, &id)) {
		if (config_of(n->word) == CONFIG_TRANSLATE)
			return -ENOENT;
		n = NULL;
	}
	atomic_store(&dev->guest_id, n ? (uint32_t)id + UINT64_C(1) : 0);
	if (n)
		iofi_soft_forget(n, IOF_IOTLB_ANY_TAG);
	return 0;
}

/* ---- vIOMMUs ---- */

int iofi_smmu_viommu_supported(void *drv, struct iof_mdev *dev, uint32_t type)
{
	(void)drv;
	(void)dev;
	return type == IOF_VIOMMU_ARM_SMMUV3 ? 0 : -EOPNOTSUPP;
}

/* Commands (SMMUv3 4.3, 4.4): all of a guest's, one address, one ASID; descriptors of a stream. */
enum {
	CFGI_CD = 0x05,
	CFGI_CD_ALL = 0x06,
	TLBI_NH_ALL = 0x10,
	TLBI_NH_ASID = 0x11,
	TLBI_NH_VA = 0x12,
	TLBI_NH_VAA = 0x13,
	TLBI_NSNH_ALL = 0x30,
	ATC_INV = 0x40,
};

/* One page, or (NUM + 1) << SCALE granules where TG says how large these are. */
static struct iof_range range_of(const uint64_t *cmd)
{
	static const uint8_t granules[4] = { 0, 12, 14, 16 };
	uint64_t start = cmd[1] & ~IOF_PAGE_MASK, num = (cmd[0] >> 12 & 31) + 1, scale = cmd[0] >> 20 & 31;
	unsigned granule = granules[cmd[1] >> 10 & 3];
	struct iof_range r;

	if (!granule)
		return (struct iof_range){ start, start | IOF_PAGE_MASK };
	if (iof_range_make(start, num << (scale + granule), &r))
		return (struct iof_range){ start, UINT64_MAX };
	return r;
}

static void forget_contexts(struct iof_viommu *v, uint32_t ssid)
{
	for (struct iof_soft_nested *n = iofi_soft_viommu_first(v); n; n = n->next)
		iofi_soft_forget(n, ssid);
}

static int of_stream(struct iof_viommu *v, const uint64_t *cmd, unsigned op)
{
	if (!iof_viommu_device(v, cmd[0] >> 32))
		return -EIO;
	if (op != ATC_INV) /* the soft devices have no translation caches of their own */
		forget_contexts(v, op == CFGI_CD ? (uint32_t)(cmd[0] >> 12 & 0xfffff) : IOF_IOTLB_ANY_TAG);
	return 0;
}

static int run_command(struct iof_viommu *v, const uint64_t *cmd)
{
	struct iof_iotlb_key key = IOF_IOTLB_OF_PARENT(v->parent->domain);
	struct iof_range r = IOF_RANGE_ALL;
	unsigned op = cmd[0] & 0xff;

	switch (op) {
	case CFGI_CD:
	case CFGI_CD_ALL:
	case ATC_INV:
		return of_stream(v, cmd, op);
	case TLBI_NSNH_ALL:
	case TLBI_NH_ALL:
		break;
	case TLBI_NH_ASID:
		key.tag = (uint32_t)(cmd[0] >> 48) + 1;
		break;
	case TLBI_NH_VA:
		key.tag = (uint32_t)(cmd[0] >> 48) + 1;
		r = range_of(cmd);
		break;
	case TLBI_NH_VAA:
		r = range_of(cmd);
		break;
	default:
		return -EIO;
	}
	iofi_soft_invalidate(v->parent, &key, r);
	return 0;
}

static int get_command(const struct iof_user_array *a, uint32_t i, uint64_t *cmd)
{
	int rc = iof_user_array_get(a, i, cmd, 2 * sizeof(*cmd));

	cmd[0] = le64toh(cmd[0]);
	cmd[1] = le64toh(cmd[1]);
	return rc;
}

/* The whole array has to be readable before its first command runs (5.4). */
int iofi_smmu_invalidate(void *drv, struct iof_viommu *v, const struct iof_user_array *a, uint32_t *done)
{
	uint64_t cmd[2] = { 0 };
	int rc = 0;

	(void)drv;
	*done = 0;
	if (a->type != IOF_INVALIDATE_ARM_SMMUV3 || !a->entry_num)
		return -EINVAL;
	for (uint32_t i = 0; i < a->entry_num && !rc; i++)
		rc = get_command(a, i, cmd);
	for (; !rc && *done < a->entry_num; *done += !rc) {
		rc = get_command(a, *done, cmd);
		if (!rc)
			rc = run_command(v, cmd);
	}
	return rc;
}

/* ---- events ---- */

/* 0: nothing that a guest is told of. What is reserved in an item that points on can only be its address. */
static unsigned event_of(const struct iof_dma_fault *f)
{
	if (f->stage != 1)
		return 0;
	if (f->code)
		return f->code;
	switch (f->reason) {
	case IOF_DMA_FAULT_UNMAPPED:
		return IOFI_SMMU_TRANSLATION;
	case IOF_DMA_FAULT_TABLE:
		return (f->item & 3) == 3 ? IOFI_SMMU_ADDRESS_SIZE : IOFI_SMMU_TRANSLATION;
	case IOF_DMA_FAULT_DENIED:
		return f->item & IOFI_SMMU_ITEM_AF ? IOFI_SMMU_PERMISSION : IOFI_SMMU_ACCESS;
	default:
		return 0;
	}
}

#define EVENT0_SSV (UINT64_C(1) << 11)
#define EVENT1_READ (UINT64_C(1) << 35)
#define EVENT1_CLASS_INPUT (UINT64_C(2) << 40)

void iofi_smmu_dma_faulted(void *drv, void *priv, struct iof_mdev *dev, uint32_t pasid, const struct iof_dma_fault *fault)
{
	const struct iof_soft_nested *n = priv;
	uint64_t id = atomic_load(&dev->guest_id), event[4] = { event_of(fault) };

	(void)drv;
	if (!id || !event[0])
		return;
	if (event[0] >= IOFI_SMMU_TRANSLATION) {
		event[1] = EVENT1_CLASS_INPUT | (fault->write ? 0 : EVENT1_READ);
		event[2] = fault->iova;
	}
	event[0] |= (id - 1) << 32 | (pasid ? EVENT0_SSV | (uint64_t)pasid << 12 : 0);
	for (unsigned i = 0; i < 4; i++)
		event[i] = htole64(event[i]);
	iof_veventq_report(n->viommu, IOF_VEVENTQ_ARM_SMMUV3, event, sizeof(event));
}
