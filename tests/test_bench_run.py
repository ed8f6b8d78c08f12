# SPDX-License-Identifier: Apache-2.0
"""A small run of the benchmark on the real engine, its document, and the reports made of it."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from iommufd_fast.bench import memory, schema
from iommufd_fast.bench.cpath import CPath
from iommufd_fast.bench.matrix import Plan
from iommufd_fast.bench.paths import WrongAnswer
from iommufd_fast.bench.pypath import PythonPath
from iommufd_fast.bench.run import run
from iommufd_fast.cli.root import cli
from iommufd_fast.report import growth, html, pick, plots, table

TINY = {"live": (0, 50), "lengths": (4096, 65536), "batches": (1, 8), "memory": ("anonymous", "memfd", "hugetlb"),
        "rounds": 2, "seconds": 0.002, "growth": 1000}  # fmt: skip


@pytest.fixture(scope="module")
def document():
    seen = []
    made = run(Plan(**TINY), lambda done, total, what: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0 and seen == sorted(seen)
    return json.loads(json.dumps(made))


def test_the_document_fits_its_schema(document):
    assert schema.check(document) is document
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema.SCHEMA)
    jsonschema.validate(document, schema.SCHEMA)


def test_documents_of_the_versions_before_are_read(document, tmp_path):
    old = copy.deepcopy(document)
    del old["growth"]
    for version in reversed(schema.OLD):
        old["schema"] = version
        if version == schema.OLD[0]:
            del old["provider"]
            for row in old["results"]:
                del row["iova"], row["in_kernel"]
        (tmp_path / "old.json").write_text(json.dumps(old))
        assert schema.load(tmp_path / "old.json") == {**document, "growth": []}
    old["schema"] = "iommufd-fast-bench/0"
    (tmp_path / "older.json").write_text(json.dumps(old))
    with pytest.raises(schema.SchemaError):
        schema.load(tmp_path / "older.json")


def test_time_inside_a_kernel_has_a_column_where_there_is_any(document):
    assert "in kernel" not in table.head(document["results"])
    made = copy.deepcopy(document)
    made["results"][0]["in_kernel"] = 1234.0
    made["provider"] = {"name": "kernel", "device": "mock", "in_kernel": "tracefs"}
    head = table.head(made["results"])
    rows = [row for row, _ in table.rows(made["results"], made["results"][0]["path"])]
    assert rows[0][head.index("in kernel")] == "1.23 µs" and {len(row) for row in rows} == {len(head)}
    assert "device mock" in html.page(made) and "in kernel" in html.page(made)


def test_every_case_has_its_rows(document):
    cases = [c for c in Plan(**TINY).cases if not any(m.startswith(c.memory) for m in document["missing"])]
    wanted = {
        (*c.place, c.memory, c.length, c.batch, c.pattern, op) for c in cases for op in ("map", "translate", "unmap")
    }
    wanted -= {w for w in wanted if w[-2] == "churn" and w[-1] == "translate"}
    keys = ("preset", "policy", "path", "live", "page", "iova", "memory", "length", "batch", "pattern", "op")
    rows = [tuple(r[k] for k in keys) for r in document["results"]]
    assert len(rows) == len(set(rows)) and set(rows) == wanted


def test_the_figures_hang_together(document):
    for r in document["results"]:
        assert r["min"] <= r["p50"] <= r["p90"] <= r["p99"] <= r["max"]
        assert r["quantiles"] == sorted(r["quantiles"]) and r["quantiles"][-1] == pytest.approx(r["max"], abs=0.02)
        assert len(r["round_medians"]) == TINY["rounds"]
        assert r["per_second"] * r["per_call"] == pytest.approx(1e9, rel=0.02)
        assert r["bytes_per_second"] == pytest.approx(r["per_second"] * r["length"], rel=1e-6)
        assert sum(int(size) * n for size, n in r["leaves"].items()) == r["length"]
        if r["page"] == "4K":
            assert set(r["leaves"]) == {"4096"}


def test_what_cannot_be_measured_is_said(document):
    assert all(m.startswith("hugetlb: ") and "free pages of 2 MiB" in m for m in document["missing"])
    assert bool(document["missing"]) != any(r["memory"] == "hugetlb" for r in document["results"])


@pytest.mark.parametrize("path", [CPath, PythonPath])
def test_dma_that_does_not_arrive_is_found_out(path, monkeypatch):
    monkeypatch.setattr(path, "dma", lambda self, iova, buffer, write: None)
    with pytest.raises(WrongAnswer, match="what the device wrote at 0x"):
        run(Plan(**TINY | {"paths": ("c",) if path is CPath else ("python",)}))


@pytest.mark.parametrize("path", [CPath, PythonPath])
def test_a_live_mapping_that_goes_astray_is_found_out(path, monkeypatch):
    monkeypatch.setattr(path, "translate", lambda self, iovas: iovas + np.uint64(4096))
    with pytest.raises(WrongAnswer, match="a live mapping does not translate to its page any more"):
        run(Plan(**TINY | {"paths": ("c",) if path is CPath else ("python",)}))


def test_memory_that_is_gone_when_its_turn_comes_is_said(monkeypatch):
    real = memory.region

    def gone(kind, size, **options):
        if kind == "memfd":
            raise memory.Unavailable("memfd: somebody else has it")
        return real(kind, size, **options)

    monkeypatch.setattr(memory, "region", gone)
    made = run(Plan(**TINY | {"paths": ("c",)}))
    assert "memfd: somebody else has it" in made["missing"]
    assert made["results"] and not any(r["memory"] == "memfd" for r in made["results"])


def test_past_its_limit_a_run_still_measures_every_case_but_in_fewer_rounds():
    made = run(Plan(**TINY | {"paths": ("c",), "rounds": 5, "limit": 0.0}))
    assert {len(r["round_medians"]) for r in made["results"]} == {2}


def test_a_wrong_answer_ends_the_command_with_a_sentence(monkeypatch):
    monkeypatch.setattr(CPath, "dma", lambda self, iova, buffer, write: None)
    done = CliRunner().invoke(
        cli, ["bench", "--quick", "--path", "c", "--live", "0", "--rounds", "1", "--seconds", "0.001"]
    )
    assert done.exit_code == 1 and "Error: the engine gave a wrong answer, so there are no figures: " in done.output


def spoil(document, change):
    broken = copy.deepcopy(document)
    change(broken)
    return broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="iommufd-fast-bench/99"), r"\$.schema: expected one of iommufd-fast-bench/3"),
        (lambda d: d.pop("machine"), r"\$: 'machine' is missing"),
        (lambda d: d["results"][1].update(p50="fast"), r"\$.results\[1\].p50: expected number, got str"),
        (lambda d: d["results"][0].update(n=True), r"\$.results\[0\].n: expected integer, got bool"),
        (lambda d: d["results"][0].update(noise=-1), r"\$.results\[0\].noise: expected at least 0, got -1"),
        (lambda d: d["results"][0].update(extra=1), r"\$.results\[0\]: 'extra' is not known"),
        (lambda d: d["results"][0]["quantiles"].pop(), r"\$.results\[0\].quantiles: expected 104 values"),
        (lambda d: d["machine"]["hugetlb_free"].update(x="1"), r"\$.machine.hugetlb_free.x: expected integer"),
    ],
)
def test_a_document_that_is_not_ours_is_refused_with_the_place(document, change, message):
    with pytest.raises(schema.SchemaError, match=message):
        schema.check(spoil(document, change))


class Page(HTMLParser):
    """Collects what a browser would fetch, and checks that tags close."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched, self.open, self.data, self.tags = [], [], "", set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for key, value in attrs:
            if key in ("src", "href", "xlink:href", "data", "srcset", "action") and not (value or "").startswith("#"):
                self.fetched.append((tag, key, value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data += data


def test_the_report_needs_nothing_else(document):
    text = html.page(document)
    page = Page()
    page.feed(text)
    assert not page.fetched and not page.open
    assert "://" not in text and "@import" not in text and "url(" not in text.replace("url(#", "")
    assert {"svg", "table", "style"} <= page.tags and "link" not in page.tags
    assert json.loads(page.data.replace("<\\/", "</")) == document
    assert text.count("<svg ") == len(plots.PLOTS) + len(growth.PLOTS)
    for op in pick.OPS:
        assert f"<td class=l>{op}</td>" in text


def test_the_report_escapes_what_the_machine_says(document):
    evil = spoil(document, lambda d: d["machine"].update(cpu="</script><b>x", kernel="<i>"))
    page = Page()
    page.feed(html.page(evil))
    assert (
        not page.open and not {"b", "i"} & (page.tags - {"b"}) and json.loads(page.data.replace("<\\/", "</")) == evil
    )


def test_a_document_without_a_path_or_an_axis_still_gives_a_report(document):
    alone = spoil(
        document, lambda d: d.update(results=[r for r in d["results"] if r["path"] == "python" and not r["live"]])
    )
    text = html.page(alone)
    assert "Python path" in text and "C path" not in text
    assert plots.figure("live", alone) is None and plots.figure("distribution-c", alone) is None
    empty = spoil(document, lambda d: d.update(results=[], growth=[]))
    assert "<svg" not in html.page(empty)


def test_warnings_name_what_spoils_a_run(document):
    bad = spoil(
        document, lambda d: (d["machine"].update(build="test", load_1min=3.0), d["results"][0].update(noise=0.9))
    )
    found = " ".join(table.warnings(bad))
    for word in ("test configuration", "load 3.00", "rows have medians"):
        assert word in found


def test_the_picture(document, tmp_path):
    path = tmp_path / "o.png"
    plots.save_overview(document, path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and int.from_bytes(data[16:20], "big") > 1000
    assert len(data) < 200_000


def test_the_command_from_end_to_end(tmp_path):
    files = [str(tmp_path / name) for name in ("b.json", "r.html", "again.html", "p.png")]
    args = "bench --quick --live 0,20 --lengths 4K --batch 1,4 --memory anonymous,hugetlb --rounds 1 --seconds 0.002"
    done = CliRunner().invoke(cli, [*args.split(), "--json", files[0], "--html", files[1]])
    assert done.exit_code == 0, done.output
    for word in ("C path", "Python path", "per call", "p99", "churn"):
        assert word in done.output, done.output
    again = CliRunner().invoke(cli, ["report", files[0], "--html", files[2], "--png", files[3]])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "r.html").read_text() == (tmp_path / "again.html").read_text()
    shown = CliRunner().invoke(cli, ["report", files[0]])
    assert shown.exit_code == 0 and "C path" in shown.output
    assert json.loads(CliRunner().invoke(cli, ["bench", "--schema"]).output) == schema.SCHEMA
