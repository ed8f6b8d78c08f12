# SPDX-License-Identifier: Apache-2.0
"""Loads and stores on the bus, little-endian, each one access; and the order between them and memory."""
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <endian.h>
    #include <stdint.h>
    static inline uint64_t mmio_load(const volatile void *p, unsigned n)
    {
        switch (n) {
        case 1: return *(const volatile uint8_t *)p;
        case 2: return le16toh(*(const volatile uint16_t *)p);
        case 4: return le32toh(*(const volatile uint32_t *)p);
        default: return le64toh(*(const volatile uint64_t *)p);
        }
    }
    static inline void mmio_store(volatile void *p, unsigned n, uint64_t v)
    {
        switch (n) {
        case 1: *(volatile uint8_t *)p = (uint8_t)v; break;
        case 2: *(volatile uint16_t *)p = htole16((uint16_t)v); break;
        case 4: *(volatile uint32_t *)p = htole32((uint32_t)v); break;
        default: *(volatile uint64_t *)p = htole64(v);
        }
    }
    #if defined(__x86_64__)
    #define mmio_wmb() __asm__ volatile("" ::: "memory")
    #define mmio_rmb() __asm__ volatile("" ::: "memory")
    #elif defined(__aarch64__)
    #define mmio_wmb() __asm__ volatile("dmb oshst" ::: "memory")
    #define mmio_rmb() __asm__ volatile("dmb oshld" ::: "memory")
    #else
    #define mmio_wmb() __sync_synchronize()
    #define mmio_rmb() __sync_synchronize()
    #endif
    """
    uint64_t mmio_load(const void *p, unsigned n) noexcept nogil
    void mmio_store(void *p, unsigned n, uint64_t v) noexcept nogil
    void mmio_wmb() noexcept nogil
    void mmio_rmb() noexcept nogil
