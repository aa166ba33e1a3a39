"""The scenarios of failover: each as a text that a person can review, with bounds of its own.

The live controller and the live steps of a run act on a simulated fleet. The texts are compared as
a whole; `STATEROOM_REGENERATE=1 pytest tests/simulated` writes them anew, to be read before they
are committed. Bounds ("not before", "at the latest", "never") are asserted independently of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.simulated.scenario import Scenario, broken_bounds, play, text_of
from tests.simulated.scenarios_fleet import SCENARIOS as FLEET
from tests.simulated.scenarios_nodes import SCENARIOS as NODES

TEXTS = Path(__file__).parent / "failover_scenarios"
ALL = (*NODES, *FLEET)


@pytest.mark.parametrize("scenario", ALL, ids=lambda one: one.name)
def test_a_scenario_goes_as_written_and_within_its_bounds(scenario: Scenario) -> None:
    """Promises are checked after every step, bounds at the end, the text as a whole."""
    drive = play(scenario)
    assert broken_bounds(scenario, drive) == []
    path, text = TEXTS / f"{scenario.name}.txt", text_of(scenario, drive)
    if os.environ.get("STATEROOM_REGENERATE"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def test_every_text_belongs_to_a_scenario_and_has_a_name_of_its_own() -> None:
    """A lost or left over file must not pass."""
    names = [one.name for one in ALL]
    assert len(set(names)) == len(names)
    assert sorted(path.stem for path in TEXTS.glob("*.txt")) == sorted(names)
