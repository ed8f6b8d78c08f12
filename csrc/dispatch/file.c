/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch/file.h"

#include <errno.h>

int iof_file_open_context(struct iof_machine *m, struct iof_file *f)
{
	int rc;

	*f = (struct iof_file){ .machine = m };
	rc = iof_context_create(m, &f->ctx);
	if (rc)
		return rc;
	rc = iof_machine_add_file(m, f, &f->number);
	if (rc) {
		iof_context_unref(f->ctx);
		return rc;
	}
	iof_machine_ref(m);
	return 0;
}

static void count_open(struct iof_file *f, int by)
{
	iof_lock_take(&f->machine->lock);
	f->mdev->opens += (uint32_t)by;
	iof_lock_drop(&f->machine->lock);
}

int iof_file_open_device(struct iof_machine *m, uint32_t index, struct iof_file *f)
{
	int rc;

	*f = (struct iof_file){ .machine = m, .mdev = iof_machine_mdev(m, index) };
	if (!f->mdev)
		return -ENODEV;
	iof_lock_init(&f->lock, m->memory.alloc->shared);
	rc = iof_machine_add_file(m, f, &f->number);
	if (rc)
		return rc;
	count_open(f, 1);
	iof_machine_ref(m);
	return 0;
}

/* A device goes detached, unbound, closed; a context lives on while devices hold it (R1.1.5). */
void iof_file_close(struct iof_file *f)
{
	iof_machine_drop_file(f->machine, f->number);
	if (f->dev)
		iof_device_unbind(f->dev);
	if (f->mdev)
		count_open(f, -1);
	if (f->ctx)
		iof_context_unref(f->ctx);
	iof_machine_unref(f->machine);
}

static int context_at(struct iof_machine *m, int number, struct iof_context **out)
{
	struct iof_file *f = (uint32_t)number < m->files.n ? m->files.at[number] : NULL;

	if (!f)
		return -EBADF;
	if (!f->ctx)
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
