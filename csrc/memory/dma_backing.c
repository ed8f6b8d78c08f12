/* SPDX-License-Identifier: Apache-2.0 */
/* What the system really gave: NUMA nodes and transparent huge pages. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "memory/dma_priv.h"
#include "memory/os.h"

#define MPOL_BIND 2
#define NODES 1024u
#define SAMPLES 64u

/* ---- nodes ---- */

int iofi_node_bind(void *at, uint64_t length, uint32_t node)
{
	unsigned long mask[NODES / (8 * sizeof(unsigned long))] = { 0 };
	long rc;

	if (node >= NODES)
		return -EINVAL;
	mask[node / (8 * sizeof(*mask))] = 1ul << (node % (8 * sizeof(*mask)));
	/* The kernel looks at one bit less than it is told. */
	rc = iofi_os(syscall(SYS_mbind, at, length, MPOL_BIND, mask, (unsigned long)NODES + 1, 0ul));
	if (rc == -ENOSYS) /* built for one node */
		return node ? -EINVAL : 0;
	return (int)rc;
}

int iofi_node_check(void *at, uint64_t length, uint32_t node)
{
	uint64_t pages = length >> IOF_PAGE_SHIFT, n = pages < SAMPLES ? pages : SAMPLES;
	void *asked[SAMPLES];
	int status[SAMPLES];
	long rc;

	for (uint64_t i = 0; i < n; i++)
		asked[i] = (char *)at + (pages * i / n << IOF_PAGE_SHIFT);
	rc = iofi_os(syscall(SYS_move_pages, 0, (unsigned long)n, asked, NULL, status, 0));
	if (rc == -ENOSYS)
		return node ? -ENOMEM : 0;
	for (uint64_t i = 0; i < n && rc >= 0; i++)
		rc = status[i] == (int)node ? 0 : -ENOMEM;
	return (int)rc;
}

/* ---- transparent huge pages ---- */

/* Lines of a file of /proc, whatever their length: what is longer than the buffer comes in pieces that no pattern below fits. */
struct lines {
	int fd;
	size_t at, end;
	char buffer[8192];
};

static char *next_line(struct lines *l)
{
	char *line, *end;
	long n;

	for (;;) {
		line = l->buffer + l->at;
		end = memchr(line, '\n', l->end - l->at);
		if (end) {
			*end = 0;
			l->at = (size_t)(end + 1 - l->buffer);
			return line;
		}
		memmove(l->buffer, line, l->end - l->at);
		l->end -= l->at;
		l->at = 0;
		if (l->end == sizeof(l->buffer))
			l->end = 0;
		n = iofi_os(read(l->fd, l->buffer + l->end, sizeof(l->buffer) - l->end));
		if (n <= 0)
			return NULL;
		l->end += (size_t)n;
	}
}

/* "7f0000000000-7f0000200000 rw-p …" begins what smaps says about an area; the lines after it are "Word: value kB". */
static bool area_line(const char *line, uint64_t *start, uint64_t *end)
{
	char *rest;

	*start = strtoull(line, &rest, 16);
	if (rest == line || *rest != '-')
		return false;
	line = rest + 1;
	*end = strtoull(line, &rest, 16);
	return rest != line && *rest == ' ';
}

static uint64_t value_of(const char *line, const char *word)
{
	size_t n = strlen(word);

	return strncmp(line, word, n) ? 0 : strtoull(line + n, NULL, 10) << 10;
}

uint64_t iofi_huge_bytes(const void *at, uint64_t length)
{
	uint64_t from = (uintptr_t)at, to = from + length, start, end, bytes = 0;
	struct lines l = { .fd = (int)iofi_os(open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)) };
	bool inside = false;
	char *line;

	if (l.fd < 0)
		return 0;
	while ((line = next_line(&l))) {
		if (area_line(line, &start, &end)) {
			if (start >= to)
				break;
			/* DMA memory has neighbours of other permissions, so no area sticks out. */
			inside = start >= from && end <= to;
		} else if (inside) {
			bytes += value_of(line, "AnonHugePages:") + value_of(line, "ShmemPmdMapped:");
		}
	}
	(void)iofi_os(close(l.fd));
	return bytes;
}
