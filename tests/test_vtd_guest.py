# SPDX-License-Identifier: Apache-2.0
"""Page tables that a guest's kernel built for QEMU's VT-d, from a dump of its memory: we list what the kernel listed.

The excerpts are the pages with tables of guests under QEMU 7.2 that ran Linux 7.2.12 with a disk (nvme), strict
unmapping and no pass-through; data/vtd_excerpt.py made them.
"""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from iommufd_fast import vtd
from iommufd_fast.cli.root import cli

DATA = Path(__file__).parent / "data"
NVME = vtd.number_of("00:02.0")


@pytest.fixture(params=["legacy", "scalable"])
def guest(request):
    """`memory` for PageTable.over, `read`, the `register`, and what the guest `said`."""
    excerpt = json.loads(gzip.decompress((DATA / f"vtd_{request.param}.json.gz").read_bytes()))
    pages = {int(at, 16): np.frombuffer(b64decode(page), np.uint64) for at, page in excerpt["pages"].items()}

    def read(address):
        page = pages.get(address & ~0xFFF)
        return None if page is None else int(page[(address & 0xFFF) // 8])

    return SimpleNamespace(
        kind=request.param, memory=pages, read=read, register=excerpt["register"], said=excerpt["said"]
    )


def mappings_said(lines):
    """By device: (IOVA, the leaf entry) of each line of domain_translation_struct."""
    found, device = {}, None
    for line in lines:
        if heading := re.match(r"Device (\S+)(?: with pasid 0)? @(0x[0-9a-f]+)", line):
            device = vtd.number_of(heading[1])
            found[device] = (int(heading[2], 16), [])
        elif "|" in line:
            pfn, entries = line.split("|")
            leaf = [int(entry, 16) for entry in entries.split() if int(entry, 16)][-1]
            found[device][1].append((int(pfn, 16) << 12, leaf))
    return found


def test_every_mapping_that_the_guest_reports_and_no_other(guest):
    said = mappings_said(guest.said)
    assert len(said[NVME][1]) == 24
    assert sorted(said) == [found.device for found in vtd.devices(guest.read, guest.register)]
    for device, (root, mappings) in said.items():
        found = vtd.device_table(guest.read, guest.register, device)
        assert found.second == (root, 4)
        records = list(vtd.page_table(guest.memory, found).scan())
        assert [(leaf.iova, leaf.item) for leaf in records] == mappings
        rights = {1: "r", 2: "w", 3: "rw"}
        expected = [(item & ~0xFFF, rights[item & 3]) for _, item in mappings]
        assert [(leaf.address, leaf.prot) for leaf in records] == expected


def test_devices_are_those_that_the_guest_reports(guest):
    names = [line.split()[0] for line in guest.said if re.match(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\t", line)]
    found = list(vtd.devices(guest.read, guest.register))
    assert [vtd.name_of(table.device) for table in found] == names
    assert {table.kind for table in found} == {"second"}
    assert f"00:02.0  domain {found[2].domain}  second stage at" in str(found[2])
    assert vtd.device_table(guest.read, guest.register, vtd.number_of("07:00.0")) is None


def test_translations(guest):
    table = vtd.page_table(guest.memory, vtd.device_table(guest.read, guest.register, NVME))
    (iova, item), *_ = mappings_said(guest.said)[NVME][1]
    assert table.translate(iova + 0x123) == (item & ~0xFFF) + 0x123
    assert table.translate(iova - 1) is None


def test_the_command(guest, tmp_path):
    base, end = min(guest.memory), max(guest.memory) + 4096
    dump = bytearray(end - base)
    for at, page in guest.memory.items():
        dump[at - base : at - base + 4096] = page.tobytes()
    path = tmp_path / "dump"
    path.write_bytes(dump)
    words = ["walk", "--format", "vtd-root", "--root", hex(guest.register), "--base", hex(base), str(path)]
    run = CliRunner().invoke(cli, words)
    assert run.exit_code == 0 and "00:02.0  domain" in run.output, run.output
    listed = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert [d["name"] for d in listed] == [vtd.name_of(d.device) for d in vtd.devices(guest.read, guest.register)]
    run = CliRunner().invoke(cli, [*words, "--device", "00:02.0", "--json"])
    assert sum(t["leaves"] for t in json.loads(run.output)["totals"]) == 24
    run = CliRunner().invoke(cli, [*words, "--device", "09:00.0"])
    assert run.exit_code == 1 and "nothing is set up for 09:00.0" in run.output
    run = CliRunner().invoke(cli, [*words, "--device", "x"])
    assert run.exit_code == 1 and "bus:device.function" in run.output
    words[2] = "vtdss"
    run = CliRunner().invoke(cli, [*words, "--device", "00:02.0"])
    assert run.exit_code == 1 and "--device goes with" in run.output


def test_entries_that_are_not_there_or_make_no_sense():
    with pytest.raises(OSError, match="not in the memory"):
        vtd.device_table(lambda address: None, 0x1000, 0)
    with pytest.raises(OSError, match="bits 11:10"):
        vtd.device_table({}.get, 0x1C00, 0)
    with pytest.raises(ValueError, match="bus:device"):
        vtd.number_of("00:20.9")
    through = {0x1000: 0x2001, 0x1008: 0, 0x2000: 1 | 2 << 2, 0x2008: 7 << 8}
    found = vtd.device_table(through.get, 0x1000, 0)
    assert (found.kind, found.domain) == ("pass", 7) and "not translated" in str(found)
    with pytest.raises(OSError, match="untranslated"):
        vtd.page_table({}, found)


def test_first_stage_and_nested_of_scalable_mode():
    items = {0x1000: 0x2001, 0x1008: 0, 0x2000: 0x3001, 0x2008: 5, 0x2010: 0, 0x2018: 0, 0x3000: 0x4001}
    items |= {0x4000 + 64 * 5: 1 | 1 << 6, 0x4008 + 64 * 5: 9, 0x4010 + 64 * 5: 0x5000}
    found = vtd.device_table(items.get, 0x1400, 0)
    assert found == (0, 9, "first", (0x5000, 4), None)
    assert vtd.page_table({}, found).format == "x86_64"
    items |= {0x4000 + 64 * 5: 0x6000 | 1 | 3 << 6 | 1 << 2}
    found = vtd.device_table(items.get, 0x1400, 0)
    assert found == (0, 9, "nested", (0x5000, 4), (0x6000, 3)) and "over" in str(found)
    assert "through" in repr(vtd.page_table({}, found))
