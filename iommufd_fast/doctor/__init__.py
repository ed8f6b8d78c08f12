# SPDX-License-Identifier: Apache-2.0
"""What stands between this machine and DMA by the kernel: facts, what they mean, and the first thing to fix.

``host`` reads files, ``facts`` are collected from it, ``findings`` judges them, ``text`` says both.
"""
