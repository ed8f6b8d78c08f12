# SPDX-License-Identifier: Apache-2.0
"""What stands in for the GIL where a Python has none (3.13t and later). Where there is one, this costs nothing or a plain count.

With a GIL, C statements without a Python call between them are one step for all threads. Without it there are three
means here, and `cython.critical_section` for the rest, which is a lock in the object that is let go wherever the GIL
would be:

- a *Guard* is a lock around some plain statements. Under it nothing of Python is made, dropped or called, and nothing
  waits.
- a *Gate* counts calls that are inside something which can be closed. Who closes it shuts it, so that nobody comes in
  any more, and waits until the last has left. Counts are kept by groups of threads: threads that use different address
  spaces of one context share no cache line for it.
- `quick_in` is for calls that keep the GIL: with one, nobody can close anything meanwhile, and nothing is counted.

A gate of zeros is open. In and out are called by one thread in one module.
"""
cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define IOFT_STRIPES 8
    typedef PyMutex ioft_guard;
    typedef struct {
        struct { Py_ssize_t users; char apart[64 - sizeof(Py_ssize_t)]; } stripe[IOFT_STRIPES];
        int shut;
    } ioft_gate;

    #define ioft_take(g) PyMutex_Lock(g)
    #define ioft_drop(g) PyMutex_Unlock(g)
    #define ioft_add(p, n) __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST)
    #define ioft_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define ioft_swap(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)

    static __thread unsigned ioft_stripe __attribute__((tls_model("initial-exec"), unused)); /* 0: none yet */
    static unsigned ioft_stripes __attribute__((unused));

    static inline Py_ssize_t *ioft_users(ioft_gate *g)
    {
        if (!ioft_stripe)
            ioft_stripe = __atomic_fetch_add(&ioft_stripes, 1, __ATOMIC_RELAXED) % IOFT_STRIPES + 1;
        return &g->stripe[ioft_stripe - 1].users;
    }

    static inline int ioft_in(ioft_gate *g)
    {
        Py_ssize_t *users = ioft_users(g);

        ioft_add(users, 1);
        if (!ioft_load(&g->shut))
            return 1;
        ioft_add(users, -1);
        return 0;
    }

    #define ioft_in_anyway(g) ((void)ioft_add(ioft_users(g), 1))
    #define ioft_out(g) ((void)ioft_add(ioft_users(g), -1))
    #define ioft_quick_in(g) ioft_in(g)
    #define ioft_quick_out(g) ioft_out(g)

    static inline int ioft_busy(ioft_gate *g)
    {
        Py_ssize_t users = 0;

        for (int i = 0; i < IOFT_STRIPES; i++)
            users += ioft_load(&g->stripe[i].users);
        return users != 0;
    }
    #else
    typedef struct { char nothing[1]; } ioft_guard;
    typedef struct { Py_ssize_t users; int shut; } ioft_gate;

    #define ioft_take(g) ((void)(g))
    #define ioft_drop(g) ((void)(g))
    #define ioft_add(p, n) (*(p) += (n))
    #define ioft_load(p) (*(p))

    static inline int ioft_swap(int *p, int v)
    {
        int old = *p;

        *p = v;
        return old;
    }

    static inline int ioft_in(ioft_gate *g)
    {
        if (g->shut)
            return 0;
        g->users++;
        return 1;
    }

    #define ioft_in_anyway(g) ((void)(g)->users++)
    #define ioft_out(g) ((void)(g)->users--)
    #define ioft_quick_in(g) (!(g)->shut)
    #define ioft_quick_out(g) ((void)(g))
    #define ioft_busy(g) ((g)->users != 0)
    #endif

    #define ioft_is_shut(g) (ioft_load(&(g)->shut) != 0)
    #define ioft_shut(g) (ioft_swap(&(g)->shut, 1) == 0)
    #define ioft_open(g) ((void)ioft_swap(&(g)->shut, 0))
    """
    ctypedef struct Guard "ioft_guard":
        pass
    ctypedef struct Gate "ioft_gate":
        pass
    void take "ioft_take"(Guard *guard) noexcept nogil
    void drop "ioft_drop"(Guard *guard) noexcept nogil

    bint pass_in "ioft_in"(Gate *gate) noexcept nogil  # false: it is shut
    void pass_in_anyway "ioft_in_anyway"(Gate *gate) noexcept nogil
    void pass_out "ioft_out"(Gate *gate) noexcept nogil
    bint quick_in "ioft_quick_in"(Gate *gate) noexcept nogil
    void quick_out "ioft_quick_out"(Gate *gate) noexcept nogil
    bint is_shut "ioft_is_shut"(Gate *gate) noexcept nogil
    bint is_busy "ioft_busy"(Gate *gate) noexcept nogil
    bint shut_gate "ioft_shut"(Gate *gate) noexcept nogil  # true for the one call that shut it
    void open_gate "ioft_open"(Gate *gate) noexcept nogil

    Py_ssize_t count "ioft_add"(Py_ssize_t *counter, int n) noexcept nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds)


cdef inline int pause(unsigned int microseconds) except -1:
    """Let others run for a moment. An exception is a signal's (KeyboardInterrupt)."""
    with nogil:
        usleep(microseconds)
    return PyErr_CheckSignals()


cdef inline int wait_until_empty(Gate *gate) except -1:
    """After shutting: wait for those that are inside. When a signal interrupts that the gate is open again."""
    cdef unsigned int time = 10
    try:
        while is_busy(gate):
            pause(time)
            if time < 1000:
                time *= 2
    except BaseException:
        open_gate(gate)
        raise
    return 0
