/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions behind the ones that the shim interposes: the next in line, mostly libc's.
 *
 * They are looked up once, when the library is loaded. A program's own constructors, or another preloaded library's, may call before that: then the look-up happens there.
 * The engine inside this library calls them too, by its own names (the build renames them), so that it never meets the shim.
 */
#ifndef IOF_PRELOAD_REAL_H
#define IOF_PRELOAD_REAL_H

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

typedef void (*real_handler)(int);

/* name, result, parameters: each becomes a pointer in struct real. */
#define REAL_FUNCTIONS(X)                                                                                              \
	X(open, int, (const char *, int, ...))                                                                         \
	X(open64, int, (const char *, int, ...))                                                                       \
	X(openat, int, (int, const char *, int, ...))                                                                  \
	X(openat64, int, (int, const char *, int, ...))                                                                \
	X(__open_2, int, (const char *, int))                                                                          \
	X(__open64_2, int, (const char *, int))                                                                        \
	X(__openat_2, int, (int, const char *, int))                                                                   \
	X(__openat64_2, int, (int, const char *, int))                                                                 \
	X(fopen, FILE *, (const char *, const char *))                                                                 \
	X(fopen64, FILE *, (const char *, const char *))                                                               \
	X(opendir, DIR *, (const char *))                                                                              \
	X(closedir, int, (DIR *))                                                                               \
	X(ioctl, int, (int, unsigned long, ...))                                                                       \
	X(mmap, void *, (void *, size_t, int, int, int, off_t))                                                        \
	X(mmap64, void *, (void *, size_t, int, int, int, off_t))                                                      \
	X(munmap, int, (void *, size_t))                                                                               \
	X(read, ssize_t, (int, void *, size_t))                                                                        \
	X(__read_chk, ssize_t, (int, void *, size_t, size_t))                                                          \
	X(pread, ssize_t, (int, void *, size_t, off_t))                                                                \
	X(pread64, ssize_t, (int, void *, size_t, off_t))                                                              \
	X(__pread_chk, ssize_t, (int, void *, size_t, off_t, size_t))                                                  \
	X(__pread64_chk, ssize_t, (int, void *, size_t, off_t, size_t))                                                \
	X(write, ssize_t, (int, const void *, size_t))                                                                 \
	X(pwrite, ssize_t, (int, const void *, size_t, off_t))                                                         \
	X(pwrite64, ssize_t, (int, const void *, size_t, off_t))                                                       \
	X(poll, int, (struct pollfd *, nfds_t, int))                                                                   \
	X(__poll_chk, int, (struct pollfd *, nfds_t, int, size_t))                                                     \
	X(ppoll, int, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))                            \
	X(__ppoll_chk, int, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))              \
	X(close, int, (int))                                                                                           \
	X(close_range, int, (unsigned, unsigned, int))                                                                 \
	X(closefrom, void, (int))                                                                                      \
	X(dup, int, (int))                                                                                             \
	X(dup2, int, (int, int))                                                                                       \
	X(dup3, int, (int, int, int))                                                                                  \
	X(fcntl, int, (int, int, ...))                                                                                 \
	X(fcntl64, int, (int, int, ...))                                                                               \
	X(fork, pid_t, (void))                                                                                         \
	X(sigaction, int, (int, const struct sigaction *, struct sigaction *))                                         \
	X(signal, real_handler, (int, real_handler))

struct real {
#define REAL_POINTER(name, result, parameters) result(*name) parameters;
	REAL_FUNCTIONS(REAL_POINTER)
#undef REAL_POINTER
};

extern struct real real_table;
void real_find(void);

static inline const struct real *real(void)
{
	if (__builtin_expect(!real_table.close, 0))
		real_find();
	return &real_table;
}

#endif
