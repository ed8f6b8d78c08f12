# SPDX-License-Identifier: Apache-2.0
"""What must be true of a trace by itself: a plain model of the live mappings, kept beside the engine.

The ledger is the independent witness of a replay: it says what each event means (which maps an unmap removes) and
what every address must translate to, and it finds traces that contradict themselves before the engine sees them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from .trace import Event, Trace, TraceError

HINT = "record from the start of the device's work, or use --skip-unknown"


class Ledger:
    """The live mappings of a trace: each event is checked against them, then applied."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._starts: list[int] = []
        self._live: dict[int, Event] = {}

    def __len__(self) -> int:
        return len(self._live)

    def inside(self, iova: int, end: int) -> list[Event]:
        """Live maps that intersect [iova, end), ascending."""
        at = bisect_right(self._starts, iova) - 1
        if at < 0 or self._live[self._starts[at]].end <= iova:
            at += 1
        stop = bisect_left(self._starts, end)
        return [self._live[s] for s in self._starts[at:stop]]

    def map(self, event: Event) -> None:
        hit = self.inside(event.iova, event.end)
        if hit:
            raise TraceError(
                self.name, event.line, "a free range", f"a {event} over the {hit[0]} of line {hit[0].line}"
            )
        insort(self._starts, event.iova)
        self._live[event.iova] = event

    def pieces(self, event: Event) -> list[Event]:
        """The maps that this unmap removes: exactly those that tile its range. Empty when it meets none at all."""
        hit = self.inside(event.iova, event.end)
        if not hit:
            return []
        at = event.iova
        for piece in hit:
            if piece.iova != at:
                first, last = min(piece.iova, at), max(piece.iova, at)
                what = "a hole" if piece.iova > at else f"a cut through the {piece} of line {piece.line}"
                raise TraceError(
                    self.name, event.line, "whole mapped ranges", f"an {event} with {what} at {first:#x}-{last:#x}"
                )
            at = piece.end
        if at != event.end:
            last_piece = hit[-1]
            what = "a hole" if at < event.end else f"a cut through the {last_piece} of line {last_piece.line}"
            raise TraceError(self.name, event.line, "whole mapped ranges", f"an {event} with {what} at its end")
        return hit

    def unmap(self, event: Event) -> list[Event]:
        pieces = self.pieces(event)
        if not pieces:
            raise TraceError(self.name, event.line, f"a range that an earlier line mapped ({HINT})", f"an {event}")
        at = bisect_left(self._starts, event.iova)
        del self._starts[at : at + len(pieces)]
        for piece in pieces:
            del self._live[piece.iova]
        return pieces


def without_unknown(trace: Trace) -> tuple[Trace, int]:
    """The trace without unmaps of ranges that were mapped before the recording began, and how many there were."""
    ledger, kept = Ledger(trace.name), []
    for event in trace.events:
        if event.is_map:
            ledger.map(event)
        elif ledger.pieces(event):
            ledger.unmap(event)
        else:
            continue
        kept.append(event)
    return Trace(trace.name, tuple(kept), trace.skipped), len(trace.events) - len(kept)
