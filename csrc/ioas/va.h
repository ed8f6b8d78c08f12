/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address index of an IOAS: which IOVA shows an address of this process (iova/va_index.h).
 *
 * Made when somebody asks for it, then kept to the end of the IOAS. A mapping enters it after the page tables show it and leaves it before
 * they cease to: an answer can be used. What has no address is not in it: files and dma-bufs. Addresses are those of the process that mapped.
 *
 * Locks: adding and removing under the domains lock, read or write.
 */
#ifndef IOF_IOAS_VA_H
#define IOF_IOAS_VA_H

#include "ioas/ioas.h"

/* One reference, with everything in it that is mapped now. Under no lock of the IOAS. -ENOMEM. */
int iof_ioas_va_index(struct iof_ioas *ioas, struct iof_va_index **out);

/* Only with an index. 0, -ENOMEM. */
int iofi_va_add(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range r);
void iofi_va_remove(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range r);

/* With or without one: an area that is at `whole` is cut behind left_last. begin may fail (-ENOMEM); end says whether it was done. */
int iofi_va_cut_begin(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range whole, uint64_t left_last);
void iofi_va_cut_end(struct iof_ioas *ioas, const struct iof_area *area, struct iof_range whole, uint64_t left_last, bool made);

/* Is in the index what is mapped, and nothing else? For tests. */
bool iofi_va_is_valid(struct iof_ioas *ioas);

#endif
