/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/preset.h"

#include <stddef.h>

#include "ioas/softdrv.h"

/* x86's message-signalled interrupt window: writes there are interrupts, whatever the page table says. */
#define MSI_WINDOW { 0xfee00000, 0xfeefffff }

static const struct iof_range intel_reserved[] = { MSI_WINDOW };
/* AMD IOMMU specification 2.1.2: the HyperTransport address space is never translated. */
static const struct iof_range amd_reserved[] = { MSI_WINDOW, { 0xfd00000000, 0xffffffffff } };

#define BIT(n) (UINT64_C(1) << (n))

/*
 * GET_HW_INFO of an Intel IOMMU: flags, reserved, capability register, extended capability register (VT-d specification 11.4.2, 11.4.3).
 * CAP: SAGAW 4-level (bit 10), second-stage large pages 2M and 1G (bits 34, 35), MGAW 47 (bits 21:16), 2^16 domains (bits 2:0 = 6), first-stage 1G pages and
 * 5 levels (bits 56, 60).
 * ECAP: snoop control (bit 7), nesting (bit 26), page requests (bit 29), supervisor requests (bit 31), PASID (bit 40) with 20 bits (bits 39:35 = 19), scalable
 * mode (bit 43), second-stage dirty (bit 45), second and first stage (bits 46, 47).
 */
static const struct { uint32_t flags, reserved; uint64_t cap, ecap; } intel_info = {
	.cap = 6 | BIT(10) | UINT64_C(47) << 16 | BIT(34) | BIT(35) | BIT(56) | BIT(60),
	.ecap = BIT(7) | BIT(26) | BIT(29) | BIT(31) | UINT64_C(19) << 35 | BIT(40) | BIT(43) | BIT(45) | BIT(46) | BIT(47),
};

/*
 * Of an AMD IOMMU: extended feature registers (AMD IOMMU specification 3.4.9). EFR: page requests (bit 1), X2APIC (bit 2), guest translation (bit 4), host address
 * translation size 6 levels (bits 11:10 = 2), the guest's 5 levels (bits 13:12 = 1), its PASID table in 3 levels (bits 15:14 = 2), PASmax 20 bits (bits 36:32 = 19),
 * guest I/O protection (bit 48), host dirty tracking (bit 52).
 */
static const struct { uint64_t efr, efr2; } amd_info = {
	.efr = BIT(1) | BIT(2) | BIT(4) | 2 << 10 | 1 << 12 | 2 << 14 | UINT64_C(19) << 32 | BIT(48) | BIT(52),
};

/*
 * Of an SMMUv3: IDR0 to IDR5, IIDR, AIDR (SMMUv3 specification 6.3.1 to 6.3.6).
 * IDR0: both stages (bits 1, 0), AArch64 tables (bits 3:2 = 2), coherent (bit 4), hardware dirty state (bits 7:6 = 2), 16-bit ASIDs and VMIDs (bits 12, 18), two-level
 * context descriptors (bit 19), no stalls (bits 25:24 = 1), terminated with abort (bit 26), two-level stream table (bits 28:27 = 1).
 * IDR1: 32-bit stream ids (bits 5:0), 20-bit substreams (bits 10:6), queues of 2^19 (bits 20:16, 25:21). IDR3: forced write-back (bit 8), range invalidation (bit 10).
 * IDR5: 48-bit output (bits 2:0 = 5), granules of 4, 16 and 64 KiB (bits 4 to 6). AIDR: SMMUv3.2.
 */
static const struct { uint32_t flags, reserved, idr[6], iidr, aidr; } arm_info = {
	.idr = { 3 | 2 << 2 | 1 << 4 | 2 << 6 | 1 << 12 | 1 << 18 | 1 << 19 | 1 << 24 | 1 << 26 | 1 << 27,
		 32 | 20 << 6 | 19 << 16 | 19 << 21, 0, 1 << 8 | 1 << 10, 0, 5 | 7 << 4 },
	.aidr = 2,
};

/* Linux's window for interrupts that the SMMU translates. */
#define ARM_MSI_WINDOW { 0x8000000, 0x80fffff }

#define PASIDS .max_pasids = 1 << 20, .pasids = true
#define X86_CAPS(regions)                                                                                              \
	PASIDS, .dirty_tracking = true, .no_ats = true, .hw_msi = true, .reserved = (regions), .n_reserved = sizeof(regions) / sizeof((regions)[0])

static const struct iof_preset_info presets[IOF_PRESETS] = {
	[1] = {
		.driver = &iof_soft_intel,
		.table = { .format = IOF_PT_VTDSS, .va_lg2 = 48, .oa_lg2 = 52, .features = IOF_PT_FORCE_COHERENT },
		.caps = { X86_CAPS(intel_reserved) },
		.hw_info_type = 1,
		.hw_info_length = sizeof(intel_info),
		.hw_info = &intel_info,
	},
	[2] = {
		.driver = &iof_soft_amd,
		.table = { .format = IOF_PT_AMDV1, .oa_lg2 = 52, .top_level = 2,
			   .features = IOF_PT_GROWING_TOP | IOF_PT_FORCE_COHERENT },
		.caps = { X86_CAPS(amd_reserved), .user_pasids = true },
		.hw_info_type = 4,
		.hw_info_length = sizeof(amd_info),
		.hw_info = &amd_info,
	},
	[3] = {
		.driver = &iof_soft_arm,
		.table = { .format = IOF_PT_ARM_S1, .va_lg2 = 48, .oa_lg2 = 48, .granule_lg2 = 12 },
		.parent_table = { .format = IOF_PT_ARM_S2, .va_lg2 = 48, .oa_lg2 = 48, .granule_lg2 = 12, .features = IOF_PT_FORCE_WRITE_BACK },
		.caps = { PASIDS, .dirty_tracking = true, .no_ats = true, .user_pasids = true, .sw_msi = ARM_MSI_WINDOW },
		.hw_info_type = 2,
		.hw_info_length = sizeof(arm_info),
		.hw_info = &arm_info,
	},
	/* Sv48: the lower half of it, as the upper is sign-extended. Linux tells nothing of it, and knows no PASIDs, dirty pages or regions there. */
	[4] = {
		.driver = &iof_soft_riscv,
		.table = { .format = IOF_PT_RISCV64, .va_lg2 = 48, .features = IOF_PT_SIGN_EXTEND | IOF_PT_NAPOT },
		.caps = { .no_ats = true },
	},
};

const struct iof_preset_info *iof_preset_info(unsigned preset)
{
	return preset && preset < IOF_PRESETS ? &presets[preset] : NULL;
}
