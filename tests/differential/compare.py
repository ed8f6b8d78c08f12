# SPDX-License-Identifier: Apache-2.0
"""Two traces of one sequence, and the one place that says what may differ (docs/differences.md says why)."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace

from .script import Outcome, Sequence, Step, Trace

EXTENSION_NOIOMMU = 8


def normalised(step: Step, outcome: Outcome) -> Outcome:
    """What both sides have to agree on; the answer to one question only depends on how a kernel was built."""
    if step.name == "VFIO_CHECK_EXTENSION" and step.args.get("a") == EXTENSION_NOIOMMU and outcome.result >= 0:
        return replace(outcome, result=0)
    return outcome


@dataclass(frozen=True)
class Difference:
    """The first step of a sequence that went differently; `label` None: how the processes ended."""

    sequence: Sequence
    label: int | None

    @property
    def step(self) -> Step | None:
        return next((s for s in self.sequence.steps if s.label == self.label), None)


def difference(sequence: Sequence, engine: Trace, kernel: Trace) -> Difference | None:
    steps = {s.label: s for s in sequence.steps}
    for a, b in zip(engine.outcomes, kernel.outcomes, strict=False):
        if normalised(steps[a.label], a) != normalised(steps[b.label], b):
            return Difference(sequence, a.label)
    if len(engine.outcomes) != len(kernel.outcomes) or engine.status != kernel.status:
        return Difference(sequence, None)
    return None


def differences(sequences: Many[Sequence], engine: Many[Trace], kernel: Many[Trace]) -> Iterable[Difference]:
    for s, a, b in zip(sequences, engine, kernel, strict=True):
        if found := difference(s, a, b):
            yield found
