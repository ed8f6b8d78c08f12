/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading /proc/self/maps: a line is "start-last+1 rwxp offset major:minor inode name". The name can be long and is of
 * no interest, so only the head of each line is collected, whatever the reads cut.
 */
#define _GNU_SOURCE
#include "pages/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HEAD_MAX 128 /* the longest head has 16 + 1 + 16 + 1 + 4 + 1 + 16 + 1 + 9 + 1 + 20 characters */

static int file_open(const char *path)
{
	int saved = errno, rc;

	rc = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (rc < 0)
		rc = -errno;
	errno = saved;
	return rc;
}

static ssize_t file_read(int fd, char *to, size_t n)
{
	int saved = errno;
	ssize_t got, rc;

	do
		got = syscall(SYS_read, fd, to, n);
	while (got < 0 && errno == EINTR);
	rc = got < 0 ? -errno : got;
	errno = saved;
	return rc;
}

static void file_close(int fd)
{
	int saved = errno;

	syscall(SYS_close, fd);
	errno = saved;
}

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

int iofi_maps_scan(int (*fn)(void *ctx, const struct iofi_vma *vma), void *ctx)
{
	struct line line = { .n = 0 };
	char buf[8192];
	ssize_t got;
	int rc = 0, fd = file_open("/proc/self/maps");

	if (fd < 0)
		return fd;
	while (!rc && (got = file_read(fd, buf, sizeof(buf))) != 0) {
		if (got < 0)
			rc = (int)got;
		for (ssize_t i = 0; !rc && i < got; i++)
			if (buf[i] == '\n')
				rc = line_done(&line, fn, ctx);
			else if (line.n < HEAD_MAX)
				line.head[line.n++] = buf[i];
	}
	file_close(fd);
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

int iofi_maps_read(struct iof_alloc *a, struct iof_range hull, struct iofi_maps *out)
{
	struct collect c = { out, hull };
	int rc;

	*out = (struct iofi_maps){ .alloc = a };
	rc = iofi_maps_scan(collect_one, &c);
	if (rc < 0) {
		iofi_maps_free(out);
		return rc;
	}
	for (uint64_t i = 0; i < out->n && !out->start_time; i++)
		if (!out->vma[i].shared)
			out->start_time = iofi_process_start_time();
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

/*
 * Field 22 of /proc/self/stat; the second, the command's name, is in brackets and may itself contain blanks and
 * brackets.
 */
uint64_t iofi_process_start_time(void)
{
	char buf[1024];
	const char *s;
	uint64_t ticks;
	ssize_t got;
	int fd = file_open("/proc/self/stat");

	if (fd < 0)
		return 0;
	got = file_read(fd, buf, sizeof(buf) - 1);
	file_close(fd);
	buf[got > 0 ? got : 0] = 0;
	s = strrchr(buf, ')');
	for (int field = 2; s && field < 22; field++)
		s = strchr(s + 1, ' ');
	if (!s)
		return 0;
	s++;
	return number(&s, 10, ' ', &ticks) ? ticks : 0;
}
