# SPDX-License-Identifier: Apache-2.0
"""What to do about an errno, by the operation that was refused: the last part of every error's sentence.

Names in braces are facts that the caller of `iommufd_fast.errors.failed` gives. What a kernel means by an errno
where an engine means another thing is in `iommufd_fast.remedies`.
"""

from __future__ import annotations

import errno as _e

# What an errno means for an operation, and what to do about it. {names} are the facts given to failed().
REMEDIES: dict[tuple[str, int], str] = {
    ("map", _e.EEXIST): "the range overlaps a live mapping; unmap that first, or leave iova out to have one chosen",
    ("map", _e.EINVAL): "address, length and a fixed IOVA must be multiples of the IOAS's alignment, and the range "
    "must lie in iova_ranges() (it may be reserved or outside a device's aperture)",
    ("map", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("map", _e.ENOSPC): "no free range is that large; unmap something, or widen what allow() permits",
    ("map", _e.EFAULT): "the memory is not mapped in this process, or read-only; give a live buffer, or access='r'",
    ("map", _e.EPERM): "the memory was first mapped read-only and cannot be mapped writable; use access='r'",
    ("map", _e.ENOMEM): "no memory, or the limit of pinned memory (ulimit -l) is reached",
    ("map", _e.ENOENT): "the IOAS was destroyed",
    ("copy", _e.ENOENT): "the source range is not wholly mapped, or an IOAS was destroyed; see mappings()",
    ("copy", _e.EEXIST): "the target range overlaps a live mapping; unmap that first, or leave dst_iova out",
    ("copy", _e.EPERM): "the source was mapped read-only; copy with access='r'",
    ("copy", _e.EINVAL): "the range must fit the target's alignment and iova_ranges()",
    ("copy", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("unmap", _e.ENOENT): "nothing is mapped there, or a mapping sticks out of the range (mappings are never cut); "
    "see mappings()",
    ("unmap", _e.EBUSY): "a mapping in the range is being made or is in use; try again",
    ("unmap", _e.EDEADLK): "an access has pinned it and does not let go: views of that memory are in use",
    ("unmap", _e.EOVERFLOW): "the range wraps around the end of the address space",
    ("allow", _e.EINVAL): "each range needs start < last, and none may overlap another",
    ("allow", _e.EADDRINUSE): "a range covers a reserved one; stay inside iova_ranges()",
    (
        "huge_pages",
        _e.EINVAL,
    ): "it cannot be turned off while page tables and mappings are there; unmap or detach first",
    ("huge_pages", _e.EADDRINUSE): "a live mapping is not aligned to 4096 bytes; unmap it first",
    ("bind", _e.EPERM): "another context owns a device of the same group; close that context's devices first, or use a "
    "device of another group",
    ("bind", _e.EINVAL): "it is open already; close the other handle first",
    ("bind", _e.ENODEV): "the machine has no such device; see machine.devices, or plug() one",
    (
        "attach",
        _e.EINVAL,
    ): "the page table does not fit the device (another IOMMU, aperture or alignment), or a mapping "
    "in the IOAS is not aligned for it",
    ("attach", _e.EADDRINUSE): "mappings or allowed ranges of the IOAS lie in the device's reserved regions, outside "
    "its aperture, or are not aligned to its pages; unmap them first",
    ("attach", _e.EBUSY): "the device's group is in use otherwise; detach it first",
    ("attach", _e.ENOENT): "the IOAS or HWPT was destroyed, or the guest has no id for the device: vdevice() first",
    ("attach", _e.EFAULT): "memory mapped in the IOAS is gone; unmap it first",
    ("destroy", _e.EBUSY): "still in use{holders}; detach devices and close page tables first",
    ("destroy", _e.ENOENT): "it was destroyed already",
    ("hwpt", _e.EOPNOTSUPP): "the device's IOMMU cannot do what flags or data ask for (only nested ones take data)",
    ("hwpt", _e.EIO): "the stream table entry asks for something that is not a guest's to set",
    ("hwpt", _e.EINVAL): "flags or data do not fit: a nested page table needs data, a parent with NEST_PARENT and the "
    "same IOMMU",
    ("hwpt", _e.EADDRINUSE): "mappings of the IOAS lie outside the device's aperture or are not aligned to its pages",
    ("hwpt", _e.EFAULT): "memory mapped in the IOAS is gone; unmap it first",
    ("hwpt", _e.ENOENT): "the device or the IOAS is gone",
    ("translate", _e.ENODEV): "the IOAS has no page table yet; attach a device, or make one with context.hwpt()",
    ("rlimit_mode", _e.EPERM): "changing it needs CAP_SYS_RESOURCE",
    ("rlimit_mode", _e.EBUSY): "the context has objects already; set it right after open()",
    ("pins", _e.EOPNOTSUPP): "only machines with addresses='synthetic' count pins by page",
    ("pins", _e.EFAULT): "nothing is mapped there in this process",
    ("machine", _e.EINVAL): "every group needs at least one device",
    ("plug", _e.ENODEV): "no such group; see machine.groups",
    ("dma", _e.EOPNOTSUPP): "dma_read() and the like are for soft devices; a real one does its DMA by itself",
    ("dma", _e.EINVAL): "a segment is empty or wraps around the end of the address space",
    ("map_file", _e.EBADF): "the descriptor is not open",
    ("map_file", _e.EINVAL): "it must be a memfd or another file of shared memory whose pages all lie inside its size, "
    "and a fixed IOVA must lie in iova_ranges()",
    ("map_file", _e.EEXIST): "the range overlaps a live mapping; unmap that first, or leave iova out",
    ("map_file", _e.ENOSPC): "no free range is that large; unmap something, or widen what allow() permits",
    ("map_file", _e.ENODEV): "the dma-buf was revoked by its exporter",
    ("map_file", _e.EOPNOTSUPP): "it is a dma-buf of the system's; only those of machine.dmabuf() can be imported",
    ("map_file", _e.ENOMEM): "no memory, or the limit of pinned memory (ulimit -l) is reached",
    ("change_process", _e.EINVAL): "something other than files is mapped; only map_file() can change hands",
    ("change_process", _e.EBUSY): "a mapping is being made or unmapped; try again",
    ("change_process", _e.ENOMEM): "it is more than this process's limit of pinned memory (ulimit -l)",
    ("dirty", _e.EOPNOTSUPP): "make the page table with uapi.HwptFlag.DIRTY_TRACKING",
    ("dirty", _e.ENOENT): "it is gone, or nested: its parent's writes are what is tracked",
    ("hwpt_stats", _e.ENOENT): "it is gone, or nested: there is no page table of ours to count",
    ("invalidate", _e.EINVAL): "only nested page tables and vIOMMUs are invalidated, by a type that the driver knows",
    ("invalidate", _e.EIO): "the command is not one of a guest's, or names a device that has no vDEVICE here",
    ("invalidate", _e.EOPNOTSUPP): "the driver takes no invalidations there, or not with these flags",
    ("viommu", _e.EOPNOTSUPP): "the device's IOMMU has no vIOMMU of that type; of the soft ones arm and amd have some",
    ("viommu", _e.EINVAL): "the parent must be made with uapi.HwptFlag.NEST_PARENT, and data be what the driver knows",
    ("vdevice", _e.EEXIST): "the device has a vDEVICE already, or the id is taken",
    ("vdevice", _e.EINVAL): "the device is behind another IOMMU",
    ("events", _e.EEXIST): "the vIOMMU has a queue of that type already",
    ("events", _e.EINVAL): "depth must be between 1 and 2**19",
    ("hw_queue", _e.EOPNOTSUPP): "the driver has no hardware queues of that type",
    ("hw_queue", _e.EFAULT): "the memory is not contiguous for the hardware",
    ("hw_queue", _e.ENOENT): "not all of the range is mapped in the parent's IOAS",
    ("mmap", _e.ENXIO): "no vIOMMU shares exactly that range; offset and length are what its driver told",
    ("access", _e.EOPNOTSUPP): "accesses are the engine's; a kernel has them for its own drivers only",
    ("digest", _e.EOPNOTSUPP): "digests are the engine's; a kernel does not show its state",
    ("access", _e.EADDRINUSE): "a mapping of the IOAS is not aligned to pages",
    ("access", _e.ENOENT): "the IOAS was destroyed",
    ("pin", _e.EINVAL): "the access has pin=False, the memory is just being unmapped, or it is a dma-buf's",
    ("pin", _e.ENOENT): "not all of the range is mapped, or the access is not attached",
    ("pin", _e.EPERM): "the memory was not mapped for this; see access= of map()",
    ("access_rw", _e.EINVAL): "the length is 0, the memory is just being unmapped, or it is a device's (a dma-buf)",
    ("access_rw", _e.ENOENT): "not all of the range is mapped, or the access is not attached",
    ("access_rw", _e.EPERM): "the memory was not mapped for this; see access= of map()",
    ("respond", _e.EINVAL): "no such cookie waits for an answer, or the code is neither SUCCESS nor INVALID",
    ("ioctl", _e.EFAULT): "the struct, or memory that it points to, is not there",
    ("ioctl", _e.E2BIG): "the struct is longer than what is known and its tail is not zero",
    ("ioctl", _e.EMSGSIZE): "the array is too short; the struct now says how many entries there are",
}
