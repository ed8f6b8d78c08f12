/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMMUv3's context descriptors: from a guest's stream table entry and a substream (a PASID) to the table that translates (SMMUv3 specification 5.2, 5.4).
 *
 * Only what a guest of Linux or of an Arm hypervisor uses is built: TTB0, 64-bit tables, little endian, no stalls. A descriptor that asks for other things is
 * C_BAD_CD; addresses of the upper half (TTB1) are not translated.
 */
#include <endian.h>
#include <errno.h>

#include "ioas/soft_smmu.h"
#include "ioas/softdrv.h"

#define CD_BYTES 64
#define L1_V 1u
#define L1_ADDRESS UINT64_C(0x000ffffffffff000)
#define TTB_ADDRESS UINT64_C(0x000ffffffffffff0)
#define CD_EPD0 (UINT64_C(1) << 14)
#define CD_ENDI (UINT64_C(1) << 15)
#define CD_V (UINT64_C(1) << 31)
#define CD_AFFD (UINT64_C(1) << 35)
#define CD_AA64 (UINT64_C(1) << 41)
#define CD_S (UINT64_C(1) << 44)
#define CD_R (UINT64_C(1) << 45)
#define ITEM_AP_USER (UINT64_C(1) << 6) /* AP[1]: a device's requests are unprivileged */
#define ITEM_APTABLE_NO_USER (UINT64_C(1) << 61)
#define OAS 48

struct lookup {
	struct iof_soft_nested *n;
	const struct iof_guest *g;
	uint32_t ssid;
	uint64_t cd; /* address of the descriptor */
};

static unsigned ste_config(const uint64_t *ste)
{
	return ste[0] & 1 ? ste[0] >> 1 & 7 : 0;
}

static unsigned ste_cdmax(const uint64_t *ste)
{
	return ste[0] >> 59;
}

static int refuse(const struct lookup *l, enum iofi_smmu_event code, uint64_t address, uint64_t item)
{
	enum iof_dma_fault_reason reason = code == IOFI_SMMU_BAD_CD || code == IOFI_SMMU_BAD_STE ? IOF_DMA_FAULT_TABLE :
					   code == IOFI_SMMU_TRANSLATION			  ? IOF_DMA_FAULT_UNMAPPED :
												    IOF_DMA_FAULT_BLOCKED;

	return iofi_soft_refuse(l->g, reason, (uint8_t)code, address, item);
}

/* The table of descriptors is one array, or two levels with 64 or 1024 descriptors in each lower one. */
static int find_descriptor(struct lookup *l)
{
	const uint64_t *ste = l->n->word;
	unsigned format = ste[0] >> 4 & 3, split = format == 1 ? 6 : 10;
	uint64_t table = ste[0] & UINT64_C(0x000fffffffffffc0), at, item;

	if (!ste_cdmax(ste) || !format) {
		l->cd = table + (uint64_t)l->ssid * CD_BYTES;
		return 0;
	}
	if (format == 3)
		return refuse(l, IOFI_SMMU_BAD_STE, 0, ste[0]);
	at = table + (uint64_t)(l->ssid >> split) * 8;
	if (iof_guest_read(l->g, at, &item, sizeof(item)))
		return -EFAULT;
	item = le64toh(item);
	if (!(item & L1_V))
		return refuse(l, IOFI_SMMU_BAD_SUBSTREAM, at, item);
	l->cd = (item & L1_ADDRESS & ~(format == 2 ? UINT64_C(0xffff) : 0)) + (l->ssid & iof_low_mask(split)) * CD_BYTES;
	return 0;
}

/* The shape of the table; false: there is no such. */
static bool shape_of(uint64_t word, struct iof_pt_config *cfg)
{
	static const uint8_t granules[4] = { 12, 16, 14, 0 }, sizes[8] = { 32, 36, 40, 42, 44, 48, 52, 0 };
	uint8_t oa = sizes[word >> 32 & 7];

	*cfg = (struct iof_pt_config){ .format = IOF_PT_ARM_S1, .va_lg2 = (uint8_t)(64 - (word & 63)), .granule_lg2 = granules[word >> 6 & 3],
				       .oa_lg2 = oa > OAS ? OAS : oa };
	return oa && cfg->granule_lg2 && (word & 63) >= 16 && (word & 63) <= 39;
}

static bool descriptor_is_sane(uint64_t word)
{
	return word & CD_V && word & CD_AA64 && !(word & (CD_ENDI | CD_S));
}

/* From the descriptor's first two words. */
static int make_stage(const struct lookup *l, const uint64_t *cd, struct iof_first_stage *out)
{
	struct iof_pt_config cfg, full;
	uint32_t vmid = l->n->parent->domain;

	if (!descriptor_is_sane(cd[0]) || !shape_of(cd[0], &cfg) || iof_pt_shape(&cfg, &full))
		return refuse(l, IOFI_SMMU_BAD_CD, l->cd, cd[0]);
	*out = (struct iof_first_stage){
		.kind = IOF_FIRST_TABLE,
		.silent = !(cd[0] & CD_R),
		.key = { .domain = vmid, .tag = (uint32_t)(cd[0] >> 48) + 1, .parent = vmid },
		.table = { .cfg = cfg, .root = cd[1] & TTB_ADDRESS, .top_level = full.top_level },
		.leaf_item = ITEM_AP_USER | (cd[0] & CD_AFFD ? 0 : IOFI_SMMU_ITEM_AF),
		.no_table_item = ITEM_APTABLE_NO_USER,
	};
	if (cd[0] & CD_EPD0)
		return refuse(l, IOFI_SMMU_TRANSLATION, l->cd, cd[0]);
	return iof_pt_foreign_check(&out->table) ? refuse(l, IOFI_SMMU_BAD_CD, l->cd, cd[1]) : 0;
}

static int read_descriptor(struct lookup *l, struct iof_first_stage *out)
{
	uint64_t cd[2];
	int rc = find_descriptor(l);

	if (!rc)
		rc = iof_guest_read(l->g, l->cd, cd, sizeof(cd));
	if (rc)
		return rc;
	cd[0] = le64toh(cd[0]);
	cd[1] = le64toh(cd[1]);
	return make_stage(l, cd, out);
}

static int of_substream(struct lookup *l, struct iof_first_stage *out)
{
	int rc;

	if (iofi_soft_context_find(l->n, l->ssid, out))
		return 0;
	rc = read_descriptor(l, out);
	if (!rc)
		iofi_soft_context_keep(l->n, l->ssid, out);
	return rc;
}

/* Without a PASID, where the guest has substreams: S1DSS says. */
static int of_stream(struct lookup *l, struct iof_first_stage *out)
{
	const uint64_t *ste = l->n->word;

	switch (ste_cdmax(ste) ? ste[1] & 3 : 2) {
	case 0:
		return refuse(l, IOFI_SMMU_STREAM_DISABLED, 0, ste[1]);
	case 1:
		out->kind = IOF_FIRST_BYPASS;
		return 0;
	case 2:
		return of_substream(l, out);
	default:
		return refuse(l, IOFI_SMMU_BAD_STE, 0, ste[1]);
	}
}

int iofi_smmu_first_stage(void *drv, void *priv, uint32_t pasid, const struct iof_guest *guest, struct iof_first_stage *out)
{
	struct lookup l = { .n = priv, .g = guest, .ssid = pasid };
	unsigned config = ste_config(l.n->word);

	(void)drv;
	if (config != 5) {
		out->kind = config == 4 ? IOF_FIRST_BYPASS : IOF_FIRST_ABORT;
		return 0;
	}
	if (!pasid)
		return of_stream(&l, out);
	if (pasid >> ste_cdmax(l.n->word))
		return refuse(&l, IOFI_SMMU_BAD_SUBSTREAM, 0, 0);
	return of_substream(&l, out);
}
