"""The scenarios of failover: each as a text that a person can review, with bounds of its own.

The live controller and the live steps of a run act on a simulated fleet. The texts are compared as
a whole; `STATEROOM_REGENERATE=1 pytest tests/simulated` writes them anew, to be read before they
are committed. Bounds ("not before", "at the latest", "never") are asserted independently of them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.simulated.all_scenarios import ALL, BY_NAME
from tests.simulated.scenario import Scenario, broken_bounds, play, text_of

TEXTS = Path(__file__).parent / "failover_scenarios"
DOCUMENT = Path(__file__).parents[2] / "docs" / "simulator.md"


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


def test_the_document_maps_the_design_to_scenarios_that_exist() -> None:
    """Each line of its table names at least one, and each scenario stands in one."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition("| scenario of the design |")[2].partition("\n\n")[0]
    rows = table.splitlines()[2:]
    named = [re.findall(r"`([a-z_]+)`", row.rpartition("|")[0].rpartition("|")[2]) for row in rows]
    assert len(rows) > 30
    assert all(named)
    assert sorted({name for names in named for name in names}) == sorted(BY_NAME)
