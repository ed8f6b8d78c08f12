/* SPDX-License-Identifier: Apache-2.0 */
/* A caller's driver data: the copy rules (behaviour.md 5.4). */
#include <errno.h>
#include <string.h>

#include "ioas/driver.h"
#include "util/guard.h"

int iof_user_data_get(const struct iof_user_data *d, uint32_t type, void *to, uint32_t size, uint32_t min)
{
	if (d->type != type || d->len < min || d->len > size)
		return -EINVAL;
	memset((char *)to + d->len, 0, size - d->len);
	return iof_copy_in(to, d->uptr, d->len);
}

int iof_user_data_put(const struct iof_user_data *d, const void *from, uint32_t size)
{
	return iof_copy_out(d->uptr, from, size < d->len ? size : d->len);
}

int iof_user_array_get(const struct iof_user_array *a, uint32_t i, void *to, uint32_t size)
{
	uint64_t at = a->uptr + (uint64_t)i * a->entry_len;
	int zero;

	if (at < a->uptr)
		return -EFAULT;
	if (a->entry_len <= size) {
		memset((char *)to + a->entry_len, 0, size - a->entry_len);
		return iof_copy_in(to, at, a->entry_len);
	}
	zero = iof_is_zero_in(at + size, a->entry_len - size);
	if (zero < 0)
		return zero;
	return zero ? iof_copy_in(to, at, size) : -E2BIG;
}
