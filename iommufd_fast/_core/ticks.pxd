# SPDX-License-Identifier: Apache-2.0
"""A cheap clock for loops that time single calls: the time stamp counter where there is one, else CLOCK_MONOTONIC.

A reading waits for what comes before it and holds back what comes after it (lfence), so an interval holds the call
and nothing of its neighbours. What an empty interval costs is measured by benchloop.calibrate() and subtracted by
the caller.
"""
from libc.stdint cimport uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <time.h>
    #if defined(__x86_64__) || defined(__i386__)
    #include <x86intrin.h>
    #define IOFB_TSC 1
    static inline uint64_t iofb_tsc(void)
    {
        uint64_t t;

        _mm_lfence();
        t = __rdtsc();
        _mm_lfence();
        return t;
    }
    #else
    #define IOFB_TSC 0
    static inline uint64_t iofb_tsc(void) { return 0; }
    #endif
    static inline uint64_t iofb_monotonic(void)
    {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    }
    static inline uint64_t iofb_ticks(int tsc) { return tsc ? iofb_tsc() : iofb_monotonic(); }
    """
    enum: IOFB_TSC
    uint64_t iofb_monotonic() noexcept
    uint64_t iofb_ticks(bint tsc) noexcept
