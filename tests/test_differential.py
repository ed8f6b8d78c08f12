# SPDX-License-Identifier: Apache-2.0
"""The engine against what a real kernel answered (recorded: no guest is needed), and whether that would find bugs.

``make differential KERNEL=PATH`` is the live comparison; tests/differential is what both are made of.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from differential import generate, recorded
from differential.compare import Difference, differences
from differential.coverage import Coverage, name_of
from differential.describe import sequence_text
from differential.engine import NotPermitted, compile_executor, run_engine
from differential.found import FOUND
from differential.pairs import NAMED, PLAIN, UNREACHABLE, pairs
from differential.planted import BUGS, Copy
from differential.shrink import combined, shrink
from support import BUILD, CSRC, RELEASE


@cache
def executor() -> Path:
    return compile_executor(BUILD / "differential")


@cache
def library() -> Path:
    done = RELEASE.make("preload")
    if done.returncode:
        pytest.fail(f"the preload library does not build:\n{done.stdout}", pytrace=False)
    return RELEASE.out / "libiommufd_fast_preload.so"


def run(sequences, preload: Path | None = None):
    try:
        return run_engine(executor(), preload or library(), sequences)
    except NotPermitted as e:
        pytest.skip(str(e))


@cache
def record():
    return recorded.load()


def test_the_engine_answers_as_the_kernel_did():
    sequences, kernel = record()
    engine = run(sequences)
    found = list(differences(sequences, engine, kernel))
    if found:
        i = sequences.index(found[0].sequence)
        print(sequence_text(sequences[i], engine[i], kernel[i]))
    assert not found, f"{len(found)} of {len(sequences)} sequences differ; the first is above"


def test_the_record_is_worth_something():
    coverage = Coverage()
    for s, trace in zip(*record(), strict=True):
        coverage.add(s, trace)
    assert coverage.steps > 10_000
    assert coverage.successes / coverage.steps >= 0.6


@pytest.mark.parametrize("found", FOUND, ids=lambda f: f.name)
def test_what_was_found_once(found):
    sequence = found.sequence(0)
    last = run([sequence])[0].outcomes[-1]
    assert found.as_expected(last, name_of), last


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Copy:
    library()
    return Copy(CSRC, RELEASE.out, tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("bug", BUGS, ids=lambda b: b.name)
def test_planted_bugs_are_found(bug, copy):
    sequences, kernel = record()
    copy.plant(bug)
    try:
        found = list(differences(sequences, run(sequences, copy.build()), kernel))
    finally:
        copy.restore(bug, CSRC)
    assert found, "nothing differed"


def test_ten_bugs_at_least():
    assert len(BUGS) >= 10
    assert len({b.file for b in BUGS}) >= 8


def test_one_seed_gives_one_list():
    first, second = ([s.encode() for s in generate.sequences(3, 500)] for _ in range(2))
    assert first == second
    assert first != [s.encode() for s in generate.sequences(4, 500)]


def test_scripts_are_read_back_as_they_were():
    sequences = list(generate.sequences(5, 2000))
    script = b"".join(s.encode() for s in sequences)
    assert b"".join(s.encode() for s in recorded.decode_script(script)) == script


def test_unreachable_pairs_are_named_ones():
    named = {(name, e) for name, line in [*NAMED.items(), *PLAIN.items()] for e in line.split()}
    assert set(UNREACHABLE) <= named
    assert all(UNREACHABLE.values())
    assert not pairs() & set(UNREACHABLE)


def test_shrinking_leaves_what_is_needed():
    """A judge for whom a sequence differs at its last step when steps 3 and 7 are in it."""
    sequence = next(generate.sequences(1, 60))
    last = sequence.steps[40]
    found = Difference(sequence, last.label)
    needed = {sequence.steps[3].label, sequence.steps[7].label}

    def judge(many):
        return [Difference(s, last.label) if needed <= {x.label for x in s.steps} else None for s in many]

    small = shrink(found, judge)
    assert {s.label for s in small.sequence.steps} == needed | {last.label}
    assert combined(sequence, [sequence]).steps == sequence.steps
