/* SPDX-License-Identifier: Apache-2.0 */
#include "ioas/cookie.h"

#include <string.h>

#define FIRST_ROOM 64
#define COOKIE_BYTES (sizeof(void *) + sizeof(uint32_t)) /* both arrays are one piece of memory */

void iofi_cookies_init(struct iof_cookies *t, struct iof_alloc *a)
{
	*t = (struct iof_cookies){ .alloc = a };
}

void iofi_cookies_fini(struct iof_cookies *t)
{
	iof_mem_put(t->alloc, t->at, t->room * COOKIE_BYTES);
	iofi_cookies_init(t, t->alloc);
}

static bool grow(struct iof_cookies *t)
{
	uint32_t room = t->room ? t->room * 2 : FIRST_ROOM;
	void **at = room > t->room ? iof_mem_get(t->alloc, room * COOKIE_BYTES, 16) : NULL;

	if (!at)
		return false;
	/* Only a table without free numbers grows, so the heap is empty. */
	if (t->next)
		memcpy(at, t->at, t->next * sizeof(*at));
	iof_mem_put(t->alloc, t->at, t->room * COOKIE_BYTES);
	t->at = at;
	t->free = (uint32_t *)(at + room);
	t->room = room;
	return true;
}

static void heap_push(struct iof_cookies *t, uint32_t cookie)
{
	uint32_t i = t->n_free++;

	for (; i && t->free[(i - 1) / 2] > cookie; i = (i - 1) / 2)
		t->free[i] = t->free[(i - 1) / 2];
	t->free[i] = cookie;
}

static uint32_t heap_pop(struct iof_cookies *t)
{
	uint32_t lowest = t->free[0], last = t->free[--t->n_free], i = 0, child;

	for (; (child = 2 * i + 1) < t->n_free; i = child) {
		if (child + 1 < t->n_free && t->free[child + 1] < t->free[child])
			child++;
		if (t->free[child] >= last)
			break;
		t->free[i] = t->free[child];
	}
	t->free[i] = last;
	return lowest;
}

uint32_t iofi_cookie_take(struct iof_cookies *t, void *p)
{
	uint32_t cookie;

	if (t->n_free) {
		cookie = heap_pop(t);
	} else {
		if (t->next == t->room && !grow(t))
			return 0;
		cookie = ++t->next;
	}
	t->at[cookie - 1] = p;
	return cookie;
}

void *iofi_cookie_find(const struct iof_cookies *t, uint32_t cookie)
{
	return cookie && cookie <= t->next ? t->at[cookie - 1] : NULL;
}

/*
 * The highest number goes without the heap, and with the last one out the table is as new: the two common orders of
 * answering stay cheap.
 */
void iofi_cookie_drop(struct iof_cookies *t, uint32_t cookie)
{
	t->at[cookie - 1] = NULL;
	if (cookie == t->next)
		t->next--;
	else
		heap_push(t, cookie);
	if (t->n_free == t->next)
		t->n_free = t->next = 0;
}

bool iofi_cookies_are_valid(const struct iof_cookies *t)
{
	uint32_t empty = 0;

	if (t->next > t->room || t->n_free > t->next)
		return false;
	for (uint32_t i = 0; i < t->next; i++)
		empty += !t->at[i];
	for (uint32_t i = 0; i < t->n_free; i++)
		if (!t->free[i] || t->free[i] > t->next || t->at[t->free[i] - 1] || t->free[(i - !!i) / 2] > t->free[i])
			return false;
	return empty == t->n_free;
}
