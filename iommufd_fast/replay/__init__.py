# SPDX-License-Identifier: Apache-2.0
"""Replay of real DMA traces: the kernel's ``iommu:map`` and ``iommu:unmap`` events, run on this engine and checked
one by one."""
