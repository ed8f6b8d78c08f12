/* SPDX-License-Identifier: Apache-2.0 */
/* The engine as a provider: its handles are dispatch's files, in this process. */
#ifndef IOF_PROVIDER_ENGINE_H
#define IOF_PROVIDER_ENGINE_H

#include "dispatch/file.h"
#include "provider/provider.h"

/*
 * One piece of memory: the file's first word is the handle. So a file's handle is there as soon as the file is, and
 * is always the same.
 */
union iof_engine {
	struct iof_handle handle;
	struct iof_file file;
};

_Static_assert(sizeof(struct iof_handle) == sizeof(((struct iof_file *)0)->door) && !offsetof(struct iof_file, door),
	       "the door is the handle");

static inline union iof_engine *iofi_engine(const struct iof_handle *h)
{
	return (union iof_engine *)h;
}

struct iof_handle *iofi_engine_handle(struct iof_file *f); /* always the same one */

/* batch.c */
int iofi_engine_map_many(struct iof_handle *h, struct iof_map_many *many);
int64_t iofi_engine_unmap_many(struct iof_handle *h, struct iof_unmap_many *many);
int64_t iofi_engine_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
			      uint8_t *prots);
/* query.c */
int64_t iofi_engine_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n,
			      struct iof_endpoint_info *out);
int iofi_engine_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out);
int iofi_engine_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out);
int64_t iofi_engine_leaves(struct iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n, struct iof_leaf_info *out);
int iofi_engine_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out);
int iofi_engine_digest(struct iof_handle *h, uint64_t *out);
/* dirty.c */
int64_t iofi_engine_dirty(struct iof_handle *h, struct iof_dirty *dirty);
/* access.c */
int iofi_engine_access_open(struct iof_handle *h, const struct iof_access_config *cfg, struct iof_access **out);
/* softdev.c */
int iofi_engine_dma(struct iof_handle *h, struct iof_dma *dma);

#endif
