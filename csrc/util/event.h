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

/* A new one, not readable, close-on-exec and never 0, 1 or 2. Its number, or -EMFILE, -ENFILE, -ENOMEM, -ENODEV. */
int iof_event_open(void);
void iof_event_close(int fd);

void iof_event_set(int fd); /* readable from now on; a second time adds nothing */
void iof_event_clear(int fd); /* not readable from now on; fine when it was not */

#endif
