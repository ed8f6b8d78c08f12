# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The numbered commands as typed calls: structs are filled on the C stack, the GIL is released around each.

A call gives its result, or a negative errno: who asks knows the names that belong into the sentence of an exception.
Map and unmap of single ranges are in mapping.pyx, batches in batch.pyx.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from iommufd_fast._core.args cimport u64
from iommufd_fast._core.capi cimport *
from iommufd_fast._core.capi_contract cimport IOF_ATTACH_PASID
from iommufd_fast._core.channel cimport Handle

cdef extern from "errno.h" nogil:
    enum:
        EMSGSIZE


cdef class ContextHandle(Handle):
    """An open iommufd."""

    def destroy(self, uint32_t id):
        cdef iof_cmd_destroy c = iof_cmd_destroy(sizeof(c), id)
        return self.raw(IOF_CMD_DESTROY, &c)

    def ioas_alloc(self):
        cdef iof_cmd_ioas_alloc c = iof_cmd_ioas_alloc(sizeof(c), 0, 0)
        cdef int err = self.raw(IOF_CMD_IOAS_ALLOC, &c)
        if err < 0:
            return err
        return c.out_ioas_id

    def ioas_allow(self, uint32_t ioas, ranges):
        """`ranges`: a list of (start, last)."""
        cdef size_t i, n = len(ranges)
        cdef iof_uapi_range *list = <iof_uapi_range *>calloc(n + 1, sizeof(iof_uapi_range))
        cdef iof_cmd_ioas_allow_iovas c = iof_cmd_ioas_allow_iovas(sizeof(c), ioas, <uint32_t>n, 0, <uint64_t>list)
        if list == NULL:
            raise MemoryError
        try:
            for i in range(n):
                start, last = ranges[i]
                list[i] = iof_uapi_range(u64(start, "start"), u64(last, "last"))
            return self.raw(IOF_CMD_IOAS_ALLOW_IOVAS, &c)
        finally:
            free(list)

    def ioas_ranges(self, uint32_t ioas):
        """([(start, last), …], alignment) of the usable IOVAs."""
        cdef iof_cmd_ioas_iova_ranges c
        cdef iof_uapi_range *list
        cdef uint32_t i, room = 16
        cdef int err
        while True:
            list = <iof_uapi_range *>calloc(room, sizeof(iof_uapi_range))
            if list == NULL:
                raise MemoryError
            try:
                c = iof_cmd_ioas_iova_ranges(sizeof(c), ioas, room, 0, <uint64_t>list, 0)
                err = self.raw(IOF_CMD_IOAS_IOVA_RANGES, &c)
                if err == 0:
                    return [(list[i].start, list[i].last) for i in range(c.num_iovas)], c.out_iova_alignment
                if err != -EMSGSIZE:
                    return err
                room = c.num_iovas
            finally:
                free(list)

    def ioas_copy(self, uint32_t flags, uint32_t dst, uint32_t src, uint64_t length, uint64_t dst_iova,
                  uint64_t src_iova):
        cdef iof_cmd_ioas_copy c = iof_cmd_ioas_copy(sizeof(c), flags, dst, src, length, dst_iova, src_iova)
        cdef int err = self.submit(IOF_CMD_IOAS_COPY, &c)
        if err < 0:
            return err
        return c.dst_iova

    def ioas_unmap(self, uint32_t ioas, uint64_t iova, uint64_t length):
        """How many bytes went."""
        cdef iof_cmd_ioas_unmap c = iof_cmd_ioas_unmap(sizeof(c), ioas, iova, length)
        cdef int err = self.raw(IOF_CMD_IOAS_UNMAP, &c)
        if err < 0:
            return err
        return c.length

    def option(self, uint32_t option, int op, uint32_t object_id, uint64_t value):
        cdef iof_cmd_option c = iof_cmd_option(sizeof(c), option, op, 0, object_id, value)
        cdef int err = self.raw(IOF_CMD_OPTION, &c)
        if err < 0:
            return err
        return c.val64

    def endpoints(self, uint32_t dev, uint32_t ioas):
        """[(dev_id, pasid or None, hwpt_id, ioas_id, device index, group index), …]; ids of 0 filter nothing."""
        cdef iof_endpoint_info *list
        cdef int64_t found, room = 16
        while True:
            list = <iof_endpoint_info *>calloc(room, sizeof(iof_endpoint_info))
            if list == NULL:
                raise MemoryError
            try:
                self.enter()
                with nogil:
                    found = iof_endpoints(self.h, dev, ioas, room, list)
                self.leave()
                if found < 0:
                    return found
                if found <= room:
                    return [endpoint(&list[i]) for i in range(found)]
                room = found
            finally:
                free(list)

    def ioas_stats(self, uint32_t ioas):
        cdef iof_ioas_stats_out s
        cdef int err
        self.enter()
        with nogil:
            err = iof_ioas_stats(self.h, ioas, &s)
        self.leave()
        if err < 0:
            return err
        return {
            "mappings": s.mappings, "bytes_mapped": s.bytes_mapped, "maps": s.maps, "unmaps": s.unmaps,
            "copies": s.copies, "pinned_pages": s.pinned_pages, "alignment": s.alignment, "hwpts": s.hwpts,
            "endpoints": s.endpoints, "large_pages": bool(s.large_pages), "index_bytes": s.index_bytes,
            "record_bytes": s.record_bytes, "table_bytes": s.table_bytes}

    def hwpt_stats(self, uint32_t hwpt):
        cdef iof_hwpt_stats_out s
        cdef int err
        self.enter()
        with nogil:
            err = iof_hwpt_stats(self.h, hwpt, &s)
        self.leave()
        if err < 0:
            return err
        return {
            "ioas_id": s.ioas_id, "automatic": bool(s.automatic), "endpoints": s.endpoints,
            "tracking": bool(s.tracking), "format": s.format,
            "aperture": (s.aperture_start, s.aperture_last), "page_sizes": s.page_sizes,
            "leaves": {1 << i: s.leaves[i] for i in range(64) if s.leaves[i]},
            "tables": s.tables, "table_bytes": s.table_bytes}

    def mapping(self, uint32_t ioas, uint64_t start, uint64_t last):
        """(iova, last, address, flags) of the lowest mapping that intersects a range."""
        cdef iof_mapping_info m
        cdef int err
        self.enter()
        with nogil:
            err = iof_ioas_mapping(self.h, ioas, start, last, &m)
        self.leave()
        if err < 0:
            return err
        return (m.iova, m.last, m.address, m.flags)

    def digest(self):
        cdef uint64_t out = 0
        cdef int err
        self.enter()
        with nogil:
            err = iof_digest(self.h, &out)
        self.leave()
        if err < 0:
            return err
        return out


cdef class DeviceHandle(Handle):
    """An open device file."""

    def bind(self, ContextHandle context not None):
        cdef iof_cmd_bind c = iof_cmd_bind(sizeof(c), 0, context.fileno(), 0, 0)
        cdef int err = self.raw(IOF_CMD_DEVICE_BIND_IOMMUFD, &c)
        if err < 0:
            return err
        return c.out_devid

    def attach(self, uint32_t pt, uint32_t pasid=0):
        """The page table's id. PASID 0: the requester id."""
        cdef iof_cmd_attach c = iof_cmd_attach(16 if pasid else 12, IOF_ATTACH_PASID if pasid else 0, pt, pasid)
        cdef int err = self.raw(IOF_CMD_DEVICE_ATTACH_PT, &c)
        if err < 0:
            return err
        return c.pt_id

    def detach(self, uint32_t pasid=0):
        cdef iof_cmd_detach c = iof_cmd_detach(12 if pasid else 8, IOF_ATTACH_PASID if pasid else 0, pasid)
        return self.raw(IOF_CMD_DEVICE_DETACH_PT, &c)

    def info(self):
        """(flags, num_regions, num_irqs, cap_offset)."""
        cdef iof_cmd_device_info c = iof_cmd_device_info(sizeof(c), 0, 0, 0, 0, 0)
        cdef int err = self.raw(IOF_CMD_DEVICE_GET_INFO, &c)
        if err < 0:
            return err
        return (c.flags, c.num_regions, c.num_irqs, c.cap_offset)


cdef tuple endpoint(iof_endpoint_info *e):
    pasid = None if e.pasid == IOF_NO_PASID else e.pasid
    return e.dev_id, pasid, e.hwpt_id, e.ioas_id, e.device, e.group
