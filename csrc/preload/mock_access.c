/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test accesses: an emulated device behind a descriptor, that pins and copies on command (R9.3.7–9).
 *
 * A pin that succeeded is an *item* with a number, counted from 0 and never used again. When memory is unmapped, every item that meets it is given back and
 * forgotten at once. `lock` covers the list, and is held from before a pin until its item is in the list: so an unmap that tells us waits for it.
 */
#include <errno.h>
#include <string.h>

#include "preload/mock_priv.h"

struct mock_item {
	struct mock_item *next;
	uint32_t id;
	uint64_t iova, length;
};

struct mock_access {
	struct mock *mock;
	struct iof_access *access;
	bool needs_pin;
	struct iof_lock lock;
	struct mock_item *items;
	uint32_t next_id;
};

/* ---- items ---- */

static void drop_item(struct mock_access *a, struct mock_item **at)
{
	struct mock_item *item = *at;

	*at = item->next;
	(void)iof_access_unpin(a->access, item->iova, item->length);
	iof_mem_put(a->mock->alloc, item, sizeof(*item));
}

static void unmapped(void *data, uint64_t iova, uint64_t length)
{
	struct mock_access *a = data;
	struct mock_item **at = &a->items;
	uint64_t last = iova + length - 1;

	iof_lock_take(&a->lock);
	while (*at)
		if ((*at)->iova <= last && (*at)->iova + (*at)->length - 1 >= iova)
			drop_item(a, at);
		else
			at = &(*at)->next;
	iof_lock_drop(&a->lock);
}

/* ---- life ---- */

static void release(void *object)
{
	struct mock_access *a = object;

	iof_lock_take(&a->lock);
	while (a->items)
		drop_item(a, &a->items);
	iof_lock_drop(&a->lock);
	iof_access_destroy(a->access);
	iof_mem_put(a->mock->alloc, a, sizeof(*a));
}

static int open_access(struct mock_call *call, bool needs_pin, uint32_t ioas, struct mock_access **out)
{
	struct mock *m = call->mock;
	struct mock_access *a = iof_mem_zget(m->alloc, sizeof(*a), 16);
	struct iof_access_config cfg = { .size = sizeof(cfg), .needs_pin = needs_pin, .unmap = unmapped, .data = a };
	int rc;

	if (!a)
		return -ENOMEM;
	a->mock = m;
	a->needs_pin = needs_pin;
	iof_lock_init(&a->lock, m->alloc->shared);
	rc = iof_access_open(call->ctx, &cfg, &a->access);
	if (rc) {
		iof_mem_put(m->alloc, a, sizeof(*a));
		return rc;
	}
	rc = iof_access_attach(a->access, ioas);
	if (rc)
		release(a);
	else
		*out = a;
	return rc;
}

static void release_nothing(void *object)
{
	(void)object;
}

/* A kernel gets the number first, so that there is none decides before anything about the IOAS does. */
static bool has_number(const struct mock_files *files)
{
	int fd = files->open(NULL, release_nothing);

	if (fd >= 0)
		files->forget(fd);
	return fd >= 0;
}

int mock_access_create(struct mock_call *call, struct mock_cmd *cmd)
{
	const struct mock_files *files = call->mock->files;
	struct mock_access *a;
	int rc, fd;

	if (cmd->access.flags & ~(uint32_t)MOCK_ACCESS_NEEDS_PIN)
		return -EOPNOTSUPP;
	rc = open_access(call, cmd->access.flags & MOCK_ACCESS_NEEDS_PIN, cmd->id, &a);
	if (rc)
		return has_number(files) ? rc : -ENOMEM;
	fd = iof_alloc_may_fail(call->mock->alloc) ? -ENOMEM : files->open(a, release);
	if (fd < 0) {
		release(a);
		return -ENOMEM;
	}
	cmd->access.out_fd = (uint32_t)fd;
	rc = mock_respond(call, cmd);
	if (rc) {
		files->forget(fd);
		release(a);
	}
	return rc;
}

/* A running command keeps the access open. NULL: the number is something else. */
static struct mock_access *take_access(struct mock_call *call, const struct mock_cmd *cmd, void **file)
{
	void *access;

	*file = call->mock->files->get((int)cmd->id, release, &access);
	return *file ? access : NULL;
}

static void drop_access(struct mock_call *call, void *file)
{
	call->mock->files->put(file);
}

/* ---- pins ---- */

/* One after the other: a page that is another is found in front of one that is none. */
static int check_one_by_one(struct mock *m, const uint64_t *addresses, uint64_t n, uint64_t uptr)
{
	int rc = 0;

	for (uint64_t i = 0, there; i < n && !rc; i++) {
		rc = iof_machine_identify_many(m->machine, uptr + (i << IOF_PAGE_SHIFT), 1, &there);
		if (!rc && there != addresses[i])
			rc = -EBADE;
	}
	return rc;
}

/* Are these the pages behind the addresses from uptr on? (4096 at most: MOCK_LARGEST.) */
static int check_pages(struct mock *m, const uint64_t *addresses, uint64_t n, uint64_t uptr)
{
	uint64_t *there = iof_mem_get(m->alloc, n * sizeof(*there), 16);
	int rc = there ? iof_machine_identify_many(m->machine, uptr, n, there) : -ENOMEM;

	if (!rc && memcmp(there, addresses, n * sizeof(*there)))
		rc = -EBADE;
	if (rc == -EFAULT)
		rc = check_one_by_one(m, addresses, n, uptr);
	iof_mem_put(m->alloc, there, n * sizeof(*there));
	return rc;
}

static int pin_item(struct mock_access *a, const struct mock_cmd *cmd, uint64_t *addresses, uint64_t n, struct mock_item *item)
{
	uint64_t uptr = cmd->pin.uptr;
	int rc = iof_access_pin(a->access, item->iova, item->length, cmd->pin.flags & MOCK_PAGES_WRITE, addresses);

	if (rc)
		return rc;
	if (uptr)
		rc = check_pages(a->mock, addresses, n, uptr - (item->iova & IOF_PAGE_MASK));
	if (rc)
		(void)iof_access_unpin(a->access, item->iova, item->length);
	return rc;
}

static int note_item(struct mock_call *call, struct mock_cmd *cmd, struct mock_access *a, struct mock_item *item)
{
	int rc;

	item->id = a->next_id++;
	item->next = a->items;
	a->items = item;
	cmd->pin.out_item = item->id;
	rc = mock_respond(call, cmd);
	if (rc)
		drop_item(a, &a->items);
	return rc;
}

static int pin(struct mock_call *call, struct mock_cmd *cmd, struct mock_access *a)
{
	struct iof_alloc *alloc = call->mock->alloc;
	uint64_t iova = cmd->pin.iova, length = cmd->pin.length, n, *addresses;
	struct mock_item *item;
	int rc;

	if (!a->needs_pin)
		return -EOPNOTSUPP;
	n = ((iova & IOF_PAGE_MASK) + length + IOF_PAGE_MASK) >> IOF_PAGE_SHIFT;
	addresses = iof_mem_get(alloc, n * sizeof(*addresses), 16);
	item = iof_mem_zget(alloc, sizeof(*item), 16);
	rc = addresses && item ? 0 : -ENOMEM;
	if (!rc) {
		item->iova = iova;
		item->length = length;
		iof_lock_take(&a->lock);
		rc = pin_item(a, cmd, addresses, n, item);
		if (rc)
			iof_mem_put(alloc, item, sizeof(*item));
		else
			rc = note_item(call, cmd, a, item);
		iof_lock_drop(&a->lock);
	} else {
		iof_mem_put(alloc, item, sizeof(*item));
	}
	iof_mem_put(alloc, addresses, n * sizeof(*addresses));
	return rc;
}

int mock_access_pin(struct mock_call *call, struct mock_cmd *cmd)
{
	struct mock_access *a;
	void *file;
	int rc;

	if (cmd->pin.length > MOCK_LARGEST)
		return -ENOMEM;
	if (cmd->pin.flags & ~(uint32_t)MOCK_PAGES_WRITE)
		return -EOPNOTSUPP;
	a = take_access(call, cmd, &file);
	if (!a)
		return -EBADFD;
	rc = pin(call, cmd, a);
	drop_access(call, file);
	return rc;
}

static int unpin(struct mock_access *a, uint32_t id)
{
	struct mock_item **at = &a->items;
	int rc = 0;

	iof_lock_take(&a->lock);
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	if (*at)
		drop_item(a, at);
	else
		rc = -ENOENT;
	iof_lock_drop(&a->lock);
	return rc;
}

int mock_access_unpin(struct mock_call *call, struct mock_cmd *cmd)
{
	void *file;
	struct mock_access *a = take_access(call, cmd, &file);
	int rc;

	if (!a)
		return -EBADFD;
	rc = unpin(a, cmd->unpin.item);
	drop_access(call, file);
	return rc;
}

/* ---- data ---- */

static int copy(struct mock_access *a, const struct mock_cmd *cmd, void *buffer)
{
	uint64_t length = cmd->rw.length;
	bool write = cmd->rw.flags & MOCK_RW_WRITE;
	uint32_t flags = (write ? IOF_ACCESS_WRITE : IOF_ACCESS_READ) | (cmd->rw.flags & MOCK_RW_SLOW ? IOF_ACCESS_SLOW : 0);
	int rc = write ? iof_copy_in(buffer, cmd->rw.uptr, length) : 0;

	if (!rc)
		rc = iof_access_rw(a->access, cmd->rw.iova, buffer, length, flags);
	if (!rc && !write)
		rc = iof_copy_out(cmd->rw.uptr, buffer, length);
	return rc;
}

int mock_access_rw(struct mock_call *call, struct mock_cmd *cmd)
{
	struct iof_alloc *alloc = call->mock->alloc;
	uint64_t length = cmd->rw.length;
	struct mock_access *a;
	void *buffer, *file;
	int rc;

	if (length > MOCK_LARGEST)
		return -ENOMEM;
	if (cmd->rw.flags & ~(uint32_t)(MOCK_RW_WRITE | MOCK_RW_SLOW))
		return -EOPNOTSUPP;
	a = take_access(call, cmd, &file);
	if (!a)
		return -EBADFD;
	buffer = iof_mem_zget(alloc, length ? length : 1, 16);
	rc = buffer ? copy(a, cmd, buffer) : -ENOMEM;
	iof_mem_put(alloc, buffer, length ? length : 1);
	drop_access(call, file);
	return rc;
}

int mock_access_move(struct mock_call *call, struct mock_cmd *cmd)
{
	void *file;
	struct mock_access *a = take_access(call, cmd, &file);
	int rc;

	if (!a)
		return -EBADFD;
	rc = iof_access_replace(a->access, cmd->move.ioas);
	drop_access(call, file);
	return rc;
}
