/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cookies: small numbers handed out for pointers, always the lowest free one from 1.
 *
 * Numbers up to `next` have been used; those of them that came back are in a heap with the lowest on top. So taking
 * and giving back cost a handful of steps, whatever the order, and giving back never needs memory: the heap has room
 * for every number there is.
 *
 * Not locked: the owner's lock covers it.
 */
#ifndef IOF_IOAS_COOKIE_H
#define IOF_IOAS_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/alloc.h"

struct iof_cookies {
	struct iof_alloc *alloc;
	void **at; /* of cookie c: at[c - 1]; NULL: free */
	uint32_t *free; /* min-heap */
	uint32_t n_free, next, room;
};

void iofi_cookies_init(struct iof_cookies *t, struct iof_alloc *a);
void iofi_cookies_fini(struct iof_cookies *t);

uint32_t iofi_cookie_take(struct iof_cookies *t, void *p); /* 0: no memory */
void *iofi_cookie_find(const struct iof_cookies *t, uint32_t cookie); /* NULL: not handed out */
void iofi_cookie_drop(struct iof_cookies *t, uint32_t cookie);
bool iofi_cookies_are_valid(const struct iof_cookies *t);

static inline uint32_t iofi_cookies_live(const struct iof_cookies *t)
{
	return t->next - t->n_free;
}

#endif
