"""What agents count is refused where it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.errors import InvalidInputError
from resources.local.agent_meters import parse_meters

WORK: dict[str, Any] = {"count": 3, "errors": 1, "total_s": 0.5, "durations": [1, 2] + [0] * 14}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "meters"),
        ({"task": WORK}, "meters.task"),
        ({"tasks": []}, "meters.tasks"),
        ({"tasks": WORK | {"extra": 1}}, "meters.tasks.extra"),
        ({"tasks": WORK | {"count": 4}}, "meters.tasks.count"),
        ({"tasks": WORK | {"errors": 4}}, "meters.tasks.count"),
        ({"tasks": WORK | {"count": True}}, "meters.tasks.count"),
        ({"tasks": WORK | {"count": -1}}, "meters.tasks.count"),
        ({"tasks": WORK | {"total_s": -0.1}}, "meters.tasks.total_s"),
        ({"tasks": WORK | {"total_s": "1"}}, "meters.tasks.total_s"),
        ({"tasks": WORK | {"durations": [1, 2]}}, "meters.tasks.durations"),
        ({"tasks": WORK | {"durations": [1.5, 1.5] + [0] * 14}}, "meters.tasks.durations"),
        ({"tools": WORK}, "meters.tools"),
        ({"tools": [WORK] * 40}, "meters.tools"),
        ({"tools": [WORK | {"framework": "mcp"}]}, "meters.tools[0].tool"),
        ({"tools": [WORK | {"framework": 'm"cp', "tool": "x"}]}, "meters.tools[0].framework"),
        ({"active_sessions": -1}, "meters.active_sessions"),
    ],
)
def test_wrong_meters_are_refused_by_the_path_of_what_is_wrong(value: object, field: str) -> None:
    """One error that names it; nothing of the report is kept."""
    with pytest.raises(InvalidInputError) as caught:
        parse_meters(value)
    assert caught.value.field == field
