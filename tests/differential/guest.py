# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: asks the host for scripts and has the executor run each, until the host says that it is enough.

``python guest.py CHANNEL EXECUTOR``; CHANNEL is the harness's channel.py, loaded by itself because importing the whole
package takes seconds under emulation.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

HUGE_PAGES = 24


def load(path: str):
    spec = importlib.util.spec_from_file_location("channel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    channel = load(sys.argv[1])
    Path("/proc/sys/vm/nr_hugepages").write_text(str(HUGE_PAGES))
    executor = subprocess.Popen(
        [sys.argv[2], "--physical"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    while job := channel.call("next"):
        executor.stdin.write(f"{job['script']} {job['trace']}\n")
        if executor.stdout.readline() != "done\n":
            return executor.wait() or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
