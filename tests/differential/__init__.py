# SPDX-License-Identifier: Apache-2.0
"""The engine and a real kernel, compared system call by system call (docs/differences.md)."""
