"""Columns refuse what would make one node's evidence another's."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.errors import InvalidInputError
from fleet.failover.columns import Infrastructure, node_columns
from fleet.inventory import NodePhase


def test_absent_columns_describe_a_node_that_nothing_is_wrong_with() -> None:
    """And a scalar fills a column."""
    columns = node_columns(("a", "b"), ("eu",), agents=3)
    assert len(columns) == 2
    assert columns.agents.tolist() == [3, 3]
    assert columns.heartbeat_age_s.tolist() == [0.0, 0.0]
    assert columns.region_of(1) == "eu"
    assert (columns.find("b"), columns.find("c")) == (1, None)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"node_ids": ("b", "a")}, "node_ids"),
        ({"node_ids": ("a", "a")}, "node_ids"),
        ({"colour": 1}, "columns"),
        ({"agents": [1, 2, 3]}, "agents"),
        ({"agents": np.ones((2, 1))}, "agents"),
        ({"region_index": [0, 1]}, "region_index"),
        ({"region_index": [-1, 0]}, "region_index"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments: dict[str, object], field: str) -> None:
    """Unsorted or repeated names, unknown columns, other lengths, unknown regions."""
    values = {"node_ids": ("a", "b"), "regions": ("eu",), **arguments}
    with pytest.raises(InvalidInputError) as caught:
        node_columns(**values)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_every_phase_of_the_inventory_has_a_code() -> None:
    """The names are the same."""
    assert {Infrastructure.of(phase) for phase in NodePhase} == set(Infrastructure)
