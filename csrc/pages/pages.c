/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers: who holds which slots, and what has to happen when a slot gets its first holder or loses its last.
 *
 * A hold is made in this order: reserve the nodes; find the slots nobody holds yet ("fresh"); probe them; learn their
 * synthetic addresses and reserve what pinning those needs; charge them; then, with nothing left that can fail, pin and
 * count. A step that fails undoes the ones before it. When no slot is fresh only the counting is left.
 *
 * In `ext`, beside the run map of holds, a container with synthetic addresses keeps `names`: an ascending list of
 * records (slot, npages, address). A record is made when its slots are pinned and stays, unused, after they are
 * released, because taking it out could need memory; the next pin of the slot writes over it, and the list goes with
 * the last hold.
 *
 * Invariants while `ext` is there: holds > 0; the map has 2 * holds nodes reserved; `pinned` is the number of slots
 * with a count above 0; with synthetic addresses 2 * (holds + names) nodes are reserved in the identity table, which is
 * enough because what is pinned consists of at most holds + names - 1 pieces (identity_hold.h).
 */
#include "pages/pages.h"

#include "pages/ext.h"
#include "pages/identity_hold.h"
#include "pages/physical.h"
#include "util/guard.h"

int iof_pages_init_user(struct iof_pages *p, const struct iof_memory *m, uint64_t uptr, uint64_t length, bool writable,
			enum iof_hold_policy policy, struct iof_account *account)
{
	uint64_t end;

	if (__builtin_add_overflow(uptr, length, &end))
		return -EOVERFLOW;
	if (!length || length > UINT64_MAX - IOF_PAGE_SIZE)
		return -EINVAL;
	p->base = iof_align_down(uptr, IOF_PAGE_SIZE);
	p->npages = ((end - 1 - p->base) >> IOF_PAGE_SHIFT) + 1;
	p->ext = NULL;
	p->account = account;
	iof_lock_init(&p->lock, m->alloc->shared);
	atomic_init(&p->refs, 1);
	atomic_init(&p->state, IOF_PAGES_EMPTY);
	p->writable = writable;
	p->kind = IOF_PAGES_USER;
	p->policy = (uint8_t)policy & 0x7f;
	p->plain = is_plain(p, m);
	return 0;
}

static uint64_t slot_address(const struct iof_pages *p, uint64_t slot)
{
	return p->base + (slot << IOF_PAGE_SHIFT);
}

/* Memory of another process: it has to be alive, and (virtual addresses) to have it mapped. */
static int probe_remote(const struct iof_pages *p, struct iof_memory *m, struct iof_range r)
{
	const struct iofi_process *owner = iofi_account_process(p->account);
	struct iofi_maps maps;
	int rc;

	if (!iofi_process_lives(owner))
		return -EFAULT;
	if (m->address_mode != IOF_ADDRESS_VA || p->policy == IOF_HOLD_TRUST)
		return 0; /* giving names reads the mappings anyway */
	rc = iofi_maps_read(m->alloc, owner, r, &maps);
	if (rc)
		return rc == -ENOMEM ? rc : -EFAULT;
	if (!iofi_maps_allow(&maps, r, p->writable))
		rc = -EFAULT;
	iofi_maps_free(&maps);
	return rc;
}

static int pin_part(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	struct iof_range r = { slot_address(p, first), slot_address(p, last) + IOF_PAGE_MASK };

	if (iof_alloc_may_fail(m->alloc))
		return -EFAULT;
	if (!iofi_is_user(p))
		return iofi_backing_pin(p, m, first, last);
	if (iofi_account_is_remote(p->account))
		return probe_remote(p, m, r);
	if (p->policy == IOF_HOLD_TRUST || iofi_is_in_region(p, m, r))
		return 0;
	if (iof_unlikely(r.last == UINT64_MAX)) /* Linux's pin: where it would end is no address */
		return -EOVERFLOW;
	return iof_touch(r.start, r.last, p->writable, NULL);
}

/* How many pages one pin call takes: as many as there is scratch memory for their pointers (R4.3.4). */
static uint64_t pin_most(struct iof_memory *m)
{
	uint32_t scratch = atomic_load_explicit(&m->scratch, memory_order_relaxed);

	return (scratch ? scratch : IOF_SCRATCH_DEFAULT) / sizeof(void *); /* IOF_SCRATCH_MIN: one */
}

/*
 * Fresh slots first..last get their memory. Nothing to undo: a touched page is not held. Without anything to look at,
 * the parts make no difference, except to the injector, which counts them.
 */
static int pin_memory(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	bool counted = atomic_load_explicit(&m->alloc->fail_countdown, memory_order_relaxed);
	uint64_t most = pin_most(m);
	int rc = 0;

	if (iof_alloc_may_fail(m->alloc))
		return -ENOMEM; /* the scratch memory */
	if (p->policy == IOF_HOLD_TRUST && !counted)
		return pin_part(p, m, first, last);
	for (uint64_t n; !rc && first <= last; first += n) {
		n = last - first < most ? last - first + 1 : most;
		rc = pin_part(p, m, first, first + n - 1);
	}
	return rc;
}

static int charge(const struct iof_pages *p, struct iof_memory *m, uint64_t fresh)
{
	if (iof_alloc_may_fail(m->alloc))
		return -ENOMEM;
	return iof_account_charge(iofi_pages_account(p), fresh);
}

/* The slots up to `last` that have no holder, one run after the other; *at starts as the first to look at. */
static bool next_fresh(const struct iof_pages_ext *ext, uint64_t *at, uint64_t last, struct iof_range *run)
{
	uint64_t from = *at, to = last;

	if (from > last || !iofi_runmap_find(&ext->map, 0, &from, &to))
		return false;
	*run = (struct iof_range){ from, to };
	*at = to + 1;
	return true;
}

static int pin_fresh(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last, uint64_t *fresh)
{
	struct iof_range run;
	int rc;

	*fresh = 0;
	for (uint64_t at = first; next_fresh(p->ext, &at, last, &run);) {
		rc = pin_memory(p, m, run.start, run.last);
		if (rc)
			return rc;
		*fresh += iof_range_length(run);
	}
	return 0;
}

/* The names of a run: a file page's from the file, another's from where it is mapped. */
static int name_run(const struct iof_pages *p, struct iof_memory *m, const struct iofi_maps *maps, struct iof_range run,
		    struct iofi_names *names)
{
	uint64_t n = iof_range_length(run), offset;
	struct iofi_file_id id;

	iofi_names_begin(names, run.start);
	if (iofi_is_user(p))
		return iofi_identity_lookup(m->identities, maps, slot_address(p, run.start), n, p->writable,
					    iofi_names_add, names);
	id = iofi_file_id(p->backing->file);
	offset = p->backing->offset + (run.start << IOF_PAGE_SHIFT);
	return iofi_identity_lookup_file(m->identities, id.device, id.inode, offset, n, iofi_names_add, names);
}

/* Learns the names of fresh slots: `names` becomes a changed copy of the container's. The identity table is locked. */
static int name_fresh(const struct iof_pages *p, struct iof_memory *m, const struct iofi_maps *maps,
		      struct iof_range slots, struct iofi_names *names)
{
	struct iof_range run;
	int rc = iofi_names_copy(names, &p->ext->names);

	for (uint64_t at = slots.start; !rc && next_fresh(p->ext, &at, slots.last, &run);)
		rc = name_run(p, m, maps, run, names);
	return rc;
}

static void pin_named(struct iof_pages_ext *ext, struct iof_memory *m, const struct iofi_names *names,
		      struct iof_range slots)
{
	struct iof_range run;

	for (uint64_t at = slots.start; next_fresh(ext, &at, slots.last, &run);)
		iofi_names_each(names, run, m->identities, iofi_identity_pin);
}

/* Everything that is synthetic about a hold, and the charge, so that a refused charge is undone in here. Commits. */
static int hold_named_locked(struct iof_pages *p, struct iof_memory *m, const struct iofi_maps *maps,
			     struct iof_range slots, uint64_t fresh)
{
	struct iof_pages_ext *ext = p->ext;
	uint64_t had = 2 * (ext->holds + ext->names.n), want;
	struct iofi_names names;
	int rc;

	iofi_names_init(&names, m->alloc);
	rc = name_fresh(p, m, maps, slots, &names);
	want = 2 * (ext->holds + 1 + names.n);
	if (!rc && want > had)
		rc = iofi_identity_reserve(m->identities, want - had);
	if (!rc) {
		rc = charge(p, m, fresh);
		if (rc && want > had)
			iofi_identity_unreserve(m->identities, want - had);
	}
	if (rc) {
		iofi_names_fini(&names);
		return rc;
	}
	pin_named(ext, m, &names, slots);
	if (want < had)
		iofi_identity_unreserve(m->identities, had - want);
	iofi_names_fini(&ext->names);
	ext->names = names;
	return 0;
}

/*
 * What the owner of user memory has mapped there. Of another process: that it cannot be read is no different from gone.
 */
static int read_maps(const struct iof_pages *p, struct iof_memory *m, struct iof_range slots, struct iofi_maps *maps)
{
	struct iof_range hull = { slot_address(p, slots.start), slot_address(p, slots.last) + IOF_PAGE_MASK };
	bool remote;
	int rc;

	*maps = (struct iofi_maps){ .alloc = m->alloc };
	if (!iofi_is_user(p))
		return 0;
	remote = iofi_account_is_remote(p->account);
	rc = iofi_maps_read(m->alloc, remote ? iofi_account_process(p->account) : NULL, hull, maps);
	return rc && remote && rc != -ENOMEM ? -EFAULT : rc;
}

static int hold_named(struct iof_pages *p, struct iof_memory *m, struct iof_range slots, uint64_t fresh)
{
	struct iofi_maps maps;
	int rc = read_maps(p, m, slots, &maps);

	if (rc)
		return rc;
	iofi_identity_lock(m->identities);
	rc = hold_named_locked(p, m, &maps, slots, fresh);
	iofi_identity_unlock(m->identities);
	iofi_maps_free(&maps);
	return rc;
}

/*
 * A hold with no fresh slots: nothing is pinned, but when the other holders go first, what stays pinned has other
 * edges.
 */
static int hold_more(struct iof_memory *m)
{
	int rc;

	if (m->address_mode == IOF_ADDRESS_VA)
		return 0;
	iofi_identity_lock(m->identities);
	rc = iofi_identity_reserve(m->identities, 2);
	iofi_identity_unlock(m->identities);
	return rc;
}

static void give_fresh(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	struct iof_range run;

	for (uint64_t at = first; next_fresh(p->ext, &at, last, &run);)
		iofi_physical_give(p, m, run);
}

static int take_fresh(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	struct iof_range run;
	int rc = 0;

	for (uint64_t at = slots.start; !rc && next_fresh(p->ext, &at, slots.last, &run);) {
		rc = iofi_physical_take(p, m, run);
		if (rc && run.start > slots.start)
			give_fresh(p, m, slots.start, run.start - 1);
	}
	return rc;
}

static int hold_fresh(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	uint64_t fresh;
	int rc;

	rc = pin_fresh(p, m, slots.start, slots.last, &fresh);
	if (rc)
		return rc;
	if (!fresh)
		return hold_more(m);
	rc = take_fresh(p, m, slots);
	if (rc)
		return rc;
	rc = m->address_mode == IOF_ADDRESS_VA ? charge(p, m, fresh) : hold_named(p, m, slots, fresh);
	if (rc)
		give_fresh(p, m, slots.start, slots.last);
	else
		p->ext->pinned += fresh;
	return rc;
}

static int ext_hold(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	struct iof_pages_ext *ext = p->ext;
	int rc;

	rc = iofi_runmap_reserve(&ext->map, 2);
	if (rc)
		return rc;
	rc = hold_fresh(p, m, slots);
	if (rc) {
		iofi_runmap_unreserve(&ext->map, 2);
		return rc;
	}
	iofi_runmap_add(&ext->map, slots.start, slots.last);
	ext->holds++;
	return 0;
}

static void ext_free(struct iof_pages *p, struct iof_memory *m)
{
	iofi_runmap_fini(&p->ext->map);
	iofi_names_fini(&p->ext->names);
	iof_mem_put(m->alloc, p->ext, sizeof(*p->ext));
	p->ext = NULL;
}

/* An ext that says what the state said: nothing held, or everything once. */
static int ext_make(struct iof_pages *p, struct iof_memory *m, bool whole)
{
	struct iof_pages_ext *ext = iof_mem_zget(m->alloc, sizeof(*ext), 16);

	if (!ext)
		return -ENOMEM;
	iofi_runmap_init(&ext->map, m->alloc);
	iofi_names_init(&ext->names, m->alloc);
	p->ext = ext;
	if (!whole)
		return 0;
	if (iofi_runmap_reserve(&ext->map, 2)) {
		ext_free(p, m);
		return -ENOMEM;
	}
	iofi_runmap_add(&ext->map, 0, p->npages - 1);
	ext->holds = 1;
	ext->pinned = p->npages;
	return 0;
}

static bool is_whole(const struct iof_pages *p, const struct iof_memory *m, struct iof_range slots)
{
	return m->address_mode == IOF_ADDRESS_VA && !slots.start && slots.last == p->npages - 1;
}

/* The first hold, of everything: needs no ext. */
static int whole_hold(struct iof_pages *p, struct iof_memory *m)
{
	struct iof_range all = { 0, p->npages - 1 };
	int rc = pin_memory(p, m, all.start, all.last);

	if (!rc)
		rc = iofi_physical_take(p, m, all);
	if (rc)
		return rc;
	rc = charge(p, m, p->npages);
	if (rc)
		iofi_physical_give(p, m, all);
	return rc;
}

/* With the lock, and state BUSY. Returns in *state what it is to become. */
static int hold_locked(struct iof_pages *p, struct iof_memory *m, struct iof_range slots, uint8_t *state)
{
	uint8_t was = *state;
	int rc;

	if (was == IOF_PAGES_EMPTY && is_whole(p, m, slots)) {
		rc = whole_hold(p, m);
		*state = rc ? IOF_PAGES_EMPTY : IOF_PAGES_WHOLE;
		return rc;
	}
	if (was != IOF_PAGES_BUSY) {
		rc = ext_make(p, m, was == IOF_PAGES_WHOLE);
		if (rc)
			return rc;
	}
	rc = ext_hold(p, m, slots);
	if (rc && was != IOF_PAGES_BUSY)
		ext_free(p, m);
	else
		*state = IOF_PAGES_BUSY;
	return rc;
}

/* Nothing is held (any more, or as before). */
static void set_idle(struct iof_pages *p, struct iof_memory *m)
{
	if (!iofi_is_user(p))
		iofi_backing_idle(p, m);
}

int iof_pages_hold_slow(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	uint8_t state;
	int rc;

	iof_lock_take(&p->lock);
	state = atomic_exchange_explicit(&p->state, IOF_PAGES_BUSY, memory_order_acq_rel);
	rc = iofi_physical_begin(p, m);
	if (!rc) {
		rc = hold_locked(p, m, (struct iof_range){ first, last }, &state);
		if (rc)
			iofi_physical_end(p, m);
	}
	if (state == IOF_PAGES_EMPTY)
		set_idle(p, m);
	atomic_store_explicit(&p->state, state, memory_order_release);
	iof_lock_drop(&p->lock);
	return rc;
}

/* Lets go of the slots that only this hold had; returns how many. */
static uint64_t unpin_last(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	struct iof_pages_ext *ext = p->ext;
	uint64_t n = 0, at = slots.start;

	while (at <= slots.last) {
		struct iof_range run = { at, slots.last };

		if (!iofi_runmap_find(&ext->map, 1, &run.start, &run.last))
			break;
		if (m->address_mode != IOF_ADDRESS_VA)
			iofi_names_each(&ext->names, run, m->identities, iofi_identity_unpin);
		iofi_physical_give(p, m, run);
		n += iof_range_length(run);
		at = run.last + 1;
	}
	return n;
}

static void ext_release(struct iof_pages *p, struct iof_memory *m, struct iof_range slots)
{
	struct iof_pages_ext *ext = p->ext;
	bool named = m->address_mode != IOF_ADDRESS_VA;
	uint64_t gone;

	if (named)
		iofi_identity_lock(m->identities);
	gone = unpin_last(p, m, slots);
	ext->holds--;
	if (named) {
		iofi_identity_unreserve(m->identities, ext->holds ? 2 : 2 + 2 * ext->names.n);
		iofi_identity_unlock(m->identities);
	}
	iofi_runmap_remove(&ext->map, slots.start, slots.last);
	iofi_runmap_unreserve(&ext->map, 2);
	ext->pinned -= gone;
	iof_account_uncharge(iofi_pages_account(p), gone);
}

void iof_pages_release_slow(struct iof_pages *p, struct iof_memory *m, uint64_t first, uint64_t last)
{
	uint8_t state;

	iof_lock_take(&p->lock);
	state = atomic_exchange_explicit(&p->state, IOF_PAGES_BUSY, memory_order_acq_rel);
	if (state == IOF_PAGES_WHOLE) {
		iofi_physical_give(p, m, (struct iof_range){ 0, p->npages - 1 });
		iof_account_uncharge(iofi_pages_account(p), p->npages);
		state = IOF_PAGES_EMPTY;
	} else {
		ext_release(p, m, (struct iof_range){ first, last });
		if (!p->ext->holds) {
			ext_free(p, m);
			state = IOF_PAGES_EMPTY;
		}
	}
	iofi_physical_end(p, m);
	if (state == IOF_PAGES_EMPTY)
		set_idle(p, m);
	atomic_store_explicit(&p->state, state, memory_order_release);
	iof_lock_drop(&p->lock);
}

void iof_pages_fini(struct iof_pages *p, struct iof_memory *m)
{
	if (p->ext)
		ext_free(p, m);
	if (!iofi_is_user(p))
		iofi_backing_fini(p, m);
}
