/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions on handles: each asks the handle's provider, or says what a file without that verb says. */
#include <errno.h>
#include <sys/mman.h>

#include "iommufd_fast_access.h"
#include "provider/provider.h"

#define ASK(h, verb, otherwise, ...) ((h)->provider->verb ? (h)->provider->verb(__VA_ARGS__) : (otherwise))

int iof_ioctl(struct iof_handle *h, unsigned long cmd, void *arg)
{
	return h->provider->ioctl(h, cmd, arg, false);
}

int iof_ioctl_nowait(struct iof_handle *h, unsigned long cmd, void *arg)
{
	return h->provider->ioctl(h, cmd, arg, true);
}

void iof_close(struct iof_handle *h)
{
	if (h)
		h->provider->close(h);
}

int iof_fileno(const struct iof_handle *h)
{
	return h->provider->fileno(h);
}

int64_t iof_read(struct iof_handle *h, void *to, size_t n)
{
	return ASK(h, read, -EINVAL, h, to, n);
}

int64_t iof_write(struct iof_handle *h, const void *from, size_t n)
{
	return ASK(h, write, -EINVAL, h, from, n);
}

int64_t iof_pread(struct iof_handle *h, void *to, size_t n, uint64_t offset)
{
	return ASK(h, pread, -EINVAL, h, to, n, offset);
}

int64_t iof_pwrite(struct iof_handle *h, const void *from, size_t n, uint64_t offset)
{
	return ASK(h, pwrite, -EINVAL, h, from, n, offset);
}

/* A file with nothing to map: the checks that come before looking for it (behaviour.md R8.7.2). */
static int nothing_to_map(int prot, int flags)
{
	if (!(flags & MAP_SHARED))
		return -EINVAL;
	return prot & PROT_EXEC ? -EPERM : -ENXIO;
}

int iof_mmap(struct iof_handle *h, size_t length, int prot, int flags, uint64_t offset, void **out)
{
	return ASK(h, mmap, nothing_to_map(prot, flags), h, length, prot, flags, offset, out);
}

unsigned iof_poll(struct iof_handle *h)
{
	return ASK(h, poll, IOFI_POLL_ALWAYS, h);
}

int iof_poll_fd(struct iof_handle *h)
{
	return ASK(h, poll_fd, -EOPNOTSUPP, h);
}

int iof_map_many(struct iof_handle *h, struct iof_map_many *many)
{
	return ASK(h, map_many, -EOPNOTSUPP, h, many);
}

int64_t iof_unmap_many(struct iof_handle *h, struct iof_unmap_many *many)
{
	return ASK(h, unmap_many, -EOPNOTSUPP, h, many);
}

int64_t iof_translate(struct iof_handle *h, uint32_t pt_id, size_t n, const uint64_t *iovas, uint64_t *addresses,
		      uint8_t *prots)
{
	return ASK(h, translate, -EOPNOTSUPP, h, pt_id, n, iovas, addresses, prots);
}

int64_t iof_endpoints(struct iof_handle *h, uint32_t dev_id, uint32_t ioas_id, size_t n, struct iof_endpoint_info *out)
{
	return ASK(h, endpoints, -EOPNOTSUPP, h, dev_id, ioas_id, n, out);
}

int iof_ioas_stats(struct iof_handle *h, uint32_t ioas_id, struct iof_ioas_stats *out)
{
	return ASK(h, ioas_stats, -EOPNOTSUPP, h, ioas_id, out);
}

int iof_hwpt_stats(struct iof_handle *h, uint32_t hwpt_id, struct iof_hwpt_stats *out)
{
	return ASK(h, hwpt_stats, -EOPNOTSUPP, h, hwpt_id, out);
}

int iof_ioas_mapping(struct iof_handle *h, uint32_t ioas_id, uint64_t start, uint64_t last, struct iof_mapping_info *out)
{
	return ASK(h, ioas_mapping, -EOPNOTSUPP, h, ioas_id, start, last, out);
}

int64_t iof_leaves(struct iof_handle *h, uint32_t pt_id, uint64_t start, uint64_t last, size_t n, struct iof_leaf_info *out)
{
	return ASK(h, leaves, -EOPNOTSUPP, h, pt_id, start, last, n, out);
}

int64_t iof_dirty(struct iof_handle *h, struct iof_dirty *dirty)
{
	return ASK(h, dirty, -EOPNOTSUPP, h, dirty);
}

int iof_digest(struct iof_handle *h, uint64_t *out)
{
	return ASK(h, digest, -EOPNOTSUPP, h, out);
}

int iof_access_open(struct iof_handle *h, const struct iof_access_config *cfg, struct iof_access **out)
{
	return ASK(h, access_open, -EOPNOTSUPP, h, cfg, out);
}

int iof_dma(struct iof_handle *h, struct iof_dma *dma)
{
	return ASK(h, dma, -EOPNOTSUPP, h, dma);
}
