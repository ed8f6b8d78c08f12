/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C tests' harness: TEST(name) { … CHECK(…); … } in any number, and one main for all of them.
 *
 * A failed CHECK prints both values and ends the test (not the program). `program [substring]` runs the tests whose name contains it.
 * The last line is "N passed, M failed"; the exit status is 1 when any failed. One file, one program.
 */
#ifndef IOF_TESTS_CHECK_H
#define IOF_TESTS_CHECK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_test {
	const char *name;
	void (*fn)(void);
	struct check_test *next;
};

static struct check_test *check_tests, **check_tail = &check_tests;
static jmp_buf check_out;

#define TEST(id)                                                                                                       \
	static void test_##id(void);                                                                                   \
	__attribute__((constructor)) static void test_add_##id(void)                                                   \
	{                                                                                                              \
		static struct check_test t = { #id, test_##id, NULL };                                                 \
		*check_tail = &t;                                                                                      \
		check_tail = &t.next;                                                                                  \
	}                                                                                                              \
	static void test_##id(void)

#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                                    \
			longjmp(check_out, 1);                                                                         \
		}                                                                                                      \
	} while (0)

#define CHECK_EQ(got, want)                                                                                            \
	do {                                                                                                           \
		long long check_g = (long long)(got), check_w = (long long)(want);                                     \
		if (check_g != check_w) {                                                                              \
			printf("%s:%d: %s is %lld (0x%llx), not %s = %lld (0x%llx)\n", __FILE__, __LINE__, #got,       \
			       check_g, (unsigned long long)check_g, #want, check_w, (unsigned long long)check_w);     \
			longjmp(check_out, 1);                                                                         \
		}                                                                                                      \
	} while (0)

/* xorshift64*: seeds are printed by whoever uses a random one. */
static inline uint64_t check_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

int main(int argc, char **argv)
{
	/* static: automatic variables that changed since setjmp() are lost by a longjmp() */
	static int passed, failed;
	static struct check_test *t;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (t = check_tests; t; t = t->next) {
		if (argc > 1 && !strstr(t->name, argv[1]))
			continue;
		if (setjmp(check_out)) {
			printf("FAILED %s\n", t->name);
			failed++;
			continue;
		}
		t->fn();
		passed++;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}

#endif
