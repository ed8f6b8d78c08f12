/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/preset.h"

#include <stddef.h>

/* x86's message-signalled interrupt window: writes there are interrupts, whatever the page table says. */
#define MSI_WINDOW { 0xfee00000, 0xfeefffff }

static const struct iof_range intel_reserved[] = { MSI_WINDOW };
/* AMD IOMMU specification 2.1.2: the HyperTransport address space is never translated. */
static const struct iof_range amd_reserved[] = { MSI_WINDOW, { 0xfd00000000, 0xffffffffff } };

static const struct iof_preset_info presets[IOF_PRESETS] = {
	[1] = {
		.name = "intel",
		.table = { .format = IOF_PT_VTDSS, .va_lg2 = 48, .oa_lg2 = 52, .features = IOF_PT_FORCE_COHERENT },
		.reserved = intel_reserved,
		.n_reserved = 1,
	},
	[2] = {
		.name = "amd",
		.table = { .format = IOF_PT_AMDV1, .oa_lg2 = 52, .top_level = 2,
			   .features = IOF_PT_GROWING_TOP | IOF_PT_FORCE_COHERENT },
		.reserved = amd_reserved,
		.n_reserved = 2,
	},
};

const struct iof_preset_info *iof_preset_info(unsigned preset)
{
	return preset && preset < IOF_PRESETS ? &presets[preset] : NULL;
}
