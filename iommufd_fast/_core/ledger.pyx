# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Which handles stand for which ranges of one address space, without keeping the handles alive.

Almost every handle is unmapped by itself, so nobody ever asks for it by its IOVA. Therefore a new node only joins a
linked list, and leaves it again: a few ns. Ranges are asked for when memory is unmapped by other means (a range, a
batch,
the raw door); only then the nodes gathered since are moved into the ordered index of csrc/iova, each once.

`sorted` nodes are in the index, all others in the list; removing works in both. When a node cannot be put into the
index because
its range is taken, the one that is there is older: memory was unmapped behind our back and its IOVA used again.
The older
node is evicted and its handle told.

The ledger's lock guards everything, also the states of the handles whose nodes are in it. Owners are borrowed: a handle
removes its node before it dies, and takes the lock as the last step before its memory goes, also when it is not in here
any more: who visits a node takes it out, writes the owner's state and goes on with the owner until the lock is dropped,
and the state is read without the lock. Who visits nodes works on the owner's fields and must not make a reference to
it, since without a GIL another thread may have dropped the last one and be on its way to here.
"""
from libc.stdint cimport uint64_t, uintptr_t

from iommufd_fast._core.channel cimport Handle
from iommufd_fast._core.machines cimport forks

cdef extern from "util/alloc.h" nogil:
    struct iof_alloc:
        pass
    void iof_alloc_init_heap(iof_alloc *a)

cdef extern from "iova/index.h" nogil:
    struct iof_index_entry:
        iof_range range
        uint64_t value
    int iof_index_create(iof_alloc *a, iof_index **out)
    void iof_index_destroy(iof_index *ix)
    int iof_index_insert(iof_index *ix, iof_range r, uint64_t value)
    bint iof_index_remove(iof_index *ix, uint64_t start)
    bint iof_index_first(const iof_index *ix, iof_range r, iof_index_entry *out)

cdef extern from "errno.h" nogil:
    enum:
        EEXIST

cdef iof_alloc heap
iof_alloc_init_heap(&heap)


cdef class Ledger:
    """See the module's text."""

    def __cinit__(self):
        self.books.born = forks
        self.books.head.prev = self.books.head.next = &self.books.head
        if iof_index_create(&heap, &self.books.index) != 0:
            raise MemoryError

    def __dealloc__(self):
        if self.books.index != NULL:
            iof_index_destroy(self.books.index)

    def __len__(self):
        return self.books.count


cdef void remove(Books *self, Node *node) noexcept:
    if node.sorted:
        iof_index_remove(self.index, node.start)
    else:
        node.prev.next = node.next
        node.next.prev = node.prev
    node.prev = node.next = NULL  # what tells that it is not in here
    node.sorted = False
    self.count -= 1


cdef void visit(Books *self, uint64_t start, uint64_t last, Visit evicted, Visit found, void *arg) noexcept:
    """Go through the nodes that intersect a range; before that, through those whose place another has taken.

    Both calls may remove their node; `evicted` has to.
    """
    cdef iof_index_entry e
    cdef iof_range r
    cdef Node *node
    cdef Node *next
    settle(self, evicted, arg)
    r.start, r.last = start, last
    while iof_index_first(self.index, r, &e):
        if found(<Node *><uintptr_t>e.value, arg) or e.range.last >= last:
            break
        r.start = e.range.last + 1
    node = self.head.next  # only what had no room in the index
    while node != &self.head:
        next = node.next
        if node.start <= last and start <= node.last and found(node, arg):
            break
        node = next


cdef void settle(Books *self, Visit evicted, void *arg) noexcept:
    """Move nodes from the list into the index, oldest first. Those that get no memory stay."""
    cdef iof_index_entry e
    cdef iof_range r
    cdef Node *node
    cdef int err
    while self.head.next != &self.head:
        node = self.head.next
        r.start, r.last = node.start, node.last
        err = iof_index_insert(self.index, r, <uintptr_t>node)
        if err == -EEXIST and iof_index_first(self.index, r, &e):
            if evicted(<Node *><uintptr_t>e.value, arg):
                break
            continue
        if err != 0:
            break
        node.prev.next = node.next
        node.next.prev = node.prev
        node.sorted = True


cdef class Home:
    """An address space of an open context: what a Mapping needs to know of the place where it is mapped.

    `gone` is the sentence that says why the address space is no more.
    """

    def __reduce__(self):
        raise TypeError(f"cannot pickle IOAS {self.id}: it belongs to its process; make one there")

    cdef int check(self) except -1:
        if self.gone is not None:
            self.refuse()
        return self.handle.check()

    cdef int refuse(self) except -1:
        """Say that it is no more, if that is so."""
        lock(&self.ledger.books)
        why = self.gone  # another thread may be about to change it
        unlock(&self.ledger.books)
        if why is not None:
            raise ValueError(why)
        return 0
