# SPDX-License-Identifier: Apache-2.0
"""QEMU's qtest protocol: one line asks, one line answers.

The guest has no kernel: its processor executes one instruction that waits for ever. Distributions build QEMU without
the qtest accelerator, and with it goes `clock_step`; so the clock is the instruction counter's (``-icount sleep=off``),
which jumps to the next timer whenever the processor waits. A device that works by timer is done when it is asked next.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

PATIENCE = 30.0  # seconds for what takes a millisecond


def version_of(program: str) -> tuple[int, ...]:
    """The version of a QEMU as (7, 2, 22)."""
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", text)
    if not found:
        raise ValueError(f"{program} --version says {text!r}, not a QEMU's version")
    return tuple(int(n) for n in found.groups())


def has_property(program: str, device: str, name: str) -> bool:
    """Whether a device of a QEMU has a property."""
    text = subprocess.run([program, "-device", f"{device},help"], capture_output=True, text=True).stdout
    return re.search(rf"^  {name}=", text, re.M) is not None


class Machine:
    """A running QEMU, its physical address space and, on x86, its ports."""

    def __init__(self, program: str, *arguments: str):
        self.command = [program, "-accel", "tcg", "-icount", "shift=10,sleep=off", "-nodefaults"]
        self.command += ["-display", "none", "-qtest", "stdio", "-qtest-log", "none", *arguments]
        self.qemu = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self.qemu.kill()
        self.qemu.communicate()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ask(self, line: str) -> str:
        """What follows OK in the answer."""
        assert self.qemu.stdin is not None and self.qemu.stdout is not None and self.qemu.stderr is not None
        try:
            self.qemu.stdin.write(line + "\n")
            self.qemu.stdin.flush()
            answer = self.qemu.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"QEMU ended at {line[:80]!r}: {self.qemu.stderr.read()}\n{' '.join(self.command)}")
        if not answer.startswith("OK"):
            raise RuntimeError(f"QEMU answers {answer.strip()!r} to {line[:80]!r}")
        return answer[2:].strip()

    def until(self, done: Callable[[], bool], what: str) -> None:
        """Let the guest's clock go on until something has happened."""
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise RuntimeError(f"{what}: not within {PATIENCE:g} s")
            time.sleep(0.0003)  # questions without a pause keep the clock from moving

    def read32(self, address: int) -> int:
        return int(self.ask(f"readl {address:#x}"), 16)

    def read64(self, address: int) -> int:
        return int(self.ask(f"readq {address:#x}"), 16)

    def write32(self, address: int, value: int) -> None:
        self.ask(f"writel {address:#x} {value:#x}")

    def write64(self, address: int, value: int) -> None:
        self.ask(f"writeq {address:#x} {value:#x}")

    def out32(self, port: int, value: int) -> None:
        self.ask(f"outl {port:#x} {value:#x}")

    def in32(self, port: int) -> int:
        return int(self.ask(f"inl {port:#x}"), 16)
