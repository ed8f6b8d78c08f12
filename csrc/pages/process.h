/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process, named so that it can be told from a later one. Private to this folder.
 *
 * A pid comes back; together with the start time it does not. execve() keeps both and replaces the memory; it moves the
 * stack too (on any system with address randomisation), so the stack's start is part of the name where /proc shows it.
 */
#ifndef IOF_PAGES_PROCESS_H
#define IOF_PAGES_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct iofi_process {
	uint32_t pid;
	uint64_t since; /* clock ticks after boot; 0: not known */
	uint64_t stack; /* 0: not known */
};

void iofi_process_self(struct iofi_process *out);

/* By its pid: a fork of this process is another one. */
bool iofi_process_is_self(const struct iofi_process *p);

/* It had this pid and is gone; from now on it is nobody. */
static inline void iofi_process_bury(struct iofi_process *p, uint32_t pid)
{
	if (p->pid == pid)
		p->pid = 0;
}

/*
 * A thread of the process, by whose id /proc and system calls find its memory: the first one, or another when the first
 * has ended. 0: none is left, or it is not the process it was.
 */
uint32_t iofi_process_thread(const struct iofi_process *p);

/* Does it still have a thread, and the memory that it had? */
static inline bool iofi_process_lives(const struct iofi_process *p)
{
	return iofi_process_thread(p) != 0;
}

#endif
