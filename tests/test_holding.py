# SPDX-License-Identifier: Apache-2.0
"""How memory is held: policies by name, held regions, and what errors and ``iommufd-fast limits`` say about limits."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iommufd_fast as iof
from iommufd_fast.limits import Limits, limits

PAGE = 4096


def locked() -> int:
    """Bytes that this process has locked."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmLck"))
    return int(line.split()[1]) << 10


@pytest.fixture
def rig():
    with iof.Machine() as machine, machine.open() as context:
        ioas = context.ioas()
        with context.bind(iof.SoftDevice(machine=machine)) as device:
            device.attach(ioas)
            yield machine, ioas


needs_io_uring = pytest.mark.skipif(limits().io_uring != "yes", reason=f"io_uring: {limits().io_uring}")


def test_a_mapping_names_its_policy(rig):
    _, ioas = rig
    before = locked()
    memory = mmap.mmap(-1, 16 * PAGE)
    with ioas.map(memory, policy="mlock"):
        assert locked() == before + 16 * PAGE
        with ioas.map(memory, policy="trust"), ioas.map(memory, policy="mlock"):
            assert locked() == before + 16 * PAGE
    assert locked() == before


def test_a_machine_has_a_policy():
    before = locked()
    with iof.Machine(policy="mlock") as machine, machine.open() as context:
        ioas = context.ioas()
        with context.bind(iof.SoftDevice(machine=machine)) as device:
            memory = mmap.mmap(-1, 4 * PAGE)
            mapping = ioas.map(memory)
            assert locked() == before, "no page table shows it yet"
            device.attach(ioas)
            assert locked() == before + 4 * PAGE
            mapping.unmap()
            assert locked() == before
            ioas.map_many([0], [PAGE], policy="trust")


def test_batches_name_one(rig):
    _, ioas = rig
    before = locked()
    memory = mmap.mmap(-1, 8 * PAGE)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    iovas = ioas.map_many(address + np.arange(0, 8 * PAGE, PAGE), PAGE, policy="mlock")
    assert locked() == before + 8 * PAGE
    assert not ioas.unmap_many(iovas, PAGE).any()
    assert locked() == before


@needs_io_uring
def test_io_uring(rig):
    _, ioas = rig
    memory = mmap.mmap(-1, 8 * PAGE)
    before = limits().pinned
    with ioas.map(memory, policy="io_uring"):
        assert limits().pinned == before + 8 * PAGE
    assert limits().pinned == before


def test_wrong_names(rig):
    machine, ioas = rig
    with pytest.raises(ValueError, match="policy must be one of 'trust', 'probe', 'mlock', 'io_uring', not 'lock'"):
        ioas.map(bytearray(10), policy="lock")
    with pytest.raises(ValueError, match="either trusted or policy"):
        ioas.map(bytearray(10), policy="probe", trusted=True)
    with pytest.raises(ValueError, match="policy must be one of"):
        ioas.map_many([0], [PAGE], policy="lock")
    with pytest.raises(ValueError, match="policy must be one of"):
        machine.hold(bytearray(10), policy="lock")
    with pytest.raises(TypeError, match="holding an address needs a length"):
        machine.hold(4096)
    with pytest.raises(ValueError, match="cannot hold 0 bytes"):
        machine.hold(4096, 0)
    with pytest.raises(ValueError, match="read-only"):
        machine.hold(b"abc")


def test_a_region(rig):
    machine, ioas = rig
    before = locked()
    memory = mmap.mmap(-1, 16 * PAGE)
    with machine.hold(memory, policy="mlock") as held:
        assert locked() == before + 16 * PAGE
        assert (held.length, held.policy, len(held), held.released) == (16 * PAGE, "mlock", 16 * PAGE, False)
        assert "16" not in repr(held) or "mlock" in repr(held)
        with ioas.map(memory, PAGE, policy="mlock"):
            held.release()
            assert locked() == before + PAGE
        with pytest.raises(TypeError):
            import pickle

            pickle.dumps(held)
    assert held.released
    assert locked() == before


def test_a_region_keeps_its_memory(rig):
    machine, _ = rig
    memory = bytearray(100)
    held = machine.hold(memory)
    with pytest.raises(BufferError):
        memory.extend(b"x")
    del held
    memory.extend(b"x")


def test_a_region_that_is_not_there(rig):
    machine, _ = rig
    with pytest.raises(iof.BadAddress, match="cannot hold 0x1000 bytes at address 0x1000 by 'probe'"):
        machine.hold(0x1000, PAGE, policy="probe")


UNPRIVILEGED = """
import mmap, os, resource, sys
import iommufd_fast as iof
import iommufd_fast.remedies
from iommufd_fast.limits import limits
limits()  # what has to be imported is, before the files are out of reach
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
assert not limits().exempt and limits().shortage(1 << 20) == (1 << 20) - 65536
with iof.Machine(policy=sys.argv[1]) as machine, machine.open() as context:
    ioas = context.ioas()
    with context.bind(iof.SoftDevice(machine=machine)) as device:
        device.attach(ioas)
        memory = mmap.mmap(-1, 1 << 20)
        try:
            ioas.map(memory)
        except iof.OutOfMemory as error:
            print(error)
"""


@pytest.mark.parametrize("policy", ["mlock", pytest.param("io_uring", marks=needs_io_uring)])
def test_the_error_says_what_is_needed(policy):
    env = os.environ | {"HOME": "/"}
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, policy], capture_output=True, text=True, env=env)
    if done.returncode and "Permission denied" in done.stderr:
        pytest.skip("an unprivileged user cannot read this tree")
    assert done.returncode == 0, done.stderr
    assert "1048576 bytes are to be pinned" in done.stdout
    assert "the limit of locked memory is 65536 bytes" in done.stdout
    assert "ulimit -l" in done.stdout


def test_shortage():
    now = Limits(soft=100, hard=200, exempt=False, locked=40, pinned=0, io_uring="yes", hugepages={})
    assert [now.shortage(n) for n in (0, 60, 61)] == [0, 0, 1]
    assert Limits(100, 200, True, 40, 0, "yes", {}).shortage(1000) == 0
    assert Limits(None, None, False, 40, 0, "yes", {}).shortage(1000) == 0


def test_limits_command():
    from click.testing import CliRunner

    from iommufd_fast.cli.root import cli

    run = CliRunner()
    done = run.invoke(cli, ["limits"])
    assert done.exit_code == 0, done.output
    assert "RLIMIT_MEMLOCK" in done.output and "io_uring" in done.output
    done = run.invoke(cli, ["limits", "1.5G"])
    assert "To hold 1536 MiB more" in done.output
    done = run.invoke(cli, ["limits", "--json", "4K"])
    assert json.loads(done.output)["need"] == 4096
    done = run.invoke(cli, ["limits", "much"])
    assert done.exit_code == 2 and "is not a size" in done.output


def test_how_to_raise_it(monkeypatch):
    from click.testing import CliRunner

    from iommufd_fast.cli import limits as command

    now = Limits(65536, 65536, False, 4096, 0, "no: forbidden here", {2097152: 3})
    monkeypatch.setattr(command, "limits", lambda: now)
    out = CliRunner().invoke(command.command, ["1M"]).output
    assert "987136 bytes are missing" in out
    assert "LimitMEMLOCK=1052672" in out and "prlimit" in out
    assert "ulimit -l" not in out, "the hard limit is too low for that"
    assert "3 of 2 MiB" in out and "no: forbidden here" in out


@pytest.mark.parametrize("policy", ["probe", "mlock"])
def test_a_file_that_shrinks_under_a_region(rig, tmp_path, policy):
    """Memory of a file that is truncated while it is held and mapped: a fault of the device, and no crash."""
    machine, ioas = rig
    (device,) = ioas.context.devices
    with open(tmp_path / "f", "w+b") as file:
        file.truncate(8 * PAGE)
        memory = mmap.mmap(file.fileno(), 8 * PAGE)
        with machine.hold(memory, policy=policy), ioas.map(memory, policy=policy) as mapping:
            device.dma_write(mapping.iova + 7 * PAGE, b"here")
            file.truncate(4 * PAGE)
            with pytest.raises(iof.DmaFault):
                device.dma_write(mapping.iova + 7 * PAGE, b"gone")
            device.dma_write(mapping.iova, b"still here")
            with ioas.map(memory, 4 * PAGE, policy=policy) as other:
                assert device.dma_read(other.iova, 10) == b"still here"
            file.truncate(8 * PAGE)
            assert device.dma_read(mapping.iova + 7 * PAGE, 4) == bytes(4)
    assert ioas.stats().mappings == 0 and machine.is_valid()
