# SPDX-License-Identifier: Apache-2.0
"""The version; csrc/Makefile and the public C header say the same (a test compares them)."""

__version__ = "0.1.0"
