"""What is visible, and what is so, step by step, as texts that a person can review."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resources.simulated.timeline import Timeline

TIMELINES = sorted((Path(__file__).parent / "timelines").glob("*.txt"))


def test_there_are_timelines_for_each_group_of_faults() -> None:
    """A lost file must not pass as an empty test."""
    assert [path.stem for path in TIMELINES] == [
        "capacity_and_crashes",
        "crash",
        "partition",
        "pause_and_flapping",
        "slow_and_skew",
    ]


@pytest.mark.parametrize("path", TIMELINES, ids=lambda path: path.stem)
def test_a_timeline_plays_as_written(path: Path) -> None:
    """Every line of output is what the commands above it print."""
    written = path.read_text(encoding="utf-8")
    assert Timeline().play(written) == written
