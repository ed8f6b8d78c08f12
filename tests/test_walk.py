# SPDX-License-Identifier: Apache-2.0
"""``iommufd-fast walk`` over dumps, and pictures of address spaces."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from iommufd_fast._core import _picture
from iommufd_fast._core.pagetable import PageTable
from iommufd_fast.cli.root import cli
from iommufd_fast.cli.walk import overlaps

MIB = 1 << 20
FORMATS = {
    "vtdss": ["--va-bits", "48"],
    "amdv1": [],
    "x86_64": ["--va-bits", "48", "--feature", "sign_extend"],
    "riscv64": ["--va-bits", "39", "--feature", "napot"],
    "riscv64_x4": ["--va-bits", "41"],
    "arm_s1": ["--granule", "16384"],
    "arm_s2": ["--va-bits", "40", "--oa-bits", "40"],
}


def shape_of(options):
    names = dict(zip(options[::2], options[1::2], strict=True))
    shape = {k[2:].replace("-", "_"): int(v) for k, v in names.items() if k != "--feature"}
    return shape | ({names["--feature"]: True} if "--feature" in names else {})


@pytest.fixture(params=FORMATS)
def dump(request, tmp_path):
    """A dump from 16 MiB on, with a table at 17 MiB that maps 2 MiB, and again a part of what that reaches."""
    options = FORMATS[request.param]
    with PageTable(request.param, **shape_of(options)) as table:
        table.map(MIB, 64 * MIB, 2 * MIB)
        table.map(512 * MIB, 65 * MIB, 65536, "r")
        path = tmp_path / "dump"
        path.write_bytes(bytes(MIB) + table.image(17 * MIB).tobytes())
        leaves = list(table.leaves())
    words = ["walk", "--format", request.param, "--root", "0x1100000", "--base", hex(16 * MIB), *options, str(path)]
    return SimpleNamespace(words=words, leaves=leaves, path=path)


def call(words, status=0):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == status, done.output
    return done.output


def test_list(dump):
    found = json.loads(call([*dump.words, "--json"]))
    assert sum(run["bytes"] // run["size"] for run in found["runs"]) == len(dump.leaves)
    assert sum(t["bytes"] for t in found["totals"]) == 2 * MIB + 65536 and found["complete"]
    assert sum(t["bytes"] for t in found["totals"] if t["prot"] == "r") == 65536
    assert sum(o["bytes"] for o in found["overlaps"]) == 65536
    assert {(o["iova"] - o["address"], o["other"] - o["address"]) for o in found["overlaps"]} == {
        (-63 * MIB, 447 * MIB)
    }
    assert found["faults"] == []
    text = call(dump.words)
    for part in ("mapped", "totals", "overlaps", "0x0000000000100000 - ", f"{64 * MIB:#018x}", " r "):
        assert part in text, text
    assert "faults" not in text and "stopped" not in text
    assert "stopped after 2 leaves" in call([*dump.words, "--limit", "2"])


def test_walks(dump):
    text = call([*dump.words, hex(MIB + 0x123), "0x20000005", 5 * MIB])
    assert f"└─ {64 * MIB + 0x123:#x}  rw, in a leaf of" in text
    assert f"└─ {65 * MIB + 5:#x}  r, in a leaf of" in text and "nothing is mapped" in text
    assert "level 0  [0x11" in text and "[0x1100000" in text
    first, second, third = json.loads(call([*dump.words, "--json", MIB, "0x20000005", 5 * MIB]))
    assert first["address"] == 64 * MIB and first["leaf"]["prot"] == "rw" and second["leaf"]["prot"] == "r"
    assert third["fault"]["reason"] == "hole" and "nothing is mapped" in third["why"]
    levels = [step["level"] for step in first["steps"]]
    assert levels == list(range(levels[0], -1, -1)) and first["steps"][-1]["item"] == first["leaf"]["item"]


def test_a_short_dump(dump):
    dump.path.write_bytes(dump.path.read_bytes()[: MIB + 64])
    found = json.loads(call([*dump.words, "--json"]))
    assert {f["reason"] for f in found["faults"]} == {"memory"}
    text = call(dump.words)
    assert "faults" in text and "is not in the memory" in text
    assert "not in the memory" in call([*dump.words, 512 * MIB])


def test_svg(dump, tmp_path):
    call([*dump.words, "--svg", tmp_path / "a.svg"])
    titles = [t.text for t in ET.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert any(t.startswith("0x100000-") and t.endswith("rw") for t in titles)
    assert any(t.startswith("0x20000000-") and t.endswith(", r") for t in titles)


@pytest.mark.parametrize(
    "words, text",
    [
        (["--root", "0x1100008"], "root must be a multiple"),
        (["--root", "x"], "'x' is not a number"),
        (["--root", str(1 << 64)], "outside 0 to"),
        (["--format", "pdp11"], "pdp11"),
        (["--va-bits", "70"], "va_bits is 70"),
    ],
)
def test_errors_are_sentences(dump, words, text):
    output = call([*dump.words, *words], status=2 if text[0] in "'op" else 1)
    assert text in output and "Traceback" not in output


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    assert "Error: " in call(["walk", "--format", "vtdss", "--root", "0", tmp_path / "empty"], status=1)


@pytest.mark.parametrize("format", FORMATS)
def test_garbage_ends(format, tmp_path):
    random = Random(format)
    items = np.array([random.getrandbits(64) >> random.randrange(52) for _ in range(64 * 512)], np.uint64)
    (tmp_path / "garbage").write_bytes(items.tobytes())
    words = ["walk", "--format", format, "--root", "0", *FORMATS[format], "--limit", "2000", tmp_path / "garbage"]
    assert json.loads(call([*words, "--json"]))["runs"] is not None
    assert call([*words, *range(0, 1 << 32, 1 << 28)]).count("└─") >= 16


def leaf(iova, address, size=4096, prot="rw"):
    return SimpleNamespace(iova=iova, address=address, size=size, prot=prot)


def test_runs():
    page = 4096
    leaves = [leaf(0, 0), leaf(page, page), leaf(2 * page, 9 * page), leaf(3 * page, 10 * page, prot="r")]
    assert [r.bytes for r in _picture.runs(leaves)] == [2 * page, page, page]
    assert list(_picture.runs([])) == []


def test_overlaps():
    found = list(_picture.runs([leaf(0, 0x5000, 0x4000), leaf(0x10000, 0x6000), leaf(0x20000, 0x8000, 0x2000)]))
    assert list(overlaps(found)) == [
        {"address": 0x6000, "bytes": 0x1000, "iova": 0x1000, "other": 0x10000},
        {"address": 0x8000, "bytes": 0x1000, "iova": 0x3000, "other": 0x20000},
    ]
    assert list(overlaps(found[:1])) == []


def test_size_names():
    names = {1: "1 B", 4096: "4 KiB", 6144: "6 KiB", 3 << 20: "3 MiB", (1 << 20) + 512: "1.0 MiB", 1 << 39: "512 GiB"}
    assert {n: _picture.size_name(n) for n in names} == names


def test_the_picture_of_a_table():
    with PageTable("vtdss") as table:
        assert "nothing is mapped" in table._repr_svg_()
        for i in range(100):  # more parts than rows
            table.map(i * 1000 * MIB, 0x1000, 4096 if i % 2 else 2 * MIB)
        table.map(2**50, 2**40, 1 << 30)
        picture = ET.fromstring(table._repr_svg_())
        assert PageTable.over({}, format="vtdss", root=0, through=table)._repr_svg_() is None
    texts = [t.text for t in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0].startswith("PageTable vtdss") and "1 GiB: 1 GiB" in texts
    assert sum(text.startswith("0x") for text in texts) == _picture.ROWS
    more = _picture.svg([leaf(i << 20, 0) for i in range(10)], "t & <u>", 5)
    assert "t &amp; &lt;u&gt; (the first 5 leaves)" in more
    assert len(list(ET.fromstring(more).iter("{http://www.w3.org/2000/svg}title"))) == 5
