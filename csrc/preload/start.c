/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of this process and its children: an arena, a machine, and the shim's own part of the arena. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "preload/shim.h"

#define ARENA_MOST ((size_t)16 << 30) /* of addresses; memory is taken as it is used */
#define ARENA_LEAST ((size_t)64 << 20)
#define GROUPS_MOST 256

struct shim *_Atomic shim_root;
struct shim_process *_Atomic shim_me;
static struct iof_lock start_lock; /* this process's; zero is free */

/* ---- what the environment asks for ---- */

_Static_assert((int)SHIM_INTEL == (int)IOF_PRESET_INTEL && (int)SHIM_RISCV == (int)IOF_PRESET_RISCV, "presets");

enum shim_machine shim_kind(void)
{
	static const char *const names[] = { [SHIM_MOCK] = "mock", [SHIM_INTEL] = "intel", [SHIM_AMD] = "amd", [SHIM_ARM] = "arm",
					     [SHIM_RISCV] = "riscv" };
	const char *name = getenv("IOMMUFD_FAST_MACHINE");

	for (unsigned i = 0; name && i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(name, names[i]))
			return (enum shim_machine)i;
	return SHIM_INTEL;
}

/* IOMMUFD_FAST_GROUPS=2,1: devices per group. What is not a number ends the list. */
static size_t read_groups(uint32_t *groups)
{
	const char *text = getenv("IOMMUFD_FAST_GROUPS");
	size_t n = 0;

	if (!text) {
		groups[0] = 1;
		return 1;
	}
	while (n < GROUPS_MOST) {
		char *end;
		unsigned long v = strtoul(text, &end, 10);

		if (end == text || !v || v > UINT16_MAX)
			break;
		groups[n++] = (uint32_t)v;
		if (*end != ',')
			break;
		text = end + 1;
	}
	return n;
}

/* ---- the making ---- */

static struct iof_arena *make_arena(void)
{
	struct iof_arena *arena;

	struct rlimit file;

	if (getrlimit(RLIMIT_FSIZE, &file)) /* a file that passes it means a signal */
		return NULL;
	for (size_t size = ARENA_MOST; size >= ARENA_LEAST; size /= 4)
		if (size <= file.rlim_cur && !iof_arena_create(size, &arena))
			return arena;
	return NULL;
}

static int make_machine(struct shim *s)
{
	uint32_t groups[GROUPS_MOST];
	struct iof_machine_config cfg = {
		.size = sizeof(cfg),
		.preset = s->kind == SHIM_MOCK ? IOF_PRESET_INTEL : (enum iof_preset)s->kind,
		.groups = groups,
		.n_groups = s->kind == SHIM_MOCK ? 0 : read_groups(groups),
		.alloc = s->alloc,
		.policy = IOF_POLICY_PROBE,
		.addresses = IOF_ADDRESSES_SYNTHETIC,
		.accounting = IOF_ACCOUNTING_KERNEL,
	};
	int rc = iof_machine_create(&cfg, &s->machine);

	if (rc)
		return rc;
	iof_machine_set_host(s->machine, &shim_host);
	return s->kind == SHIM_MOCK ? mock_init(&s->mock, s->machine, s->alloc, &shim_mock_files) : 0;
}

static struct shim *make(void)
{
	struct iof_arena *arena = make_arena();
	struct shim *s = arena ? iof_mem_zget(iof_arena_alloc(arena), sizeof(*s), IOF_CACHELINE) : NULL;

	if (!s)
		return NULL;
	s->alloc = iof_arena_alloc(arena);
	s->kind = shim_kind();
	iof_lock_init(&s->lock, true);
	if (!make_machine(s))
		return s;
	iof_arena_destroy(arena);
	return NULL;
}

static struct shim_process *join(struct shim *s)
{
	struct shim_process *p = iof_mem_zget(s->alloc, sizeof(*p), 16);

	if (!p)
		return NULL;
	iofi_process_self(&p->who);
	iof_lock_take(&s->lock);
	p->next = s->processes;
	s->processes = p;
	atomic_fetch_add(&s->n_processes, 1);
	iof_lock_drop(&s->lock);
	return p;
}

void shim_start_anew(void)
{
	iof_lock_init(&start_lock, false);
}

struct shim *shim_start(void)
{
	struct shim *s;

	if (atomic_load_explicit(&shim_me, memory_order_acquire))
		return atomic_load_explicit(&shim_root, memory_order_acquire);
	iof_lock_take(&start_lock);
	s = atomic_load(&shim_root);
	if (!s) {
		s = make();
		atomic_store(&shim_root, s);
	}
	if (s && !atomic_load(&shim_me))
		atomic_store(&shim_me, join(s));
	if (!atomic_load(&shim_me))
		s = NULL;
	iof_lock_drop(&start_lock);
	return s;
}
