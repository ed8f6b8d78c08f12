/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runs of a knot: a treap, ordered by IOVA. Buffers are mapped twice now and then, and a padding page may be
 * mapped a million times: so neither coming nor going may look at all of them.
 *
 * Heap order is by a hash of the run's address: nothing to store and nothing to draw, and as good as random.
 */
#include "iova/va_index_priv.h"

static uint64_t weight(const struct iofi_va_node *n)
{
	uint64_t v = (uintptr_t)n->run * UINT64_C(0x9e3779b97f4a7c15);

	return (v ^ v >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

static bool before(const struct iof_va_run *a, const struct iof_va_run *b)
{
	return a->iova != b->iova ? a->iova < b->iova : (uintptr_t)a < (uintptr_t)b;
}

/* Cuts below `at` into what comes before the run and the rest. */
static void split(struct iofi_va_node *at, const struct iof_va_run *run, struct iofi_va_node **left,
		  struct iofi_va_node **right)
{
	while (at) {
		if (before(at->run, run)) {
			*left = at;
			left = &at->right;
			at = at->right;
		} else {
			*right = at;
			right = &at->left;
			at = at->left;
		}
	}
	*left = *right = NULL;
}

static struct iofi_va_node *join(struct iofi_va_node *a, struct iofi_va_node *b)
{
	struct iofi_va_node *root = NULL, **to = &root;

	while (a && b) {
		if (weight(a) > weight(b)) {
			*to = a;
			to = &a->right;
			a = a->right;
		} else {
			*to = b;
			to = &b->left;
			b = b->left;
		}
	}
	*to = a ? a : b;
	return root;
}

void iofi_va_knot_add(struct iofi_va_knot *knot, struct iofi_va_node *node)
{
	struct iofi_va_node **at = &knot->root;

	while (*at && weight(*at) >= weight(node))
		at = before((*at)->run, node->run) ? &(*at)->right : &(*at)->left;
	split(*at, node->run, &node->left, &node->right);
	*at = node;
}

struct iofi_va_node *iofi_va_knot_take(struct iofi_va_knot *knot, const struct iof_va_run *run)
{
	struct iofi_va_node **at = &knot->root, *n;

	while ((n = *at) && n->run != run)
		at = before(n->run, run) ? &n->right : &n->left;
	if (n)
		*at = join(n->left, n->right);
	return n;
}

struct iof_va_run *iofi_va_knot_first(const struct iofi_va_knot *knot)
{
	const struct iofi_va_node *n = knot->root;

	while (n && n->left)
		n = n->left;
	return n ? n->run : NULL;
}

static struct iof_va_run *find(const struct iofi_va_node *n, bool (*wanted)(const struct iof_va_run *, const void *),
			       const void *arg)
{
	struct iof_va_run *run;

	for (; n; n = n->right) {
		run = find(n->left, wanted, arg);
		if (run)
			return run;
		if (wanted(n->run, arg))
			return n->run;
	}
	return NULL;
}

struct iof_va_run *iofi_va_knot_find(const struct iofi_va_knot *knot, bool (*wanted)(const struct iof_va_run *, const void *),
				     const void *arg)
{
	return find(knot->root, wanted, arg);
}

static bool ordered(const struct iofi_va_node *n, const struct iof_va_run **prev, uint64_t *count)
{
	if (!n)
		return true;
	if ((n->left && weight(n->left) > weight(n)) || (n->right && weight(n->right) > weight(n)))
		return false;
	if (!ordered(n->left, prev, count) || (*prev && !before(*prev, n->run)))
		return false;
	*prev = n->run;
	++*count;
	return ordered(n->right, prev, count);
}

bool iofi_va_knot_is_valid(const struct iofi_va_knot *knot, uint64_t *count)
{
	const struct iof_va_run *prev = NULL;

	return ordered(knot->root, &prev, count);
}
