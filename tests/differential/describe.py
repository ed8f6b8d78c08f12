# SPDX-License-Identifier: Apache-2.0
"""Steps and what came of them, in words."""

from __future__ import annotations

import errno as errors

from .script import Outcome, Sequence, Step, Trace, Value
from .structs import COMMANDS


def number(value: Value) -> str:
    return str(value) if not isinstance(value, int) else str(value) if -10 < value < 10 else f"{value:#x}"


def fields(step: Step) -> list[str]:
    """Of a struct, what is not zero."""
    at, data = step.blobs[0]
    patched = {to - at: value for to, _, value in step.fields}
    words = [f"size={int.from_bytes(data[:4], 'little')}"]
    for name, f in COMMANDS[step.name].fields.items():
        value = patched.get(f.offset, int.from_bytes(data[f.offset : f.offset + f.width], "little"))
        if value != 0:
            words.append(f"{name}={number(value)}")
    return words


def step_text(step: Step) -> str:
    words = [f"{step.label:3} {step.name}"]
    blobs = step.blobs
    if step.name in COMMANDS and blobs:
        words += fields(step)
        blobs = blobs[1:]
    words += [f"{k}:{number(v)}" for k, v in step.args.items()]
    words += [f"[{offset:#x}]={data.hex()[:64]}" for offset, data in blobs]
    return " ".join(words)


def outcome_text(outcome: Outcome | None) -> str:
    if outcome is None:
        return "nothing"
    failed = outcome.result == -1
    what = errors.errorcode.get(outcome.errno, str(outcome.errno)) if failed else number(outcome.result)
    return " ".join([what, *(f"[{offset:#x}]={data.hex()[:96]}" for offset, data in outcome.changes)])


def sequence_text(sequence: Sequence, engine: Trace, kernel: Trace) -> str:
    """Every step with what the kernel said, and what the engine said where that is something else."""
    ours = {o.label: o for o in engine.outcomes}
    theirs = {o.label: o for o in kernel.outcomes}
    lines = [f"sequence {sequence.number}, flags {sequence.flags}, {sequence.memlock} pages may be locked"]
    for step in sequence.steps:
        a, b = ours.get(step.label), theirs.get(step.label)
        lines.append(f"{step_text(step)}\n      kernel {outcome_text(b)}")
        if a != b:
            lines.append(f"      ENGINE {outcome_text(a)}")
    if engine.end != kernel.end:
        lines.append(f"      kernel: {kernel.end}; ENGINE: {engine.end}")
    return "\n".join(lines)
