/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOF_IOAS_REVOKE_H
#define IOF_IOAS_REVOKE_H

#include "ioas/machine.h"
#include "pages/dmabuf.h"

/*
 * The exporter of a dma-buf changes its mind (R4.8.3): stores the flag, and whatever was imported so far is taken out
 * of every page table of the machine, for good. When it returns no device reaches that memory through them. Under no
 * lock of the engine.
 */
void iof_machine_revoke(struct iof_machine *m, struct iof_dmabuf *d, bool revoked);

#endif
