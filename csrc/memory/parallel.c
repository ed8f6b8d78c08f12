/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapping in pieces, over threads.
 *
 * Pieces are handed out by a counter. The first error, or a cancellation, stops the handing out; then every thread ends with
 * the piece it has, and what was mapped is unmapped piece by piece: where a fixed map met somebody else's mapping,
 * the range as a whole is not ours. Threads that cannot be made are done without.
 */
#define _GNU_SOURCE
#include "iommufd_fast_parallel.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "memory/place.h"
#include "util/alloc.h"
#include "util/range.h"

#define MIB (UINT64_C(1) << 20)
#define PIECE_MIN (2 * MIB)
#define PIECE_MAX (1024 * MIB)
#define PIECES_A_THREAD 8u
#define THREADS_MAX 1024u
#define TRIES 8

struct job {
	struct iof_handle *ctx;
	struct iof_map_parallel *map;
	struct iof_range bytes; /* addresses */
	uint64_t iova;
	uint32_t pieces;
	_Atomic uint32_t next;
	_Atomic uint64_t done; /* bytes */
	_Atomic int error; /* the first; stops everybody */
	uint8_t *mapped; /* by piece; each written by whoever has it */
};

/* Piece i: cut at multiples of the piece size, so that only the first and the last are shorter. */
static struct iof_range piece_of(const struct job *j, uint64_t i)
{
	uint64_t size = j->map->piece, first = j->bytes.start & ~(size - 1);
	struct iof_range r = { first + i * size, first + i * size + (size - 1) };

	return iof_range_clip(r, j->bytes);
}

static int map_piece(struct job *j, uint32_t i)
{
	struct iof_range r = piece_of(j, i);
	uint64_t length = iof_range_length(r), iova = j->iova + (r.start - j->bytes.start);
	struct iof_map_many one = { .ioas_id = j->map->ioas_id, .flags = j->map->flags | IOF_MAP_FIXED_IOVA,
				    .policy = j->map->policy, .n = 1, .addresses = &r.start, .lengths = &length, .iovas = &iova };
	int rc = iof_map_many(j->ctx, &one);

	if (rc)
		return rc;
	j->mapped[i] = 1;
	atomic_fetch_add_explicit(&j->done, length, memory_order_relaxed);
	return 0;
}

static void stop(struct job *j, int rc)
{
	int none = 0;

	atomic_compare_exchange_strong(&j->error, &none, rc);
}

static int report(struct job *j)
{
	uint64_t done = atomic_load_explicit(&j->done, memory_order_relaxed);

	return j->map->progress && j->map->progress(j->map->arg, done, iof_range_length(j->bytes)) ? -ECANCELED : 0;
}

/* Pieces until there are no more, or somebody has failed. */
static void work(struct job *j, bool reports)
{
	uint32_t i;
	int rc;

	while (!atomic_load_explicit(&j->error, memory_order_relaxed)) {
		i = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
		if (i >= j->pieces)
			return;
		rc = map_piece(j, i);
		if (!rc && reports)
			rc = report(j);
		if (rc)
			stop(j, rc);
	}
}

static void *helper(void *job)
{
	work(job, false);
	return NULL;
}

static void unmap_pieces(struct job *j)
{
	for (uint32_t i = 0; i < j->pieces; i++) {
		struct iof_range r = piece_of(j, i);
		struct iof_cmd_ioas_unmap c = { .size = sizeof(c), .ioas_id = j->map->ioas_id,
						.iova = j->iova + (r.start - j->bytes.start), .length = iof_range_length(r) };

		if (j->mapped[i])
			(void)iof_ioctl(j->ctx, IOF_CMD_IOAS_UNMAP, &c);
		j->mapped[i] = 0;
	}
}

static int run(struct job *j, pthread_t *threads, uint32_t n)
{
	uint32_t made = 0;
	int rc;

	atomic_store(&j->next, 0);
	atomic_store(&j->done, 0);
	atomic_store(&j->error, 0);
	while (made < n && !pthread_create(&threads[made], NULL, helper, j))
		made++;
	work(j, true);
	for (uint32_t i = 0; i < made; i++)
		pthread_join(threads[i], NULL);
	rc = atomic_load(&j->error);
	if (!rc && made)
		rc = report(j);
	if (rc)
		unmap_pieces(j);
	return rc;
}

static int place_and_run(struct job *j, pthread_t *threads, uint32_t n)
{
	int rc;

	j->iova = j->map->iova;
	if (j->map->flags & IOF_MAP_FIXED_IOVA)
		return run(j, threads, n);
	for (int i = 0; i < TRIES; i++) {
		rc = iofi_find_place(j->ctx, j->map->ioas_id, j->bytes.start, iof_range_length(j->bytes), &j->iova);
		if (!rc)
			rc = run(j, threads, n);
		if (rc != -EEXIST)
			break;
	}
	return rc;
}

/* ---- what is asked for ---- */

static uint32_t processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (uint32_t)CPU_COUNT(&set);
}

static uint64_t choose_piece(uint64_t length, uint32_t threads)
{
	uint64_t want = length / threads / PIECES_A_THREAD, piece = PIECE_MIN;

	while (piece < want && piece < PIECE_MAX)
		piece *= 2;
	return piece;
}

static int check(struct iof_map_parallel *map, struct job *j)
{
	uint64_t n;

	if (map->size != sizeof(*map) || map->threads > THREADS_MAX || map->flags & ~7u || map->piece & (map->piece - 1) ||
	    (map->piece && map->piece < PIECE_MIN))
		return -EINVAL;
	if (iof_range_make(map->address, map->length, &j->bytes))
		return map->length ? -EOVERFLOW : -EINVAL;
	if (map->flags & IOF_MAP_FIXED_IOVA && map->length - 1 > UINT64_MAX - map->iova)
		return -EOVERFLOW;
	if (!map->threads)
		map->threads = processors();
	if (!map->piece)
		map->piece = choose_piece(map->length, map->threads);
	n = (j->bytes.last & ~(map->piece - 1)) - (j->bytes.start & ~(map->piece - 1));
	n = n / map->piece + 1;
	if (n > UINT32_MAX)
		return -EINVAL;
	j->pieces = map->pieces = (uint32_t)n;
	return 0;
}

int iof_map_parallel(struct iof_handle *ctx, struct iof_map_parallel *map)
{
	struct job j = { .ctx = ctx, .map = map };
	struct iof_alloc heap;
	pthread_t *threads;
	int rc = check(map, &j);
	size_t room;

	if (rc)
		return rc;
	iof_alloc_init_heap(&heap);
	room = map->threads * sizeof(*threads);
	threads = iof_mem_get(&heap, room, 16);
	j.mapped = threads ? iof_mem_zget(&heap, j.pieces, 16) : NULL;
	rc = j.mapped ? place_and_run(&j, threads, map->threads - 1 < j.pieces - 1 ? map->threads - 1 : j.pieces - 1) : -ENOMEM;
	if (!rc)
		map->iova = j.iova;
	iof_mem_put(&heap, j.mapped, j.pieces);
	iof_mem_put(&heap, threads, room);
	return rc;
}
