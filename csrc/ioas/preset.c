/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/preset.h"

#include <stddef.h>

#include "ioas/softdrv.h"

/* x86's message-signalled interrupt window: writes there are interrupts, whatever the page table says. */
#define MSI_WINDOW { 0xfee00000, 0xfeefffff }

static const struct iof_range intel_reserved[] = { MSI_WINDOW };
/* AMD IOMMU specification 2.1.2: the HyperTransport address space is never translated. */
static const struct iof_range amd_reserved[] = { MSI_WINDOW, { 0xfd00000000, 0xffffffffff } };

/*
 * GET_HW_INFO of an Intel IOMMU: flags, reserved, capability register, extended capability register (VT-d specification 11.4.2, 11.4.3).
 * CAP: SAGAW 4-level (bit 10), second-stage large pages 2M and 1G (bits 34, 35), MGAW 47 (bits 21:16), 2^16 domains (bits 2:0 = 6).
 * ECAP: snoop control (bit 7), PASID (bit 40) with 20 bits (bits 39:35 = 19), scalable mode (bit 43), second-stage dirty (bit 45).
 */
static const struct { uint32_t flags, reserved; uint64_t cap, ecap; } intel_info = {
	.cap = 6 | UINT64_C(1) << 10 | UINT64_C(47) << 16 | UINT64_C(3) << 34,
	.ecap = 1 << 7 | UINT64_C(19) << 35 | UINT64_C(1) << 40 | UINT64_C(1) << 43 | UINT64_C(1) << 45,
};

/*
 * Of an AMD IOMMU: extended feature registers (AMD IOMMU specification 3.4.9). EFR: X2APIC (bit 2), guest translation (bit 4), host address
 * translation size 6 levels (bits 11:10 = 2), PASmax 20 bits (bits 36:32 = 19), host dirty tracking (bit 52).
 */
static const struct { uint64_t efr, efr2; } amd_info = {
	.efr = 1 << 2 | 1 << 4 | 2 << 10 | UINT64_C(19) << 32 | UINT64_C(1) << 52,
};

#define SOFT_CAPS(regions)                                                                                             \
	{ .max_pasids = 1 << 20, .pasids = true, .dirty_tracking = true, .no_ats = true, .hw_msi = true, .reserved = (regions),         \
	  .n_reserved = sizeof(regions) / sizeof((regions)[0]) }

static const struct iof_preset_info presets[IOF_PRESETS] = {
	[1] = {
		.driver = &iof_soft_intel,
		.table = { .format = IOF_PT_VTDSS, .va_lg2 = 48, .oa_lg2 = 52, .features = IOF_PT_FORCE_COHERENT },
		.caps = SOFT_CAPS(intel_reserved),
		.hw_info_type = 1,
		.hw_info_length = sizeof(intel_info),
		.hw_info = &intel_info,
	},
	[2] = {
		.driver = &iof_soft_amd,
		.table = { .format = IOF_PT_AMDV1, .oa_lg2 = 52, .top_level = 2,
			   .features = IOF_PT_GROWING_TOP | IOF_PT_FORCE_COHERENT },
		.caps = SOFT_CAPS(amd_reserved),
		.hw_info_type = 4,
		.hw_info_length = sizeof(amd_info),
		.hw_info = &amd_info,
	},
};

const struct iof_preset_info *iof_preset_info(unsigned preset)
{
	return preset && preset < IOF_PRESETS ? &presets[preset] : NULL;
}
