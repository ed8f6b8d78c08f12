# SPDX-License-Identifier: Apache-2.0
"""The engine as a side of the comparison: the executor over the preload library, with its mock device."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .script import Sequence, Trace, decode_traces

HERE = Path(__file__).resolve().parent
CAP_SYS_RESOURCE = 24


def compile_executor(out: Path) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    program = out / "executor"
    cc = os.environ.get("CC", "cc").split()
    subprocess.run([*cc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, HERE / "executor.c"], check=True)
    return program


def privileged() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.M)[1], 16) >> CAP_SYS_RESOURCE & 1)


@functools.cache
def front() -> tuple[str, ...]:
    """What gives the executor CAP_SYS_RESOURCE, as in the guest (for RLIMIT_MODE): nothing, or a user namespace."""
    if privileged():
        return ()
    try:
        done = subprocess.run(["unshare", "--map-root-user", "true"], capture_output=True)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        raise NotPermitted("neither CAP_SYS_RESOURCE nor user namespaces here: results cannot be a kernel's for root")
    return ("unshare", "--map-root-user")


class NotPermitted(Exception):
    """This machine does not let the executor be what it is in the guest."""


def run_engine(executor: Path, library: Path, sequences: Iterable[Sequence]) -> list[Trace]:
    """Runs them over the preload library, with its mock device."""
    with tempfile.TemporaryDirectory() as folder:
        script, trace = Path(folder) / "script", Path(folder) / "trace"
        script.write_bytes(b"".join(s.encode() for s in sequences))
        # Only the executor itself is preloaded, not what starts it.
        command = [*front(), "env", f"LD_PRELOAD={library}", "IOMMUFD_FAST_MACHINE=mock", executor]
        done = subprocess.run(command, input=f"{script} {trace}\n", text=True, capture_output=True)
        if done.returncode or done.stdout != "done\n":
            raise RuntimeError(f"the executor failed: {done.stderr}")
        return decode_traces(trace.read_bytes())
