/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exporter's side of an engine dma-buf as an open file. Its number is the memory itself: it can be mapped, passed
 * on, and imported by MAP_FILE.
 */
#include <errno.h>

#include "dispatch/file.h"
#include "pages/dmabuf.h"
#include "util/event.h"

static void dmabuf_release(struct iof_file *f)
{
	iof_dmabuf_drop(&f->machine->memory, f->object);
}

static const struct iof_file_ops dmabuf_ops = { .kind = IOF_FILE_DMABUF, .release = dmabuf_release };

/* The number stays; what it stands for is exchanged for the memory. */
static int take_number(struct iof_file *f, struct iof_dmabuf *d)
{
	int fd = iof_dmabuf_open(d), rc;

	if (fd < 0)
		return fd;
	rc = iof_event_exchange(f->number, fd);
	iof_event_close(fd);
	f->object = d;
	return rc;
}

int iof_file_open_dmabuf(struct iof_machine *m, uint64_t size, struct iof_file **out)
{
	struct iof_dmabuf *d;
	int rc = iof_dmabuf_make(&m->memory, size, &d);

	if (rc)
		return rc;
	rc = iof_file_make(m, NULL, &dmabuf_ops, out);
	if (!rc) {
		rc = take_number(*out, d);
		if (rc)
			iof_file_abort(*out);
	}
	if (rc)
		iof_dmabuf_drop(&m->memory, d);
	else
		iof_file_install(*out);
	return rc;
}
