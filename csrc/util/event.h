/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A descriptor that a program can poll: an eventfd, used as a flag.
 *
 * Its counter is 0 or not, so it is readable or not; whoever owns it says which. The number is a real one of this
 * process, so poll(2), epoll and every event loop know what to do with it. errno is left alone, and libc's read and
 * write are not called: a program that intercepts them does not see us.
 */
#ifndef IOF_UTIL_EVENT_H
#define IOF_UTIL_EVENT_H

#include <stdbool.h>

/*
 * Who keeps the numbers of a machine's open files, where they are not simply descriptors of the process that opened
 * them: a machine that several processes share has as many tables of descriptors as there are processes. `at` is the
 * host's own name for an open file.
 */
struct iof_event_host {
	int (*open)(void **at); /* a number of this process, as iof_event_open() */
	void (*close)(void *at); /* of a file that was never installed: gives the number back */
	void (*install)(void *at, void *file); /* cannot fail */
	void *(*find)(int number); /* what was installed under a number of this process; NULL */
	void (*ring)(void *at, bool readable); /* under a queue's lock: may only touch descriptors */
};

/* A new one, not readable, close-on-exec and never 0, 1 or 2. Its number, or -EMFILE, -ENFILE, -ENOMEM, -ENODEV. */
int iof_event_open(void);
void iof_event_close(int fd);

/* What `to` stands for goes; from now on it stands for what `from` does, close-on-exec. -errno of dup3(). */
int iof_event_exchange(int to, int from);

void iof_event_set(int fd); /* readable from now on; a second time adds nothing */
void iof_event_clear(int fd); /* not readable from now on; fine when it was not */

#endif
