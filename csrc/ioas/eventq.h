/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two event queues have in common: the fault queue (fault.h) and the vIOMMU's event queue (veventq.h).
 *
 * A queue is an object with a file. Producers append whole entries, a reader takes whole entries from the head, and
 * everything is under the queue's one lock, the copy to the reader's memory too: that is what keeps the order, and
 * what lets an entry whose copy faults stay where it is. Entries come from slabs, so a record costs a fixed few dozen
 * bytes and the memory of a burst is used again by the next.
 *
 * The file's descriptor is the *bell*: readable exactly while the queue holds something to read. It is kept in step
 * under the queue's lock, and touched only when the answer changes, so a busy queue makes no system calls. The bell
 * outlives neither the file nor the queue: the file takes it away before it closes the number.
 */
#ifndef IOF_IOAS_EVENTQ_H
#define IOF_IOAS_EVENTQ_H

#include <stdbool.h>

#include "util/bits.h"
#include "util/event.h"

struct iof_bell {
	int fd; /* -1: nobody has the file open */
	bool rung;
	const struct iof_event_host *host; /* NULL: fd is rung directly */
	void *at;
};

static inline void iofi_bell_ring(const struct iof_bell *b, bool readable)
{
	if (b->host)
		b->host->ring(b->at, readable);
	else if (readable)
		iof_event_set(b->fd);
	else
		iof_event_clear(b->fd);
}

/* Queue lock, after every change. */
static inline void iofi_bell_sync(struct iof_bell *b, bool readable)
{
	if (iof_likely(b->rung == readable))
		return;
	b->rung = readable;
	if (b->fd >= 0)
		iofi_bell_ring(b, readable);
}

/* Moves the bell to another number: the same open file (a dup), or -1. Queue lock. */
static inline void iofi_bell_move(struct iof_bell *b, int fd)
{
	b->fd = fd;
	if (b->rung && fd >= 0)
		iofi_bell_ring(b, true);
}

#endif
