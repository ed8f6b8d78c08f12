/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seam: what a provider is. A handle is a file, and these are the things a file can do, plus the few verbs it has no words for.
 *
 * A verb that is NULL is one that the provider's file does not have; handle.c answers for it with the errno that the
 * public header names. Everything above this line is written once, for every provider.
 */
#ifndef IOF_PROVIDER_H
#define IOF_PROVIDER_H

#include <poll.h>

#include "iommufd_fast.h"

struct iof_access;
struct iof_access_config;

struct iof_provider {
	const char *name;
	/* the file */
	int (*ioctl)(struct iof_handle *h, unsigned long cmd, void *arg, bool nowait);
	int64_t (*pread)(struct iof_handle *h, void *to, size_t n, uint64_t offset);
	int64_t (*pwrite)(struct iof_handle *h, const void *from, size_t n, uint64_t offset);
	int64_t (*read)(struct iof_handle *h, void *to, size_t n);
	int64_t (*write)(struct iof_handle *h, const void *from, size_t n);
	int (*mmap)(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out);
	unsigned (*poll)(struct iof_handle *h);
	int (*poll_fd)(struct iof_handle *h);
	int (*fileno)(const struct iof_handle *h);
	void (*close)(struct iof_handle *h);
	/* the verbs */
	int (*map_many)(struct iof_handle *h, struct iof_map_many *many);
	int64_t (*unmap_many)(struct iof_handle *h, struct iof_unmap_many *many);
	int64_t (*translate)(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
			     uint8_t *prots);
	int64_t (*endpoints)(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n,
			     struct iof_endpoint_info *out);
	int (*ioas_stats)(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out);
	int (*hwpt_stats)(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out);
	int (*ioas_mapping)(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last,
			    struct iof_mapping_info *out);
	int64_t (*leaves)(struct iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n,
			  struct iof_leaf_info *out);
	int64_t (*dirty)(struct iof_handle *h, struct iof_dirty *dirty);
	int (*digest)(struct iof_handle *h, uint64_t *out);
	int (*access_open)(struct iof_handle *h, const struct iof_access_config *cfg, struct iof_access **out);
	int (*dma)(struct iof_handle *h, struct iof_dma *dma);
};

/* What poll(2) says of a file that has no such operation. */
#define IOFI_POLL_ALWAYS (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM)

/* Embedded first in every provider's handle. */
struct iof_handle {
	const struct iof_provider *provider;
};

#endif
