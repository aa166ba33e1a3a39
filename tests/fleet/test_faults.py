"""Fault scripts: only playable ones exist, their text reads back, errors say where and what."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import PROBLEMS_LISTED_MAX, InvalidDocumentError, InvalidInputError
from fleet.fault_script import format_fault_script, parse_fault_script
from fleet.faults import (
    FAULT_KINDS,
    CapacityLoss,
    ClockSkew,
    Crash,
    Fault,
    Flapping,
    Partition,
    Pause,
    SlowHeartbeats,
    Subject,
    SubjectKind,
    random_fault_script,
)

NODE = Subject(SubjectKind.NODE, "n1")
AGENT = Subject(SubjectKind.AGENT, "a1")

TABLE: list[tuple[str, Fault]] = [
    ("at 0 crash node/n1", Crash(start_s=0, subject=NODE)),
    ("at 600 for 2m crash node/n1 silent=yes",
     Crash(start_s=600, subject=NODE, duration_s=120, silent=True)),
    ("at 1d2h30m5.5s crash agent/a1", Crash(start_s=95405.5, subject=AGENT)),
    ("at 1h partition region/eu peer=region/us   # Atlantic",
     Partition(start_s=3600, subject=Subject(SubjectKind.REGION, "eu"), peer="region/us")),
    ("at 5s for 0.5 slow zone/eu-a delay_s=4.25",
     SlowHeartbeats(start_s=5, subject=Subject(SubjectKind.ZONE, "eu-a"), duration_s=0.5,
                    delay_s=4.25)),
    ("at 1 skew node/n1 skew_s=-30", ClockSkew(start_s=1, subject=NODE, skew_s=-30)),
    ("at 1 capacity-loss node/n1 gpus=2 cpu_fraction=0.5",
     CapacityLoss(start_s=1, subject=NODE, cpu_fraction=0.5, gpus=2)),
    ("at 1 for 60 flapping node/n1 up_s=20 down_s=5 mode=crash",
     Flapping(start_s=1, subject=NODE, duration_s=60, down_s=5, up_s=20, mode="crash")),
    ("at 1 for 3 pause node/n1", Pause(start_s=1, subject=NODE, duration_s=3)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "fault"), TABLE, ids=[line for line, _ in TABLE])
def test_each_kind_of_line_means_what_the_format_says(line: str, fault: Fault) -> None:
    """The table covers all kinds, units, options and comments."""
    assert parse_fault_script(f"# a comment\n\n{line}\n") == (fault,)
    assert parse_fault_script(format_fault_script([fault])) == (fault,)


def test_the_table_covers_every_kind() -> None:
    """A new kind needs a line above."""
    assert {fault.kind for _, fault in TABLE} == set(FAULT_KINDS)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_a_written_script_reads_back_as_equal_records(seed: int, faults: int) -> None:
    """Format and parse are inverse on everything that the generator can draw."""
    script = random_fault_script(
        Random(seed),
        node_ids=["n1", "n-2"],
        regions=["eu"],
        duration_s=86_400,
        faults=faults,
        region_probability=0.3,
    )
    assert parse_fault_script(format_fault_script(script)) == script


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_the_same_generator_state_draws_the_same_script(seed: int) -> None:
    """All chance comes from the generator that is passed in; starts are ordered and in range."""

    def draw() -> tuple[Fault, ...]:
        return random_fault_script(
            Random(seed), node_ids=["a", "b"], regions=["r"], duration_s=100, faults=20
        )

    script = draw()
    assert draw() == script
    assert len(script) == 20
    starts = [fault.start_s for fault in script]
    assert starts == sorted(starts)
    assert 0 <= starts[0] <= starts[-1] <= 100


def test_a_drawn_script_holds_only_the_asked_kinds_and_subjects() -> None:
    """Without regions only nodes are struck; the kinds can be chosen."""
    script = random_fault_script(
        Random(1), node_ids=["a"], duration_s=10, faults=50, kinds=["crash", "pause"]
    )
    assert {fault.kind for fault in script} == {"crash", "pause"}
    assert {str(fault.subject) for fault in script} == {"node/a"}


@pytest.mark.parametrize(
    ("arguments", "field"), [({"node_ids": []}, "node_ids"), ({"kinds": ["quake"]}, "kinds")]
)
def test_a_script_cannot_be_drawn_from_nothing(arguments: dict[str, list[str]], field: str) -> None:
    """No node and an unknown kind are named."""
    with pytest.raises(InvalidInputError) as caught:
        random_fault_script(
            Random(0), **{"node_ids": ["a"], "duration_s": 1, "faults": 1} | arguments
        )
    assert caught.value.field == field


BAD_LINES = [
    ("crash node/n1", "line", "at <time>"),
    ("at 5 crash", "line", "at <time>"),
    ("at 5 for 3 crash", "line", "at <time>"),
    ("at 1 for 2 pause", "line", "at <time>"),
    ("at soon crash node/n1", "at", "seconds like 90"),
    ("at -1 crash node/n1", "at", "seconds like 90"),
    ("at 1e3 crash node/n1", "at", "seconds like 90"),
    ("at 1h30 crash node/n1", "at", "seconds like 90"),
    ("at m crash node/n1", "at", "seconds like 90"),
    ("at 1 for 0 crash node/n1", "duration_s", "0.001 to"),
    ("at 99999999999 crash node/n1", "start_s", "0 to"),
    ("at 1 explode node/n1", "kind", "crash, partition"),
    ("at 1 crash n1", "subject", "node/<name>"),
    ("at 1 crash rack/n1", "subject", "node/<name>"),
    ("at 1 crash node/", "subject", "letters, digits"),
    ("at 1 crash node/../x", "subject", "letters, digits"),
    ("at 1 pause agent/a1", "subject", "node/<name>"),
    ("at 1 for 3 crash agent/a1", "duration_s", "restart policy"),
    ("at 1 crash agent/a1 silent=yes", "silent", "only for nodes"),
    ("at 1 crash node/n1 silent=maybe", "silent", "yes or no"),
    ("at 1 crash node/n1 loud=yes", "loud", "keys: silent"),
    ("at 1 crash node/n1 silent", "silent", "keys: silent"),
    ("at 1 pause node/n1 x=1", "x", "no keys for pause"),
    ("at 1 slow node/n1", "delay_s", "slow needs delay_s"),
    ("at 1 slow node/n1 delay_s=-1", "delay_s", "0.001 to 86400"),
    ("at 1 slow node/n1 delay_s=nan", "delay_s", "a decimal number"),
    ("at 1 slow node/n1 delay_s=1 delay_s=2", "delay_s", "each key once"),
    ("at 1 partition region/eu peer=moon", "peer", "store, controller"),
    ("at 1 partition region/eu peer=region/", "peer", "store, controller"),
    ("at 1 partition region/eu peer=region/a..b", "peer", "letters, digits"),
    ("at 1 capacity-loss node/n1", "cpu_fraction", "at least one"),
    ("at 1 capacity-loss node/n1 cpu_fraction=1.5", "cpu_fraction", "0 to 1"),
    ("at 1 capacity-loss node/n1 gpus=1.5", "gpus", "a whole number"),
    ("at 1 flapping node/n1 down_s=0.01 up_s=5", "down_s", "0.1 to"),
    ("at 1 flapping node/n1 down_s=1 up_s=5 mode=dance", "mode", "partition or crash"),
    ("at 1 skew node/n1 skew_s=99999999999", "skew_s", "-3.1536e+07 to"),
]


@pytest.mark.parametrize(("line", "field", "allowed"), BAD_LINES, ids=[row[0] for row in BAD_LINES])
def test_a_bad_line_is_refused_with_line_key_value_and_what_is_allowed(
    line: str, field: str, allowed: str
) -> None:
    """Whoever reads the error can correct the line without reading the code."""
    with pytest.raises(InvalidDocumentError) as caught:
        parse_fault_script(f"at 1 crash node/ok\n{line}\n", "drill.faults")
    (problem,) = caught.value.problems
    assert problem.source == "drill.faults line 2"
    assert problem.field == field
    assert allowed in problem.allowed
    assert str(problem) in str(caught.value)


def test_all_bad_lines_are_reported_at_once_and_counted_beyond_the_limit() -> None:
    """One error lists the first problems and counts the rest."""
    lines = [row[0] for row in BAD_LINES]
    with pytest.raises(InvalidDocumentError) as caught:
        parse_fault_script("\n".join(lines))
    assert caught.value.count == len(lines)
    assert [problem.source for problem in caught.value.problems] == [
        f"fault script line {number}" for number in range(1, PROBLEMS_LISTED_MAX + 1)
    ]
    assert f"... and {len(lines) - PROBLEMS_LISTED_MAX} more" in str(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Pause(start_s=float("nan"), subject=NODE),
        lambda: Pause(start_s=0.0, subject=NODE, duration_s=float("inf")),
        lambda: ClockSkew(start_s=0.0, subject=NODE, skew_s=float("inf")),
    ],
)
def test_a_number_that_is_none_is_refused(build: Callable[[], Fault]) -> None:
    """NaN and infinity compare oddly; they never get into a script."""
    with pytest.raises(InvalidInputError):
        build()


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    """Any text is a script or an InvalidDocumentError, never another exception."""
    problems = 0
    script: tuple[Fault, ...] = ()
    try:
        script = parse_fault_script(text)
    except InvalidDocumentError as error:
        problems = error.count
    assert problems or parse_fault_script(format_fault_script(script)) == script
