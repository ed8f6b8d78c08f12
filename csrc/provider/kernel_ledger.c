/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of one IOAS: its records by IOVA. What a record is and which lock covers what is in kernel.h. */
#include <errno.h>

#include "provider/kernel.h"

static int indexes_create(struct iofi_kioas *io)
{
	int rc = iof_index_create(io->alloc, &io->maps);

	if (rc)
		return rc;
	rc = iof_index_create(io->alloc, &io->blocked);
	if (rc)
		iof_index_destroy(io->maps);
	return rc;
}

int iofi_kioas_create(struct iof_alloc *a, uint32_t id, struct iofi_kioas **out)
{
	struct iofi_kioas *io = (struct iofi_kioas *)iof_mem_zget(a, sizeof(*io), 64);
	int rc;

	if (!io)
		return -ENOMEM;
	io->id = id;
	io->alloc = a;
	io->granule = 4096;
	atomic_store_explicit(&io->refs, 1, memory_order_relaxed);
	iof_rwlock_init(&io->gate, false);
	iof_lock_init(&io->lock, false);
	rc = indexes_create(io);
	if (rc) {
		iof_mem_put(a, io, sizeof(*io));
		return rc;
	}
	iof_slab_init(&io->records, a, sizeof(struct iofi_kmap), 16384);
	*out = io;
	return 0;
}

void iofi_kioas_put(struct iofi_kioas *io)
{
	if (atomic_fetch_sub_explicit(&io->refs, 1, memory_order_acq_rel) != 1)
		return;
	iofi_kva_fini(io);
	iofi_kspace_destroy(io);
	iof_index_destroy(io->blocked);
	iof_index_destroy(io->maps);
	iof_slab_fini(&io->records);
	iof_mem_put(io->alloc, io->usable.list, iofi_kranges_bytes(io->usable.n));
	iof_mem_put(io->alloc, io->allowed.list, iofi_kranges_bytes(io->allowed.n));
	iof_mem_put(io->alloc, io, sizeof(*io));
}

struct iofi_kmap *iofi_kmap_new(struct iofi_kioas *io)
{
	struct iofi_kmap *m = (struct iofi_kmap *)iof_slab_get(&io->records);

	if (m)
		*m = (struct iofi_kmap){ .state = IOFI_KMAP_MAPPING, .place = IOFI_PLACE_NONE };
	return m;
}

int iofi_kmap_insert(struct iofi_kioas *io, struct iofi_kmap *m)
{
	return iof_index_insert(io->maps, m->range, (uintptr_t)m);
}

void iofi_kmap_remove(struct iofi_kioas *io, struct iofi_kmap *m)
{
	iofi_kva_hide(io, m);
	iof_index_remove(io->maps, m->range.start);
	iofi_kspace_give(io, m);
	iof_slab_put(&io->records, m);
}

struct iofi_kmap *iofi_kmap_first(struct iofi_kioas *io, struct iof_range r)
{
	struct iof_index_entry e;

	return iof_index_first(io->maps, r, &e) ? (struct iofi_kmap *)(uintptr_t)e.value : NULL;
}

void iofi_kmap_evict(struct iofi_kioas *io, struct iof_range r)
{
	struct iofi_kmap *m;

	while ((m = iofi_kmap_first(io, r))) {
		io->bytes -= iof_range_length(m->range);
		iofi_kmap_remove(io, m);
	}
}
