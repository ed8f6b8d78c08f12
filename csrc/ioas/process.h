/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOF_IOAS_PROCESS_H
#define IOF_IOAS_PROCESS_H

#include "ioas/context.h"

/*
 * IOAS_CHANGE_PROCESS (R4.6.5): the calling process takes over all mappings of the context, and what they are charged.
 * -EBUSY an area is in transition; -EINVAL an area is not of a file; -ENOMEM the caller's limit, or no memory: then
 * nothing has changed.
 */
int iof_context_change_process(struct iof_context *ctx);

#endif
