/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs scripts of system calls on /dev/iommu and writes down everything that came back: return value, errno, and each byte of memory that changed.
 * The same program runs on a kernel (with its mock device, CONFIG_IOMMUFD_TEST) and over the preload library; the two traces must be equal.
 *
 *	executor [--physical]      then, on standard input, lines "SCRIPT TRACE"; each is answered by a line "done"
 *
 * A script is a list of sequences. Each runs in a child of its own, so with fresh memory, a fresh open file and the same numbers for descriptors. Nothing in it is
 * random and nothing depends on where the program was loaded: all memory that a step can name lies at fixed addresses (layout.py names them too), which is
 * why pointers and automatic IOVAs can be compared as they are.
 *
 * A step may use what an earlier one gave (an id, a descriptor, an IOVA), by that step's label; what was never given counts as 0. So a script stays
 * meaningful when steps are taken out of it.
 *
 * Physical contiguity decides the size of page-table leaves, and with it what the dirty bitmaps say. The engine's synthetic addresses follow the
 * file's offsets or the process's addresses; to make a kernel agree (--physical) the scattered buffer's pages are mapped in an order in which no page follows its neighbour in
 * physical memory (here: backwards), and the buffers that are to be contiguous are huge pages.
 *
 * One thing is done that no script asks for: PASIDs still attached are detached before their mock device or its context goes, because the kernel's mock
 * device cannot be taken away with one attached (it waits a minute and complains).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define BASE UINT64_C(0x200000000000)
#define SCRATCH BASE /* pages: rw rw rw read-only rw hole */
#define SCRATCH_PAGES 5
#define SCRATCH_SIZE (SCRATCH_PAGES * PAGE)
#define ALIAS (BASE + 0x1000000) /* the same memory, all writable */
#define SCATTERED (BASE + 0x2000000) /* SCATTERED_PAGES of shared memory, no two neighbours contiguous; a hole behind */
#define SCATTERED_PAGES 32
#define SINGLE (BASE + 0x3000000) /* private pages with holes between: touched, untouched, read-only, PROT_NONE */
#define FILE_MAP (BASE + 0x4000000) /* the file of descriptor 3 */
#define HUGE (BASE + 0x8000000) /* two of 2 MiB, a hole of 2 MiB between */
#define HUGE_SIZE 0x200000ul
#define ODD_SIZE (PAGE + 100) /* size of the file of descriptor 4 */
#define FILL 0xa5
#define SAVED 96
#define NO_LABEL UINT32_MAX /* a patch that is just a number */
#define PASIDS 64
#define TRACE_SIZE (32ul << 20)
#define SECONDS_MAX 60

#define CMD_DESTROY 0x3b80ul
#define CMD_TEST 0x3ba0ul
enum { TEST_PASID_ATTACH = 18, TEST_PASID_REPLACE, TEST_PASID_DETACH };

enum sequence_flag { WITH_HUGE = 1, WITHOUT_IPC_LOCK = 2, WITHOUT_RESOURCE = 4 };
enum op { OP_OPEN, OP_CLOSE, OP_IOCTL, OP_READ, OP_WRITE, OP_POLL, OP_MMAP, OP_MUNMAP, OP_PEEK, OP_FILL, OP_LIMIT, OP_DUP, OP_DIGEST };
enum destination { TO_FD = 0xffff, TO_A = 0xfffe, TO_B = 0xfffd, TO_C = 0xfffc, TO_D = 0xfffb };

/* A script's parts, as they lie in the file; little-endian, packed. */
struct sequence {
	uint32_t magic, number, flags, memlock_pages, n_steps, n_labels;
} __attribute__((packed));

struct step {
	uint32_t label;
	uint8_t op, n_blobs, n_patches, zero;
	int32_t fd;
	uint64_t a, b, c, d;
} __attribute__((packed));

struct blob {
	uint16_t offset, length;
} __attribute__((packed));

/* value = what step `label` gave, its return value (width 0 at `from`) or `width` bytes of its struct, plus `add`; stored in `to_width` bytes */
struct patch {
	uint16_t to;
	uint8_t to_width, width;
	uint32_t label;
	uint16_t from;
	int64_t add;
} __attribute__((packed));

struct record {
	uint32_t label;
	int64_t result;
	int32_t error;
	uint32_t n_runs;
} __attribute__((packed));

struct result {
	bool there;
	int64_t value;
	uint8_t bytes[SAVED];
};

static struct {
	uint64_t size;
	uint8_t bytes[];
} *trace; /* shared with the child, which may die at any time */
static bool physical;
static uint8_t shadow[SCRATCH_SIZE];
static struct result *results;
static uint32_t n_results;
static struct {
	int fd;
	uint32_t device, pasid;
} pasids[PASIDS];
static unsigned n_pasids;
static sigjmp_buf bad_access;

static void die(const char *what)
{
	fprintf(stderr, "executor: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void *at(uint64_t address)
{
	return (void *)(uintptr_t)address;
}

/* ---- memory ---- */

static void map_here(uint64_t address, size_t size, int prot, int flags, int fd, off_t offset)
{
	if (mmap(at(address), size, prot, flags | MAP_FIXED, fd, offset) != at(address))
		die("mmap");
}

static int memory_file(size_t size, unsigned flags)
{
	int fd = memfd_create("differential", MFD_CLOEXEC | flags);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		die("memfd");
	return fd;
}

static void make_scratch(void)
{
	int fd = memory_file(SCRATCH_SIZE, 0);

	map_here(ALIAS, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	map_here(SCRATCH, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mprotect(at(SCRATCH + 3 * PAGE), PAGE, PROT_READ))
		die("mprotect");
	close(fd);
}

static uint64_t frame_of(int pagemap, uint64_t address)
{
	uint64_t entry = 0;

	if (pread(pagemap, &entry, sizeof(entry), (off_t)(address / PAGE * sizeof(entry))) != sizeof(entry))
		die("pagemap");
	entry &= (UINT64_C(1) << 55) - 1;
	if (!entry)
		die("pagemap tells no frame numbers");
	return entry;
}

/* Exchanges pages until none comes right behind its neighbour. */
static void scatter(unsigned order[SCATTERED_PAGES], const uint64_t frame[SCATTERED_PAGES])
{
	uint64_t random = 1;
	bool again = true;

	for (unsigned tries = 0; again && tries < 1000; tries++) {
		again = false;
		for (unsigned i = 1; i < SCATTERED_PAGES; i++) {
			unsigned j, t = order[i];

			if (frame[order[i]] != frame[order[i - 1]] + 1)
				continue;
			again = true;
			random = random * 6364136223846793005u + 1442695040888963407u;
			j = (unsigned)(random >> 33) % SCATTERED_PAGES;
			order[i] = order[j];
			order[j] = t;
		}
	}
	if (again)
		die("no order of the pages is scattered");
}

static void make_scattered(void)
{
	int fd = memory_file(SCATTERED_PAGES * PAGE, 0);
	uint64_t frame[SCATTERED_PAGES];
	unsigned order[SCATTERED_PAGES];

	for (unsigned i = 0; i < SCATTERED_PAGES; i++)
		order[i] = SCATTERED_PAGES - 1 - i;
	if (physical) {
		int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

		map_here(SCATTERED, SCATTERED_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
		for (unsigned i = 0; i < SCATTERED_PAGES; i++)
			frame[i] = frame_of(pagemap, SCATTERED + i * PAGE);
		close(pagemap);
		scatter(order, frame);
	}
	for (unsigned i = 0; i < SCATTERED_PAGES; i++)
		map_here(SCATTERED + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)(order[i] * PAGE));
	close(fd);
}

static void make_single(void)
{
	for (unsigned i = 0; i < 4; i++)
		map_here(SINGLE + 2 * i * PAGE, PAGE, i == 3 ? PROT_NONE : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(at(SINGLE), 1, PAGE);
	memset(at(SINGLE + 4 * PAGE), 2, PAGE);
	if (mprotect(at(SINGLE + 4 * PAGE), PAGE, PROT_READ))
		die("mprotect");
}

/* Descriptors 3, 4 and 5 on return: a file of memory, one with a part of a page at its end, and one that is no memory. */
static void make_files(bool huge)
{
	size_t size = huge ? HUGE_SIZE : PAGE;
	int fd = memory_file(size, huge && physical ? MFD_HUGETLB : 0);

	map_here(FILE_MAP, size, PROT_READ | PROT_WRITE, MAP_SHARED | (physical ? MAP_POPULATE : 0), fd, 0);
	if (fd != 3 || memory_file(ODD_SIZE, 0) != 4 || open("/dev/null", O_RDWR | O_CLOEXEC) != 5)
		die("descriptors 3 to 5 are not free");
}

static void make_huge(void)
{
	for (unsigned i = 0; i < 2; i++)
		map_here(HUGE + i * 2 * HUGE_SIZE, HUGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | (physical ? MAP_HUGETLB | MAP_POPULATE : 0), -1, 0);
}

static void drop(unsigned capability)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	if (syscall(SYS_capget, &header, data))
		die("capget");
	data[capability / 32].effective &= ~(1u << capability % 32);
	if (syscall(SYS_capset, &header, data))
		die("capset");
}

static void give_up_rights(const struct sequence *q)
{
	struct rlimit limit = { q->memlock_pages * PAGE, q->memlock_pages * PAGE };

	if (q->flags & WITHOUT_RESOURCE)
		drop(CAP_SYS_RESOURCE);
	if (!(q->flags & WITHOUT_IPC_LOCK))
		return;
	drop(CAP_IPC_LOCK);
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		die("setrlimit");
}

/* ---- the trace ---- */

static void put(const void *bytes, size_t size)
{
	if (trace->size + size > TRACE_SIZE - sizeof(*trace)) {
		errno = ENOSPC;
		die("trace");
	}
	memcpy(trace->bytes + trace->size, bytes, size);
	trace->size += size;
}

/* Each run of changed bytes: offset, length, bytes. Runs less than eight bytes apart are one. */
static uint32_t put_changes(void)
{
	const uint8_t *now = at(ALIAS);
	uint32_t n_runs = 0;

	for (uint32_t i = 0; i < SCRATCH_SIZE;) {
		uint32_t end, last;

		if (!(i % PAGE) && !memcmp(now + i, shadow + i, PAGE)) {
			i += PAGE;
			continue;
		}
		if (now[i] == shadow[i]) {
			i++;
			continue;
		}
		for (end = last = i; end < SCRATCH_SIZE && end - last < 8; end++)
			if (now[end] != shadow[end])
				last = end;
		last = last + 1 - i;
		put(&i, sizeof(i));
		put(&last, sizeof(last));
		put(now + i, last);
		i += last;
		n_runs++;
	}
	return n_runs;
}

static void note(uint32_t label, int64_t result, int error)
{
	struct record record = { label, result, result == -1 ? error : 0, 0 };
	uint64_t where = trace->size;

	put(&record, sizeof(record));
	record.n_runs = put_changes();
	memcpy(trace->bytes + where, &record, sizeof(record));
}

/* ---- steps ---- */

static void on_bad_access(int sig)
{
	(void)sig;
	siglongjmp(bad_access, 1);
}

/* The program's own touch of memory that may not be there: EFAULT as a system call would say. */
static int64_t touch(uint64_t address, uint64_t length, int fill)
{
	struct sigaction action = { .sa_handler = on_bad_access, .sa_flags = SA_NODEFER }, old[2];
	int64_t result = 0;

	sigaction(SIGSEGV, &action, &old[0]);
	sigaction(SIGBUS, &action, &old[1]);
	if (sigsetjmp(bad_access, 1)) {
		errno = EFAULT;
		result = -1;
	} else {
		for (uint64_t i = 0; i < length; i++) {
			volatile uint8_t *byte = at(address + i);

			if (fill < 0)
				((uint8_t *)at(ALIAS))[i] = *byte;
			else
				*byte = (uint8_t)(fill + i);
		}
	}
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGBUS, &old[1], NULL);
	return result;
}

static uint64_t hash(uint64_t h, uint64_t address, size_t size)
{
	const uint64_t *p = at(address);

	for (size_t i = 0; i < size / 8; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

/* Of all the memory that steps can map. */
static int64_t digest(bool huge)
{
	uint64_t h = hash(UINT64_C(0xcbf29ce484222325), SCATTERED, SCATTERED_PAGES * PAGE);

	for (unsigned i = 0; i < 3; i++)
		h = hash(h, SINGLE + 2 * i * PAGE, PAGE);
	h = hash(h, FILE_MAP, huge ? HUGE_SIZE : PAGE);
	for (unsigned i = 0; huge && i < 2; i++)
		h = hash(h, HUGE + i * 2 * HUGE_SIZE, HUGE_SIZE);
	return (int64_t)(h >> 1);
}

static uint32_t word(uint64_t address, unsigned index)
{
	uint32_t value;

	memcpy(&value, (uint8_t *)at(address) + index * sizeof(value), sizeof(value));
	return value;
}

/* PASIDs of one device of one open file, or of all (0), are taken away. */
static void detach_pasids(int fd, uint32_t device)
{
	for (unsigned i = 0; i < n_pasids;) {
		uint32_t command[18] = { 72, TEST_PASID_DETACH, pasids[i].device, 0, pasids[i].pasid };

		if (pasids[i].fd != fd || (device && pasids[i].device != device)) {
			i++;
			continue;
		}
		ioctl(fd, CMD_TEST, command);
		pasids[i] = pasids[--n_pasids];
	}
}

static void note_pasid(int fd, uint32_t device, uint32_t pasid)
{
	if (n_pasids == PASIDS) {
		errno = ENOSPC;
		die("more PASIDs than a sequence may attach");
	}
	pasids[n_pasids].fd = fd;
	pasids[n_pasids].device = device;
	pasids[n_pasids++].pasid = pasid;
}

static bool in_scratch(uint64_t address, size_t size)
{
	return address >= SCRATCH && address - SCRATCH <= SCRATCH_SIZE - size;
}

static int64_t do_ioctl(const struct step *s)
{
	uint64_t alias = s->a - SCRATCH + ALIAS;

	if (s->b == CMD_DESTROY && in_scratch(s->a, 8))
		detach_pasids(s->fd, word(alias, 1));
	if (s->b == CMD_TEST && in_scratch(s->a, 24)) {
		uint32_t op = word(alias, 1);

		if (op == TEST_PASID_ATTACH || op == TEST_PASID_REPLACE)
			note_pasid(s->fd, word(alias, 2), word(alias, 4));
	}
	return ioctl(s->fd, s->b, s->a);
}

static int64_t do_poll(const struct step *s)
{
	struct pollfd p = { s->fd, (short)s->b, 0 };
	int rc = poll(&p, 1, 0);

	return rc < 0 ? rc : rc << 16 | (uint16_t)p.revents;
}

static int64_t do_close(int fd)
{
	detach_pasids(fd, 0);
	return close(fd);
}

static int64_t do_open(void)
{
	return open("/dev/iommu", O_RDWR | O_CLOEXEC);
}

static int64_t do_mmap(const struct step *s)
{
	return (int64_t)(intptr_t)mmap(at(s->a), s->b, (int)(s->c & 0xff), (int)(s->c >> 8), s->fd, (off_t)s->d);
}

/* The soft one only: raising the hard one is a privilege. */
static int64_t do_limit(const struct step *s)
{
	struct rlimit limit;

	if (getrlimit((int)s->a, &limit))
		die("getrlimit");
	limit.rlim_cur = s->b;
	return setrlimit((int)s->a, &limit);
}

static int64_t perform(const struct step *s, bool huge)
{
	switch (s->op) {
	case OP_OPEN:
		return do_open();
	case OP_CLOSE:
		return do_close(s->fd);
	case OP_IOCTL:
		return do_ioctl(s);
	case OP_READ:
		return read(s->fd, at(s->a), s->b);
	case OP_WRITE:
		return write(s->fd, at(s->a), s->b);
	case OP_POLL:
		return do_poll(s);
	case OP_MMAP:
		return do_mmap(s);
	case OP_MUNMAP:
		return munmap(at(s->a), s->b);
	case OP_PEEK:
		return touch(s->a, s->b < SCRATCH_SIZE ? s->b : SCRATCH_SIZE, -1);
	case OP_FILL:
		return touch(s->a, s->b, (int)(s->c & 0xff));
	case OP_LIMIT:
		return do_limit(s);
	case OP_DUP:
		return fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	case OP_DIGEST:
		return digest(huge);
	default:
		errno = EINVAL;
		die("unknown step");
		return -1;
	}
}

static uint64_t value_of(const struct patch *p)
{
	uint64_t value = 0;

	if (p->label >= n_results || !results[p->label].there) /* a descriptor that was never given is none */
		return p->label < NO_LABEL && p->to == TO_FD ? UINT64_MAX : (uint64_t)p->add;
	if (!p->width)
		return (uint64_t)(results[p->label].value + p->add);
	if (p->from + p->width <= SAVED && p->width <= 8)
		memcpy(&value, results[p->label].bytes + p->from, p->width);
	return value + (uint64_t)p->add;
}

static void apply(struct step *s, const struct patch *p)
{
	uint64_t value = value_of(p);

	switch (p->to) {
	case TO_FD:
		s->fd = (int32_t)value;
		return;
	case TO_A:
		s->a = value;
		return;
	case TO_B:
		s->b = value;
		return;
	case TO_C:
		s->c = value;
		return;
	case TO_D:
		s->d = value;
		return;
	default:
		if (p->to + p->to_width <= SCRATCH_SIZE && p->to_width <= 8)
			memcpy((uint8_t *)at(ALIAS) + p->to, &value, p->to_width);
	}
}

static void keep(const struct step *s, int64_t result)
{
	struct result *r = &results[s->label];

	r->there = result >= 0;
	r->value = result;
	if (in_scratch(s->a, SAVED))
		memcpy(r->bytes, at(s->a - SCRATCH + ALIAS), SAVED);
}

/* One step: its bytes are put into the scratch memory, it is done, and what came of it is written down. Returns what comes after it. */
static const uint8_t *do_step(const uint8_t *p, bool huge)
{
	struct step s;
	int64_t result;
	int error;

	memcpy(&s, p, sizeof(s));
	p += sizeof(s);
	memset(at(ALIAS), FILL, SCRATCH_SIZE);
	for (unsigned i = 0; i < s.n_blobs; i++) {
		struct blob b;

		memcpy(&b, p, sizeof(b));
		memcpy((uint8_t *)at(ALIAS) + b.offset, p + sizeof(b), b.length);
		p += sizeof(b) + b.length;
	}
	for (unsigned i = 0; i < s.n_patches; i++, p += sizeof(struct patch)) {
		struct patch patch;

		memcpy(&patch, p, sizeof(patch));
		apply(&s, &patch);
	}
	memcpy(shadow, at(ALIAS), SCRATCH_SIZE);
	errno = 0;
	result = perform(&s, huge);
	error = errno;
	keep(&s, result);
	note(s.label, result, error);
	return p;
}

static void run_sequence(const struct sequence *q, const uint8_t *p)
{
	bool huge = q->flags & WITH_HUGE;

	results = calloc(q->n_labels, sizeof(*results));
	n_results = q->n_labels;
	if (!results)
		die("memory");
	make_files(huge);
	make_scattered();
	make_single();
	if (huge)
		make_huge();
	give_up_rights(q);
	for (uint32_t i = 0; i < q->n_steps; i++)
		p = do_step(p, huge);
	while (n_pasids)
		detach_pasids(pasids[0].fd, 0);
}

/* ---- the server ---- */

static const uint8_t *skip(const uint8_t *p, uint32_t n_steps)
{
	for (; n_steps; n_steps--) {
		struct step s;

		memcpy(&s, p, sizeof(s));
		p += sizeof(s);
		for (unsigned i = 0; i < s.n_blobs; i++) {
			struct blob b;

			memcpy(&b, p, sizeof(b));
			p += sizeof(b) + b.length;
		}
		p += s.n_patches * sizeof(struct patch);
	}
	return p;
}

/* The trace of a sequence: its number, how its process ended, the size of what it wrote, and that. */
static void run_in_child(const struct sequence *q, const uint8_t *steps, FILE *out)
{
	struct {
		uint32_t number, status;
		uint64_t size;
	} head = { .number = q->number };
	pid_t child;
	int status;

	trace->size = 0;
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		alarm(SECONDS_MAX);
		run_sequence(q, steps);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child)
		die("waitpid");
	head.status = (uint32_t)status;
	head.size = trace->size;
	if (fwrite(&head, sizeof(head), 1, out) != 1 || fwrite(trace->bytes, 1, trace->size, out) != trace->size)
		die("writing the trace");
}

static uint8_t *read_whole(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *bytes = NULL;
	struct stat st;
	size_t done = 0;

	if (fd < 0 || fstat(fd, &st) || !(bytes = malloc((size_t)st.st_size + 1)))
		die(path);
	while (done < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + done, (size_t)st.st_size - done);

		if (n <= 0)
			die(path);
		done += (size_t)n;
	}
	close(fd);
	*size = done;
	return bytes;
}

static void run_script(const char *script, const char *into)
{
	size_t size;
	uint8_t *bytes = read_whole(script, &size);
	char *text = NULL;
	size_t text_size = 0;
	FILE *out = open_memstream(&text, &text_size), *file; /* no descriptor while children run */

	for (const uint8_t *p = bytes; p < bytes + size;) {
		struct sequence q;

		memcpy(&q, p, sizeof(q));
		run_in_child(&q, p + sizeof(q), out);
		p = skip(p + sizeof(q), q.n_steps);
	}
	fclose(out);
	file = fopen(into, "wbe");
	if (!file || fwrite(text, 1, text_size, file) != text_size || fclose(file))
		die(into);
	free(text);
	free(bytes);
}

int main(int argc, char **argv)
{
	static char line[2 * 4096 + 2];
	char script[4096], into[4096];

	physical = argc > 1 && !strcmp(argv[1], "--physical");
	make_scratch();
	trace = mmap(NULL, TRACE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (trace == MAP_FAILED)
		die("trace");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%4095s %4095s", script, into) != 2)
			break;
		run_script(script, into);
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}
