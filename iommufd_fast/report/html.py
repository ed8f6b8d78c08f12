# SPDX-License-Identifier: Apache-2.0
"""One HTML file that needs nothing else: style, plots (SVG) and the data itself are inside."""

from __future__ import annotations

import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from . import growth, peers, pick, plots, table
from .units import rate_text, time_text

_CSS = """ :root { --ink:#0f172a; --soft:#475569; --line:#e2e8f0; --paper:#fff; --back:#f8fafc; --mark:#2563eb;
--hover:#f1f5f9; --warn:#fffbeb; --edge:#d97706 } *
{ box-sizing:border-box } body { margin:0; background:var(--back); color:var(--ink); font:15px/1.5
system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif } main { max-width:1240px; margin:0 auto; padding:28px
22px 60px } h1 { font-size:26px; margin:0 0 2px; letter-spacing:-.01em } h2 { font-size:18px; margin:34px 0 10px }
p.sub { color:var(--soft); margin:0 0 20px } .tiles { display:grid;
grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px } .tile,figure,.box { background:var(--paper);
border:1px solid var(--line); border-radius:10px } .tile { padding:12px 16px } .tile b { display:block;
font-size:25px; line-height:1.25; font-variant-numeric:tabular-nums } .tile span { color:var(--soft); font-size:13px
} .plots { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr)); gap:14px } figure {
margin:0; padding:10px } figure svg { width:100%; height:auto; display:block } .box { padding:6px 16px;
overflow-x:auto } dl { display:grid; grid-template-columns:max-content 1fr; gap:3px 18px; margin:8px 0 } dt {
color:var(--soft) } dd { margin:0 } table { border-collapse:collapse; width:100%; font-size:13px;
font-variant-numeric:tabular-nums } th,td { padding:3px 9px; text-align:right; white-space:nowrap } th {
color:var(--soft); font-weight:600; border-bottom:1px solid var(--line) } th.l,td.l { text-align:left } tr.new td {
border-top:1px solid var(--line) } tbody tr:hover { background:var(--hover) } .warn { border-left:4px solid var(--edge);
background:var(--warn); padding:8px 14px; border-radius:6px; margin:14px 0 } .warn p, li { margin:2px 0 } footer {
color:var(--soft); margin-top:34px; font-size:13px } @media (prefers-color-scheme:dark) { :root { --ink:#e2e8f0;
--soft:#94a3b8; --line:#334155; --paper:#0f172a; --back:#020617; --hover:#1e293b; --warn:#451a03; --edge:#f59e0b }
figure { background:#121212 } figure svg { filter:invert(1) hue-rotate(180deg) contrast(.86) } }
"""
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def _own_names(text: str, prefix: str) -> str:
    """Names inside a drawing, made its own: several drawings share the page, and the same data must give the same
    page."""
    names = {name: f"{prefix}-{i}" for i, name in enumerate(dict.fromkeys(re.findall(r'\sid="([^"]+)"', text)))}
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{names[m[1]]}"', text)
    return re.sub(r"#([\w.-]+)(?=[\")])", lambda m: f"#{names.get(m[1], m[1])}", text)


def svg(figure: Figure, name: str, title: str) -> str:
    """The figure as inline SVG: no metadata, no outside names, text as text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = _own_names(text, name)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text, count=2)
    text = re.sub(r"font: ?([\d.]+px)? ?'DejaVu Sans'[^;\"]*", lambda m: f"font: {m[1] or '10px'} {_FONTS}", text)
    text = text.replace("'DejaVu Sans', 'Bitstream", f"{_FONTS}, 'Bitstream")
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def _tiles(document: dict[str, Any]) -> str:
    results = document["results"]
    tiles = []
    for path, name in (("c", "C"), ("python", "Python")):
        for op in pick.OPS:
            found = pick.one(results, path, op)
            if found:
                tiles.append(
                    (time_text(found["per_call"]), f"{op} of 4K from {name}; {rate_text(found['per_second'])}")
                )
    most = max(pick.values(results, "live"), default=0)
    far = pick.one(results, "c", "map", live=most) if most else None
    if far:
        tiles.append((time_text(far["per_call"]), f"map of 4K from C with {most:,} others live".replace(",", " ")))
    return "".join(f'<div class="tile"><b>{escape(a)}</b><span>{escape(b)}</span></div>' for a, b in tiles)


def _drawn(figures: dict[str, Figure | None]) -> str:
    parts = []
    for name, figure in figures.items():
        if figure is not None:
            parts.append(f"<figure>{svg(figure, name, figure.axes[0].get_title(loc='left'))}</figure>")
    inside = "\n".join(parts)
    return f'<div class="plots">\n{inside}\n</div>' if parts else ""


def _growth(document: dict[str, Any], stored: dict[str, Any]) -> str:
    """The curves, ours of this run and the peers' of theirs; nothing when the run has none."""
    drawn = _drawn(growth.figures(document, stored))
    if not drawn:
        return ""
    where = f"* Not of this run, but measured {peers.where(stored)}. {peers.NOTES}"
    return f'<h2>Growth</h2><p class="sub">{escape(where)}</p>{drawn}'


def _cells(cells: tuple[str, ...], tag: str, head: tuple[str, ...]) -> str:
    left = ["l" if name in table.LEFT else "" for name in head]
    return "".join(f"<{tag}{' class=l' if c else ''}>{escape(t)}</{tag}>" for t, c in zip(cells, left, strict=True))


def _table(document: dict[str, Any], path: str) -> str:
    head = table.head(document["results"])
    body = "".join(
        f"<tr{' class=new' if new else ''}>{_cells(row, 'td', head)}</tr>\n"
        for row, new in table.rows(document["results"], path)
    )
    return f"<table><thead><tr>{_cells(head, 'th', head)}</tr></thead><tbody>\n{body}</tbody></table>" if body else ""


def _facts(document: dict[str, Any]) -> str:
    return "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in table.machine_lines(document))


def page(document: dict[str, Any], stored: dict[str, Any] | None = None) -> str:
    """The whole report as text; `stored` is a run of `make peers`, by default the one that comes with the package."""
    stored = stored or peers.load()
    plan = document["plan"]
    warn = "".join(f"<p>{escape(w)}</p>" for w in table.warnings(document))
    tables = [(name, _table(document, path)) for path, name in (("c", "C path"), ("python", "Python path"))]
    drawn = _drawn({name: plots.figure(name, document) for name in plots.PLOTS})
    data = json.dumps(document).replace("</", "<\\/")
    sub = f"{document['started']}, {document['seconds']:.0f} s, {plan['rounds']} rounds, seed {plan['seed']}" + (
        ", quick" if plan["quick"] else ""
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>iommufd-fast bench</title><style>{_CSS}</style></head><body><main>
<h1>DMA mapping latency</h1><p class="sub">iommufd-fast bench, {escape(sub)}</p>
<div class="tiles">{_tiles(document)}</div>
{f'<div class="warn">{warn}</div>' if warn else ""}
<h2>Plots</h2>
{drawn}
{_growth(document, stored)}
<h2>Machine</h2><div class="box"><dl>{_facts(document)}</dl></div>
{"".join(f'<h2>{name}</h2><div class="box">{body}</div>' for name, body in tables if body)}
<h2>How it was measured</h2><div class="box"><ul>{"".join(f"<li>{escape(m)}</li>" for m in table.METHOD)}</ul></div>
<footer>The figures behind this page are in it, as JSON ({escape(document["schema"])}).</footer>
</main><script type="application/json" id="data">{data}</script></body></html>
"""


def write(document: dict[str, Any], path: str | Path, stored: dict[str, Any] | None = None) -> None:
    """Write the report of a checked document; `stored` as in page()."""
    Path(path).write_text(page(document, stored), encoding="utf-8")
