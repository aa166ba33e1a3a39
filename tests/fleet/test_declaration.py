"""A declaration that no inventory can agree with is refused."""

from __future__ import annotations

import pytest

from fleet.declaration import FleetDeclaration, WorkloadReplicas
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


def test_a_workload_is_declared_once_with_a_number_of_replicas() -> None:
    """The error names the workload; one name may be in two networks."""
    cpu = WorkloadReplicas("net", "cpu", 1)
    with pytest.raises(InvalidInputError, match=r"net/cpu.*each workload once"):
        FleetDeclaration(("eu",), (), workloads=(cpu, cpu._replace(replicas=2)))
    with pytest.raises(InvalidInputError, match="replicas of workload net/cpu: -1"):
        FleetDeclaration(("eu",), (), workloads=(cpu._replace(replicas=-1),))
    other = cpu._replace(network_id="web", replicas=0)
    assert FleetDeclaration(("eu",), (), workloads=(cpu, other)).workloads == (cpu, other)
