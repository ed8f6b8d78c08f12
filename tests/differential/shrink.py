# SPDX-License-Identifier: Apache-2.0
"""Delta debugging of one sequence, many candidates a round, because a round costs a run on the kernel."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many

from .compare import Difference
from .script import Sequence

# Runs candidates on both sides and says of each where it differs.
Judge = Callable[[Many[Sequence]], list[Difference | None]]
ROUNDS = 40


def cut_after(found: Difference) -> Sequence:
    """What comes after the first difference has no part in it."""
    steps = found.sequence.steps
    if found.label is None:
        return found.sequence
    end = next(i for i, s in enumerate(steps) if s.label == found.label) + 1
    return found.sequence.with_steps(steps[:end])


def same(found: Difference | None, wanted: Difference) -> bool:
    if found is None:
        return False
    if wanted.step is None or found.step is None:
        return wanted.step is found.step
    return found.step.name == wanted.step.name


def candidates(sequence: Sequence, size: int) -> list[Sequence]:
    """The sequence without each run of `size` steps; the last step stays, it is the one that differs."""
    body, last = sequence.steps[:-1], sequence.steps[-1:]
    return [sequence.with_steps(body[:i] + body[i + size :] + last) for i in range(0, len(body), size)]


def combined(sequence: Sequence, shorter: Many[Sequence]) -> Sequence:
    """Without all that could be left out alone; often that can be left out together."""
    kept = [{s.label for s in c.steps} for c in shorter]
    return sequence.with_steps([s for s in sequence.steps if all(s.label in labels for labels in kept)])


def shrink(found: Difference, judge: Judge) -> Difference:
    """A sequence as short as it gets that still differs at such a step."""
    best = Difference(cut_after(found), found.label)
    size = max(1, len(best.sequence.steps) // 2)
    for _ in range(ROUNDS):
        tried = candidates(best.sequence, size)
        verdicts = judge(tried)
        good = [c for c, v in zip(tried, verdicts, strict=True) if same(v, found)]
        if len(good) > 1:
            together = combined(best.sequence, good)
            good = [together] if same(judge([together])[0], found) else good[:1]
        if good:
            best = replace_sequence(best, good[0])
        elif size == 1:
            break
        else:
            size = max(1, size // 2)
    return best


def replace_sequence(old: Difference, sequence: Sequence) -> Difference:
    return Difference(sequence, old.label)
