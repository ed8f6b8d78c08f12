# SPDX-License-Identifier: Apache-2.0
"""Reading the kernel's trace: times between entry and exit. With a kernel: tests/vm/guest/test_kernel_time.py."""

from __future__ import annotations

import pytest

from iommufd_fast.bench import kerneltime
from iommufd_fast.bench.kerneltime import KernelTime, parse, why_not

TRACE = """# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
          python-92      [001] .....  1000: sys_enter: NR 16 (4, 3b85, 7ffe022c1e20, 7f0633bc34d8, 7ffe022c1e60, 0)
       a b-c 1-93        [000] d..1.  1010: sys_enter: NR 16 (5, 3b86, 1, 2, 3, 4)
          python-92      [001] .....  1700: sys_exit: NR 16 = 0
       a b-c 1-93        [000] .....  1900: sys_exit: NR 16 = -22
          python-92      [001] .....  2000: sys_enter: NR 0 (4, 3b85, 0, 0, 0, 0)
          python-92      [001] .....  2500: sys_exit: NR 0 = 0
          python-92      [000] .....  3000: sys_exit: NR 16 = 0
          python-92      [000] .....  4000: sys_enter: NR 16 (4, 3b85, 0, 0, 0, 0)
          python-92      [000] .....  4300: sys_exit: NR 16 = 0
          python-92      [000] .....  5000: sys_enter: NR 16 (4, 3b85, 0, 0, 0, 0)
"""


def test_pairs_are_matched_by_thread_and_system_call():
    assert parse(TRACE, 16) == {0x3B85: [700, 300], 0x3B86: [890]}
    assert parse("", 16) == {}


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(kerneltime.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(kerneltime.benchrig, "has_tsc", lambda: True)
    assert "not mounted" in why_not((tmp_path,))
    (tmp_path / "instances").mkdir()
    assert "raw_syscalls" in why_not((tmp_path,))
    (tmp_path / "events/raw_syscalls/sys_enter").mkdir(parents=True)
    (tmp_path / "trace_clock").write_text("[local] global mono\n")
    assert "x86-tsc" in why_not((tmp_path,))
    with pytest.raises(OSError, match="x86-tsc"):
        KernelTime((tmp_path,))
    (tmp_path / "trace_clock").write_text("[local] global mono x86-tsc\n")
    assert why_not((tmp_path / "none", tmp_path)) is None
    monkeypatch.setattr(kerneltime.platform, "machine", lambda: "aarch64")
    assert "microseconds" in why_not((tmp_path,))
