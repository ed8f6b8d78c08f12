# SPDX-License-Identifier: Apache-2.0
"""The benchmark on a kernel in QEMU: both ends of it.

On the host :func:`run_in` boots the kernel and waits; in the guest this module is the program (``python -m
iommufd_fast.bench.guest``). The plan goes there as JSON in the command, progress and the name of the result's file come
back by calls.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from iommufd_fast import vm

from .matrix import Plan, kernel_plan
from .run import Progress, run
from .schema import load

RESULT = "bench.json"
TIMEOUT = 3600.0
MEMORY = 3072  # MiB
HUGE_PAGES = "hugepages=64"  # of 2 MiB, so that hugetlb can be measured as well


def find_edu() -> str:
    """The PCI address of the guest's edu device."""
    wanted = [f"0x{part}" for part in vm.EDU.split(":")]
    for device in sorted(Path("/sys/bus/pci/devices").iterdir()):
        if [(device / name).read_text().strip() for name in ("vendor", "device")] == wanted:
            return device.name
    raise FileNotFoundError("the guest has no edu device")


def plan_of(settings: Mapping[str, Any]) -> Plan:
    """The plan in the guest: what kernel_plan() takes; lists have become of tuples, and edu has an address."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    if given["device"] == "edu":
        given["device"] = find_edu()
    return kernel_plan(**given)


def main(text: str) -> None:
    """In the guest: measure, leave the document in the shared folder."""
    document = run(plan_of(json.loads(text)), lambda *step: vm.call("progress", step))
    (Path(os.environ["IOF_VM_SHARE"]) / RESULT).write_text(json.dumps(document))


def run_in(kernel: Path, settings: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Boot a kernel and measure there.

    Parameters
    ----------
    kernel : Path
        What :class:`iommufd_fast.vm.Guest` takes.
    settings : mapping
        Arguments of :func:`iommufd_fast.bench.matrix.kernel_plan`; the device is "mock", "edu" or an address.
    progress : callable(done, total, what), optional

    Returns
    -------
    dict
        The document; its machine is the guest.

    Raises
    ------
    Missing, GuestError
        As :func:`iommufd_fast.vm.run`; GuestError with the program's output when it failed.
    """

    def answer(_: vm.Running, name: str, data: Any) -> None:
        if name == "progress" and progress:
            progress(*data)

    options = (*vm.Guest(kernel).options, HUGE_PAGES)
    guest = vm.Guest(kernel, options=options, memory=MEMORY)
    command = [sys.executable, "-m", "iommufd_fast.bench.guest", json.dumps(dict(settings))]
    with TemporaryDirectory(prefix="iof-bench-") as share:
        done = vm.run(guest, command, share=share, on_call=answer, timeout=TIMEOUT)
        if done.code:
            said = done.output.decode(errors="replace").strip()
            raise vm.GuestError(f"the benchmark ended with status {done.code} in the guest:\n{said}")
        return load(Path(share) / RESULT)


if __name__ == "__main__":
    main(sys.argv[1])
