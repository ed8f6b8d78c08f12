/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of a process can find out about each other, and do to each other.
 *
 * The fence: for two threads of which one passes all the time and the other seldom. Each says what it does by a store, and then looks at what
 * the other has said; that is only right if both have a full barrier in between, which costs the first one several nanoseconds. With
 * iof_threads_fence() the seldom one has it for both: when it returns, every thread of the process has passed a full barrier since it was called.
 * The first then needs no more than atomic_signal_fence(). Any thread may call any of these.
 */
#ifndef IOF_UTIL_THREADS_H
#define IOF_UTIL_THREADS_H

#include <stdbool.h>
#include <stdint.h>

bool iof_threads_fence_prepare(void); /* is there such a thing? Once per process that will use it, a forked child too. Linux 4.14 */
bool iof_threads_fence(void); /* a microsecond or more. False: it was not prepared, and nothing was done */

bool iof_thread_lives(uint32_t tid); /* in this process; a thread that has just been given the id of another is no different from it */

#endif
