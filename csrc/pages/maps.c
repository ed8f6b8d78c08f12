/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading /proc/PID/maps: a line is "start-last+1 rwxp offset major:minor inode name". The name can be long and is of
 * no interest, so only the head of each line is collected, whatever the reads cut.
 */
#define _GNU_SOURCE
#include "pages/maps.h"

#include <stdio.h>
#include <string.h>

#include "pages/os.h"

#define HEAD_MAX 128 /* the longest head has 16 + 1 + 16 + 1 + 4 + 1 + 16 + 1 + 9 + 1 + 20 characters */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* A number and the character behind it; false, and nothing else is looked at, when it is not there. */
static bool number(const char **s, unsigned base, char end, uint64_t *out)
{
	const char *p = *s;
	uint64_t v = 0;

	while (digit(*p) < (int)base)
		v = v * base + (unsigned)digit(*p++);
	if (p == *s || *p != end)
		return false;
	*s = p + 1;
	*out = v;
	return true;
}

/* `head` ends in a blank and a 0 byte. */
static bool parse_line(const char *head, struct iofi_vma *vma)
{
	uint64_t end, major, minor;
	const char *perm;

	if (!number(&head, 16, '-', &vma->at.start) || !number(&head, 16, ' ', &end) || strnlen(head, 5) < 5)
		return false;
	perm = head;
	head += 5;
	if (!number(&head, 16, ' ', &vma->offset) || !number(&head, 16, ':', &major) ||
	    !number(&head, 16, ' ', &minor) || !number(&head, 10, ' ', &vma->inode))
		return false;
	vma->at.last = end - 1;
	vma->device = (uint32_t)(major << 20 | minor);
	vma->readable = perm[0] == 'r';
	vma->writable = perm[1] == 'w';
	vma->shared = perm[3] == 's';
	return end > vma->at.start;
}

struct line {
	char head[HEAD_MAX + 2];
	size_t n;
};

/* The end of a line has come. */
static int line_done(struct line *line, int (*fn)(void *ctx, const struct iofi_vma *vma), void *ctx)
{
	struct iofi_vma vma;

	memcpy(line->head + line->n, " ", 2);
	line->n = 0;
	return parse_line(line->head, &vma) ? fn(ctx, &vma) : -EIO;
}

static int maps_open(const struct iofi_process *of)
{
	char path[32];
	uint32_t thread;

	if (!of)
		return iofi_os_open("/proc/self/maps", O_RDONLY);
	thread = iofi_process_thread(of);
	if (!thread)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%u/maps", thread);
	return iofi_os_open(path, O_RDONLY);
}

int iofi_maps_scan(const struct iofi_process *of, int (*fn)(void *ctx, const struct iofi_vma *vma), void *ctx)
{
	struct line line = { .n = 0 };
	char buf[8192];
	ssize_t got;
	int rc = 0, fd = maps_open(of);

	if (fd < 0)
		return fd;
	while (!rc && (got = iofi_os_read(fd, buf, sizeof(buf))) != 0) {
		if (got < 0)
			rc = (int)got;
		for (ssize_t i = 0; !rc && i < got; i++)
			if (buf[i] == '\n')
				rc = line_done(&line, fn, ctx);
			else if (line.n < HEAD_MAX)
				line.head[line.n++] = buf[i];
	}
	iofi_os_close(fd);
	return rc;
}

struct collect {
	struct iofi_maps *maps;
	struct iof_range hull;
};

static int maps_grow(struct iofi_maps *maps)
{
	uint64_t room = maps->room ? maps->room * 2 : 8;
	struct iofi_vma *vma = iof_mem_get(maps->alloc, room * sizeof(*vma), 16);

	if (!vma)
		return -ENOMEM;
	if (maps->n)
		memcpy(vma, maps->vma, maps->n * sizeof(*vma));
	iof_mem_put(maps->alloc, maps->vma, maps->room * sizeof(*vma));
	maps->vma = vma;
	maps->room = room;
	return 0;
}

/* 1 ends the scan: behind the hull nothing is of interest. */
static int collect_one(void *ctx, const struct iofi_vma *vma)
{
	struct collect *c = ctx;

	if (vma->at.start > c->hull.last)
		return 1;
	if (!iof_range_intersects(vma->at, c->hull))
		return 0;
	if (c->maps->n == c->maps->room && maps_grow(c->maps))
		return -ENOMEM;
	c->maps->vma[c->maps->n++] = *vma;
	return 0;
}

/* Only private memory is told apart by its process, so only then the process's name is looked up. */
static void name_owner(struct iofi_maps *maps, const struct iofi_process *of)
{
	if (of) {
		maps->owner = *of;
		return;
	}
	for (uint64_t i = 0; i < maps->n; i++)
		if (!maps->vma[i].shared) {
			iofi_process_self(&maps->owner);
			return;
		}
}

int iofi_maps_read(struct iof_alloc *a, const struct iofi_process *of, struct iof_range hull, struct iofi_maps *out)
{
	struct collect c = { out, hull };
	int rc;

	*out = (struct iofi_maps){ .alloc = a };
	rc = iofi_maps_scan(of, collect_one, &c);
	if (rc < 0) {
		iofi_maps_free(out);
		return rc;
	}
	name_owner(out, of);
	return 0;
}

void iofi_maps_free(struct iofi_maps *maps)
{
	iof_mem_put(maps->alloc, maps->vma, maps->room * sizeof(*maps->vma));
	*maps = (struct iofi_maps){ .alloc = maps->alloc };
}

const struct iofi_vma *iofi_maps_at(const struct iofi_maps *maps, uint64_t address)
{
	uint64_t low = 0, high = maps->n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (maps->vma[mid].at.last >= address)
			high = mid;
		else
			low = mid + 1;
	}
	return low < maps->n && maps->vma[low].at.start <= address ? &maps->vma[low] : NULL;
}

bool iofi_maps_allow(const struct iofi_maps *maps, struct iof_range r, bool write)
{
	for (uint64_t at = r.start;;) {
		const struct iofi_vma *vma = iofi_maps_at(maps, at);

		if (!vma || !(write ? vma->writable : vma->readable))
			return false;
		if (vma->at.last >= r.last)
			return true;
		at = vma->at.last + 1;
	}
}
