# SPDX-License-Identifier: Apache-2.0
"""Which (command, errno) pairs came up, against those that the contract names."""

from __future__ import annotations

import errno as errors
from collections import Counter

from .pairs import UNREACHABLE, pairs
from .script import Sequence, Trace

ALIASES = {"ENOTSUP": "EOPNOTSUPP", "EDEADLK": "EDEADLOCK", "EWOULDBLOCK": "EAGAIN"}


def name_of(error: int) -> str:
    name = errors.errorcode.get(error, str(error))
    return ALIASES.get(name, name)


class Coverage:
    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.sequences = self.steps = self.successes = 0

    def add(self, sequence: Sequence, trace: Trace) -> None:
        names = {s.label: s.name for s in sequence.steps}
        self.sequences += 1
        for o in trace.outcomes:
            self.steps += 1
            self.successes += o.result != -1
            self.seen[names[o.label], name_of(o.errno) if o.result == -1 else "ok"] += 1

    @property
    def reached(self) -> float:
        """Of the pairs that can come up, how many did."""
        return len(pairs() & set(self.seen)) / len(pairs())

    def table(self) -> list[str]:
        """A line for each command: what came up and how often; (in parentheses) what did not."""
        lines = []
        wanted = pairs()
        for name in sorted({n for n, _ in wanted} | {n for n, _ in self.seen}):
            mine = {e: n for (c, e), n in self.seen.items() if c == name}
            cells = [f"{e} {n}" for e, n in sorted(mine.items(), key=lambda item: (item[0] != "ok", item[0]))]
            cells += [f"({e})" for c, e in sorted(wanted) if c == name and e not in mine]
            lines.append(f"{name:24} {'  '.join(cells)}")
        return lines

    def report(self) -> str:
        missed = sorted(pairs() - set(self.seen))
        lines = ["", *self.table(), ""]
        lines += [f"cannot come up: {c} {e}: {why}" for (c, e), why in sorted(UNREACHABLE.items())]
        lines += [f"not reached: {c} {e}" for c, e in missed]
        lines.append(f"{self.successes / max(1, self.steps):.1%} of {self.steps} steps succeeded")
        lines.append(f"{self.reached:.1%} of the {len(pairs())} pairs that the contract names were reached")
        return "\n".join(lines)
