/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Magazines: recycle for several threads at once.
 *
 * Each thread keeps slots of its own, two magazines of them for every size class: what it gives is what it takes next, without a lock and without a line that
 * another thread writes to. An empty or a full magazine is exchanged at the depot, which has a bound; what is beyond goes back to recycle. That
 * happens under the caller's lock, once in a magazine's worth of calls. Slots that lie in magazines are free for whoever asks (find, first), but only
 * their thread can take them; when the space is full they all go back first, so -ENOSPC means what it says.
 *
 * A card for each window notes which slots are out, so a give is refused as by recycle: -ENOENT what was not taken, -EINVAL what is free.
 *
 * Threads: iof_magazine_take() and iof_magazine_give() may run in any number of threads, without the lock. All other functions are called with
 * the lock held, create and destroy while nobody else is there. There are IOF_STRIPES caches; further threads go through the lock, until one of those who
 * have a cache has ended: then its cache, and what is in it, goes to the next that needs one. The recycle is used through here only.
 */
#ifndef IOF_IOVA_MAGAZINE_H
#define IOF_IOVA_MAGAZINE_H

#include "iova/recycle.h"
#include "util/lock.h"

#define IOF_MAGAZINE_MOST 64u /* slots in one; fewer for classes of more than 32 KiB, about 2 MiB in all */
#define IOF_MAGAZINE_DEPOT 16u /* full magazines of a class at the depot */

struct iof_magazines;

/* Over r, from which nothing is taken; `lock` protects r and its space, and stays the caller's like these. 0, -ENOMEM. */
int iof_magazines_create(struct iof_alloc *a, struct iof_recycle *r, struct iof_lock *lock, struct iof_magazines **out);
void iof_magazines_destroy(struct iof_magazines *m); /* what is in magazines goes back to r; NULL is fine */

/* As iof_recycle_take() and iof_recycle_give(), from any thread, which does not hold the lock. */
int iof_magazine_take(struct iof_magazines *m, uint64_t length, uint64_t *iova);
int iof_magazine_give(struct iof_magazines *m, uint64_t iova, uint64_t length);

/* The same for one who holds it. */
int iof_magazines_take(struct iof_magazines *m, uint64_t length, uint64_t *iova);
int iof_magazines_give(struct iof_magazines *m, uint64_t iova, uint64_t length);

bool iof_magazines_find(const struct iof_magazines *m, uint64_t at, struct iof_range *out); /* as recycle's */
bool iof_magazines_first(const struct iof_magazines *m, struct iof_range in, struct iof_range *out);
uint64_t iof_magazines_held(const struct iof_magazines *m); /* slots in magazines; exact while no thread takes or gives */

void iof_magazines_drain(struct iof_magazines *m); /* all that is in magazines goes back to r */
void iof_magazines_trim(struct iof_magazines *m); /* that, and iof_recycle_trim() */
void iof_magazines_retire(struct iof_magazines *m); /* that, and iof_recycle_retire() */

/* For a child, right after fork(), before it uses them: its parent's threads are gone, whatever they were doing. */
void iof_magazines_forked(struct iof_magazines *m);

bool iof_magazines_is_valid(const struct iof_magazines *m); /* while no thread takes or gives */

#endif
