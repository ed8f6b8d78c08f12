# SPDX-License-Identifier: Apache-2.0
"""The Cython modules: IOVA space, page table, pinned pages, provider handles. Each is useful alone."""
