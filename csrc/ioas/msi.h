/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Software MSI: platforms whose IOMMU translates the writes that are interrupts (behaviour.md R6.8, R6.5).
 *
 * Such a device has a window of IOVAs set aside. The first time an interrupt is set up for a doorbell page, the context gives that page the next page of
 * the window; from then on it is at this IOVA in every page table of the context. A group remembers the pages that its devices need, a page table
 * those it shows; the pages a group needs are put in whenever its requester ids come to another page table.
 *
 * Locks: the context's control lock.
 */
#ifndef IOF_IOAS_MSI_H
#define IOF_IOAS_MSI_H

#include "ioas/device.h"

#define IOF_MSI_PAGES 64 /* of a context; as many as the masks have bits */

struct iof_msi_page {
	uint64_t window; /* start of the window it is in */
	uint64_t doorbell; /* physical address of the page */
	uint32_t index; /* page of the window */
};

struct iof_msi_table {
	uint32_t n;
	struct iof_msi_page page[IOF_MSI_PAGES];
};

/*
 * Where the device has to write for the interrupt at `doorbell`: a device without a window writes to it untranslated. 0; -EINVAL not attached; -EOVERFLOW
 * 64 pages are in use, or the window is full; -ENOMEM and the page table's. Control lock is taken.
 */
int iof_device_msi(struct iof_device *dev, uint64_t doorbell, uint64_t *iova);

/* The device's regions do not contradict each other (R6.5): -EINVAL a window beside a hardware MSI region. */
int iofi_msi_check(const struct iof_device_caps *caps);
/* Puts what the group needs into the paging table behind `hwpt`. What is in when one fails stays, as it does no harm. */
int iofi_msi_install(struct iof_context *ctx, const struct iof_group *g, struct iof_hwpt *hwpt);

#endif
