/* SPDX-License-Identifier: Apache-2.0 */
/* Processes from /proc/PID/stat: state, threads, start time, start of the stack. */
#define _GNU_SOURCE
#include "pages/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages/os.h"

struct stat_line {
	char state;
	uint64_t threads, since, stack;
};

/* Field n of the line, where s is at field 3: what comes after the command's name, which may contain anything. */
static const char *field(const char *s, int n)
{
	for (int at = 3; s && at < n; at++) {
		s = strchr(s, ' ');
		s = s ? s + 1 : NULL;
	}
	return s;
}

static uint64_t number(const char *s)
{
	return s ? strtoull(s, NULL, 10) : 0;
}

static bool read_stat(uint32_t pid, struct stat_line *out)
{
	char path[32], text[1024];
	const char *s;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = iofi_os_open(path, O_RDONLY);
	if (fd < 0)
		return false;
	got = iofi_os_read(fd, text, sizeof(text) - 1);
	iofi_os_close(fd);
	text[got > 0 ? got : 0] = 0;
	s = strrchr(text, ')');
	if (!s || !s[1])
		return false;
	s += 2;
	*out = (struct stat_line){ *s, number(field(s, 20)), number(field(s, 22)), number(field(s, 28)) };
	return true;
}

void iofi_process_self(struct iofi_process *out)
{
	struct stat_line line = { 0 };

	*out = (struct iofi_process){ .pid = iofi_os_pid() };
	if (!read_stat(out->pid, &line))
		return;
	out->since = line.since;
	out->stack = line.stack;
}

bool iofi_process_is_self(const struct iofi_process *p)
{
	return p->pid == iofi_os_pid();
}

static bool has_ended(const struct stat_line *line)
{
	return strchr("ZXx", line->state);
}

static bool may_be(uint64_t was, uint64_t is)
{
	return !was || !is || was == is;
}

struct entry { /* the kernel's struct linux_dirent64 */
	uint64_t inode;
	int64_t next;
	uint16_t length;
	uint8_t type;
	char name[];
};

/* A thread in this part of the list that has not ended; 0: none. */
static uint32_t living_in(const char *part, ssize_t n)
{
	struct stat_line line;

	for (ssize_t at = 0; at < n; at += ((const struct entry *)(part + at))->length) {
		uint32_t tid = (uint32_t)number(((const struct entry *)(part + at))->name); /* 0 for . and .. */

		if (tid && read_stat(tid, &line) && !has_ended(&line))
			return tid;
	}
	return 0;
}

/* A first thread that has ended stays a zombie while others run, and no longer shows the memory. */
static uint32_t other_thread(uint32_t pid)
{
	_Alignas(8) char path[32], part[2048];
	uint32_t tid = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/task", pid);
	fd = iofi_os_open(path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return 0;
	while (!tid && (got = iofi_os(SYS_getdents64, fd, part, sizeof(part))) > 0)
		tid = living_in(part, got);
	iofi_os_close(fd);
	return tid;
}

uint32_t iofi_process_thread(const struct iofi_process *p)
{
	struct stat_line line;

	if (!read_stat(p->pid, &line) || !may_be(p->since, line.since))
		return 0;
	if (!has_ended(&line))
		return may_be(p->stack, line.stack) ? p->pid : 0;
	return line.threads > 1 ? other_thread(p->pid) : 0;
}
