/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program has locked by itself.
 *
 * The kernel tells it in /proc/self/smaps only, and takes milliseconds for that in a large process. But it refuses MADV_COLD on a
 * locked mapping, and where it agrees it has only called pages cold that are about to be locked. So that is tried first.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "pages/hold.h"
#include "pages/os.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#define LINE_MAX_KEPT 254

bool iofi_locks_none(struct iof_range pages)
{
	return !iofi_os(SYS_madvise, pages.start << IOF_PAGE_SHIFT, iof_range_length(pages) << IOF_PAGE_SHIFT, MADV_COLD);
}

struct scan {
	struct iof_range want, vma; /* vma: of the lines that follow */
	int (*fn)(void *ctx, struct iof_range pages);
	void *ctx;
	char line[LINE_MAX_KEPT + 2];
	size_t n;
};

/* "start-end perms …" begins a mapping; every other line is "Name: …". */
static bool begins(const char *line, struct iof_range *vma)
{
	unsigned long start, end;
	char dash;

	if (sscanf(line, "%lx%c%lx ", &start, &dash, &end) != 3 || dash != '-' || end <= start)
		return false;
	*vma = (struct iof_range){ start >> IOF_PAGE_SHIFT, (end - 1) >> IOF_PAGE_SHIFT };
	return true;
}

static int line_done(struct scan *s)
{
	s->line[s->n] = ' ';
	s->line[s->n + 1] = 0;
	s->n = 0;
	if (!strncmp(s->line, "VmFlags:", 8)) {
		if (strstr(s->line, " lo ") && iof_range_intersects(s->vma, s->want))
			return s->fn(s->ctx, iof_range_clip(s->vma, s->want));
		return s->vma.last >= s->want.last ? 1 : 0;
	}
	if (begins(s->line, &s->vma) && s->vma.start > s->want.last)
		return 1;
	return 0;
}

static int feed(struct scan *s, const char *buf, ssize_t n)
{
	int rc = 0;

	for (ssize_t i = 0; !rc && i < n; i++)
		if (buf[i] == '\n')
			rc = line_done(s);
		else if (s->n < LINE_MAX_KEPT)
			s->line[s->n++] = buf[i];
	return rc;
}

int iofi_locks_scan(struct iof_range pages, int (*fn)(void *ctx, struct iof_range pages), void *ctx)
{
	struct scan s = { .want = pages, .fn = fn, .ctx = ctx };
	int rc = 0, fd = iofi_os_open("/proc/self/smaps", O_RDONLY);
	char buf[8192];
	ssize_t got;

	if (fd < 0)
		return fd;
	while (!rc && (got = iofi_os_read(fd, buf, sizeof(buf))) != 0)
		rc = got < 0 ? (int)got : feed(&s, buf, got);
	iofi_os_close(fd);
	return rc < 0 ? rc : 0;
}
