# SPDX-License-Identifier: Apache-2.0
"""Whether origins are tracked: a C variable, because every map looks at it."""
cdef bint tracking
