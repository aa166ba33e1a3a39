"""A declaration that no inventory can agree with is refused."""

from __future__ import annotations

import pytest

from fleet.declaration import FleetDeclaration
from fleet.errors import InvalidInputError
from tests.fleet.inventory_records import a_node, declared


@pytest.mark.parametrize("regions", [(), ("us", "eu"), ("eu", "eu"), ("a b",)])
def test_regions_are_distinct_sorted_names(regions: tuple[str, ...]) -> None:
    """They become partitions: first and last must span all."""
    with pytest.raises(InvalidInputError, match="region"):
        FleetDeclaration(regions, ())


def test_a_node_lies_in_a_declared_region() -> None:
    """The error names the node and its region."""
    with pytest.raises(InvalidInputError, match=r"region of node n1: 'us'"):
        FleetDeclaration(("eu",), (declared(a_node("n1", "us")),))
    assert FleetDeclaration(("us",), (declared(a_node("n1", "us")),)).nodes
