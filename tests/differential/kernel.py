# SPDX-License-Identifier: Apache-2.0
"""A real kernel as a side of the comparison: one guest, alive as long as the object, that takes list after list."""

from __future__ import annotations

import queue
import re
import sys
import tempfile
import threading
from collections.abc import Sequence as Many
from pathlib import Path

from iommufd_fast import vm

from .script import Sequence, Trace, decode_traces

HERE = Path(__file__).resolve().parent
COMPLAINT = re.compile(r"WARNING:|BUG:|Oops|general protection|refcount_t:")
# A container's MAP_DMA without READ and WRITE reaches the page table, which says so and refuses it (R2.22.5); so does
# the IOAS with a length whose pages cannot be counted, and the allocator when the mock wants a table of 2^19
# invalidations.
PLACES = (
    r"iommu_pt\.h:\d+ at amdv1_mock_map_range",
    r"io_pagetable\.c:\d+ at iopt_insert_area",
    r"page_alloc\.c:\d+ at __alloc_frozen_pages_noprof",
)
EXPECTED = re.compile(rf"WARNING: \S*({'|'.join(PLACES)})")


class Kernel:
    """``with Kernel(image, executor) as kernel: kernel.run(sequences)``; runs in the order of the calls.

    Scripts and traces go through a folder that the guest shares. What the kernel complains of on its console is kept in
    `console`.
    """

    def __init__(self, image: Path, executor: Path, timeout: float = 3600) -> None:
        self.image, self.executor, self.timeout = image, executor, timeout
        self.console = bytearray()
        self._jobs: queue.Queue = queue.Queue()
        self._done: queue.Queue = queue.Queue()
        self._pending = False

    def __enter__(self) -> Kernel:
        self._folder = tempfile.TemporaryDirectory(prefix="iof-differential-")
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._jobs.put(None)
        self._thread.join(60)
        self._folder.cleanup()

    def _live(self) -> None:
        guest = vm.Guest(self.image, devices=(), bind=(), options=("loglevel=5",), iommu="", cpus=1, memory=1024)
        channel = Path(vm.__file__).parent / "channel.py"
        command = [sys.executable, "-S", "-E", str(HERE / "guest.py"), str(channel), str(self.executor)]
        try:
            outcome = vm.run(
                guest,
                command,
                share=self._folder.name,
                timeout=self.timeout,
                on_call=self._answer,
                on_console=self.console.extend,
            )
            self._done.put(RuntimeError(f"the guest's command ended with {outcome.code}: {outcome.output!r}"))
        except Exception as e:  # whatever it was belongs to whoever waits
            self._done.put(e)

    def _answer(self, running: vm.Running, name: str, data: object) -> object:
        """The guest asks for work: what it was given before is done."""
        if self._pending:
            self._done.put(None)
        job = self._jobs.get()
        self._pending = job is not None
        return job

    def start(self, sequences: Many[Sequence]) -> None:
        """Gives the guest its next list; :meth:`finish` waits for it."""
        script, trace = self._files()
        script.write_bytes(b"".join(s.encode() for s in sequences))
        trace.unlink(missing_ok=True)
        self._jobs.put({"script": str(script), "trace": str(trace)})

    def finish(self) -> list[Trace]:
        if problem := self._done.get():
            raise problem
        self.raw = self._files()[1].read_bytes()  # as the executor wrote it
        return decode_traces(self.raw)

    def run(self, sequences: Many[Sequence]) -> list[Trace]:
        self.start(sequences)
        return self.finish()

    def _files(self) -> tuple[Path, Path]:
        folder = Path(self._folder.name)
        return folder / "script", folder / "trace"

    def complaints(self) -> list[str]:
        """Lines of the kernel's console that tell of something wrong in it."""
        lines = self.console.decode(errors="replace").splitlines()
        return [line for line in lines if COMPLAINT.search(line) and not EXPECTED.search(line)]
