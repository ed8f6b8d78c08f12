# SPDX-License-Identifier: Apache-2.0
"""A list of nodes that any thread may add to, and one takes as a whole; without a lock, and without the GIL."""
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    struct iofc_node { struct iofc_node *next; };

    static void __attribute__((unused)) iofc_push(void *list, uint64_t token)
    {
        struct iofc_node *node = (struct iofc_node *)(uintptr_t)token, **head = list;

        node->next = __atomic_load_n(head, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(head, &node->next, node, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            ;
    }

    static struct iofc_node *__attribute__((unused)) iofc_take_all(void **list)
    {
        struct iofc_node **head = (struct iofc_node **)list;

        return __atomic_load_n(head, __ATOMIC_RELAXED) ? __atomic_exchange_n(head, NULL, __ATOMIC_ACQUIRE) : NULL;
    }
    """
    struct iofc_node:
        iofc_node *next
    void iofc_push(void *list, uint64_t token) noexcept nogil
    iofc_node *iofc_take_all(void **list) noexcept nogil
