/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch/file.h"

#include <errno.h>

#include "util/event.h"

/* ---- numbers ---- */

static struct iof_file **bucket(struct iof_machine *m, int number)
{
	return &m->files[(unsigned)number % IOF_FILE_BUCKETS];
}

static bool is_listed(const struct iof_file *f)
{
	return !f->machine->host && f->number != IOF_FILE_NO_NUMBER;
}

static void link_in(struct iof_file *f)
{
	struct iof_file **at = bucket(f->machine, f->number);

	if (!is_listed(f))
		return;
	f->next = *at;
	*at = f;
}

static void link_out(struct iof_file *f)
{
	struct iof_file **at = bucket(f->machine, f->number);

	if (!is_listed(f))
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
}

static struct iof_file *at_number(struct iof_machine *m, int number)
{
	struct iof_file *f;

	if (m->host)
		return m->host->find(number);
	f = *bucket(m, number);
	while (f && f->number != number)
		f = f->next;
	return f;
}

static int open_number(struct iof_machine *m, void **at)
{
	if (iof_alloc_may_fail(m->memory.alloc))
		return -ENOMEM;
	return m->host ? m->host->open(at) : iof_event_open();
}

/* A number that the program knows is the program's to close, where the machine's host says so. */
static void close_number(struct iof_file *f)
{
	if (f->number == IOF_FILE_NO_NUMBER)
		return;
	if (!f->machine->host)
		iof_event_close(f->number);
	else if (!f->installed)
		f->machine->host->close(f->at);
}

struct iof_file *iof_file_find(struct iof_machine *m, int number)
{
	struct iof_file *f;

	iof_lock_take(&m->lock);
	f = at_number(m, number);
	iof_lock_drop(&m->lock);
	return f;
}

void iof_file_renumber(struct iof_file *f, int number)
{
	iof_lock_take(&f->machine->lock);
	link_out(f);
	f->number = number;
	link_in(f);
	iof_lock_drop(&f->machine->lock);
	if (f->ops->renumber)
		f->ops->renumber(f, number);
}

/* ---- life ---- */

static struct iof_file *make_unnamed(struct iof_machine *m, struct iof_context *ctx, const struct iof_file_ops *ops)
{
	struct iof_alloc *a = m->memory.alloc;
	struct iof_file *f = iof_mem_zget(a, sizeof(*f), IOF_CACHELINE);

	if (!f)
		return NULL;
	iof_machine_ref(m);
	if (ctx)
		iof_context_ref(ctx);
	f->machine = m;
	f->ctx = ctx;
	f->ops = ops;
	f->number = IOF_FILE_NO_NUMBER;
	iof_lock_init(&f->lock, a->shared);
	return f;
}

int iof_file_make(struct iof_machine *m, struct iof_context *ctx, const struct iof_file_ops *ops, struct iof_file **out)
{
	struct iof_file *f = make_unnamed(m, ctx, ops);
	int number;

	if (!f)
		return -ENOMEM;
	number = open_number(m, &f->at);
	if (number < 0) {
		iof_file_abort(f);
		return number;
	}
	f->number = number;
	*out = f;
	return 0;
}

void iof_file_install(struct iof_file *f)
{
	iof_lock_take(&f->machine->lock);
	link_in(f);
	f->installed = true;
	iof_lock_drop(&f->machine->lock);
	if (f->machine->host && f->number != IOF_FILE_NO_NUMBER)
		f->machine->host->install(f->at, f);
}

/*
 * The context may be the last of its machine's users but us, and the file's memory is the machine's: so the machine
 * goes last.
 */
void iof_file_abort(struct iof_file *f)
{
	struct iof_machine *m = f->machine;

	close_number(f);
	if (f->ctx)
		iof_context_unref(f->ctx);
	iof_mem_put(m->memory.alloc, f, sizeof(*f));
	iof_machine_unref(m);
}

void iof_file_close(struct iof_file *f)
{
	iof_lock_take(&f->machine->lock);
	link_out(f);
	iof_lock_drop(&f->machine->lock);
	if (f->ops->renumber)
		f->ops->renumber(f, -1);
	if (f->ops->release)
		f->ops->release(f);
	iof_file_abort(f);
}

/* ---- contexts and devices ---- */

/* A context lives on while devices and other files hold it (R1.1.5). */
static const struct iof_file_ops context_ops = { .kind = IOF_FILE_CONTEXT };

int iof_file_open_context(struct iof_machine *m, struct iof_file **out)
{
	struct iof_context *ctx;
	int rc = iof_context_create(m, &ctx);

	if (rc)
		return rc;
	rc = iof_file_make(m, ctx, &context_ops, out);
	iof_context_unref(ctx);
	if (!rc)
		iof_file_install(*out);
	return rc;
}

static void count_open(struct iof_file *f, int by)
{
	iof_lock_take(&f->machine->lock);
	f->mdev->opens += (uint32_t)by;
	iof_lock_drop(&f->machine->lock);
}

/* A device goes detached, unbound, closed. */
static void release_device(struct iof_file *f)
{
	if (f->dev)
		iof_device_unbind(f->dev);
	count_open(f, -1);
}

static const struct iof_file_ops device_ops = { .kind = IOF_FILE_DEVICE, .release = release_device };

static int open_device(struct iof_machine *m, uint32_t index, bool named, struct iof_file **out)
{
	struct iof_mdev *mdev = iof_machine_mdev(m, index);
	int rc = 0;

	if (!mdev)
		return -ENODEV;
	if (named)
		rc = iof_file_make(m, NULL, &device_ops, out);
	else if (!(*out = make_unnamed(m, NULL, &device_ops)))
		rc = -ENOMEM;
	if (rc)
		return rc;
	(*out)->mdev = mdev;
	count_open(*out, 1);
	iof_file_install(*out);
	return 0;
}

int iof_file_open_device(struct iof_machine *m, uint32_t index, struct iof_file **out)
{
	return open_device(m, index, true, out);
}

int iof_file_open_unnamed_device(struct iof_machine *m, uint32_t index, struct iof_file **out)
{
	return open_device(m, index, false, out);
}

static int context_at(struct iof_machine *m, int number, struct iof_context **out)
{
	struct iof_file *f = at_number(m, number);

	if (!f)
		return -EBADF;
	if (f->ops->kind != IOF_FILE_CONTEXT)
		return -EBADFD;
	iof_context_ref(f->ctx);
	*out = f->ctx;
	return 0;
}

int iof_file_context(struct iof_machine *m, int number, struct iof_context **out)
{
	int rc;

	iof_lock_take(&m->lock);
	rc = context_at(m, number, out);
	iof_lock_drop(&m->lock);
	return rc;
}
