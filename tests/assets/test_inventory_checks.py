"""Each injected fault turns exactly its own claims red, in the severity it deserves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from fleet.inventory import AgentPhase, Gpu
from fleet.inventory_checks import OFFENDERS_MAX
from tests.assets.inventory_runs import InventoryRuns, checked, open_runs, red


@pytest.fixture
def fast(instance: dg.DagsterInstance) -> Iterator[InventoryRuns]:
    """Runs on fakes."""
    with open_runs(instance, None) as made:
        yield made


@pytest.fixture
def on_disk(instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[InventoryRuns]:
    """Runs on SQLite and a Parquet lake."""
    with open_runs(instance, tmp_path) as made:
        yield made


def silence(runs: InventoryRuns, *node_ids: str, for_s: float) -> None:
    """Some nodes stop reporting; the others go on."""
    runs.clock.advance(for_s - 1.0)
    runs.fleet.beat(*node_ids)


def kill(runs: InventoryRuns) -> None:
    """A node has been silent for longer than any patience."""
    silence(runs, "eu-1", for_s=12.0)


def delay(runs: InventoryRuns) -> None:
    """A node is late."""
    silence(runs, "eu-1", for_s=6.0)


def repeat_node(runs: InventoryRuns) -> None:
    """The US reports a node that lives in the EU."""
    stranger = runs.cluster.snapshot("eu").nodes[0]
    runs.alter("us", nodes=[*runs.cluster.snapshot("us").nodes, stranger._replace(region="us")])


def forget_node(runs: InventoryRuns) -> None:
    """A declared node is not there; its agents are then homeless."""
    runs.alter("us", nodes=runs.cluster.snapshot("us").nodes[1:])


def add_node(runs: InventoryRuns) -> None:
    """A node that nobody declared."""
    nodes = runs.cluster.snapshot("us").nodes
    runs.alter("us", nodes=[*nodes, nodes[0]._replace(node_id="us-9")])


def shrink_node(runs: InventoryRuns) -> None:
    """A node has less memory than declared, and less than it gave away."""
    nodes = runs.cluster.snapshot("us").nodes
    runs.alter("us", nodes=[nodes[0]._replace(memory_bytes=1), *nodes[1:]])


def repeat_agent(runs: InventoryRuns) -> None:
    """An agent exists in both regions."""
    agents = runs.cluster.snapshot("us").agents
    stranger = runs.cluster.snapshot("eu").agents[0]
    twin = stranger._replace(region="us", node_id="us-1")
    runs.alter("us", agents=[*agents, twin])


def lose_agent(runs: InventoryRuns) -> None:
    """An agent that is declared is not there."""
    runs.alter("us", agents=runs.cluster.snapshot("us").agents[1:])


def fail_agent(runs: InventoryRuns) -> None:
    """An agent has crashed more often than it may."""
    agents = runs.cluster.snapshot("us").agents
    failed = agents[0]._replace(phase=AgentPhase.FAILED)
    runs.alter("us", agents=[failed, *agents[1:]])


def move_agent(runs: InventoryRuns) -> None:
    """An agent is placed on a node of another region."""
    agents = runs.cluster.snapshot("us").agents
    runs.alter("us", agents=[agents[0]._replace(node_id="eu-1"), *agents[1:]])


def overcommit(runs: InventoryRuns) -> None:
    """Two agents together want more CPU than their node has."""
    agents = runs.cluster.snapshot("us").agents
    runs.alter("us", agents=[agent._replace(cpu_milli=1001) for agent in agents])


def lose_gpu(runs: InventoryRuns) -> None:
    """A GPU fell off the bus."""
    gpu = Gpu("GPU-1", "us-1", "us", 0, lost=True, observed_at=runs.clock.now())
    runs.alter("us", gpus=[gpu])


def repeat_gpu(runs: InventoryRuns) -> None:
    """Two nodes report one GPU."""
    gpu = Gpu("GPU-1", "us-1", "us", 0, temperature_c=40.0, observed_at=runs.clock.now())
    runs.alter("us", gpus=[gpu, gpu._replace(node_id="us-2")])


FAULTS: list[tuple[Callable[[InventoryRuns], None], dict[str, str]]] = [
    (kill, {"every_node_heartbeat_is_recent": "ERROR"}),
    (delay, {"every_node_heartbeat_is_recent": "WARN"}),
    (repeat_node, {"no_two_nodes_share_an_id": "ERROR", "nodes_are_as_declared": "WARN"}),
    (
        forget_node,
        {"nodes_are_as_declared": "ERROR", "every_agent_is_on_a_known_node": "ERROR"},
    ),
    (add_node, {"nodes_are_as_declared": "WARN"}),
    (shrink_node, {"nodes_are_as_declared": "WARN", "allocations_fit_every_node": "ERROR"}),
    (repeat_agent, {"no_two_agents_share_an_id": "ERROR", "agents_are_as_declared": "WARN"}),
    (lose_agent, {"agents_are_as_declared": "ERROR"}),
    (fail_agent, {"agents_are_as_declared": "ERROR"}),
    (move_agent, {"every_agent_is_on_a_known_node": "ERROR"}),
    (overcommit, {"allocations_fit_every_node": "ERROR"}),
    (lose_gpu, {"every_gpu_is_healthy": "ERROR"}),
    (repeat_gpu, {"no_two_gpus_share_a_uuid": "ERROR"}),
]


@pytest.mark.parametrize(("fault", "claims"), FAULTS, ids=[each[0].__name__ for each in FAULTS])
def test_a_fault_turns_exactly_its_own_claims_red(
    fast: InventoryRuns, fault: Callable[[InventoryRuns], None], claims: dict[str, str]
) -> None:
    """The run itself succeeds: a bad inventory is still worth having."""
    fault(fast)
    result = fast.run()
    assert result.success
    assert red(result) == claims
    for claim in claims:
        metadata = checked(result)[claim].metadata
        offending = metadata["offending"].value.records
        assert metadata["offenders"].value == len(offending) > 0


def test_the_killed_node_is_named_with_its_silence(fast: InventoryRuns) -> None:
    """The description is the sentence that an operator reads."""
    kill(fast)
    found = checked(fast.run())["every_node_heartbeat_is_recent"]
    assert found.description == (
        "of 4 nodes 3 ready, 0 late, 1 lost, 0 pending, 0 stopped; "
        "first: eu-1 (eu): lost, last heartbeat 12.0 s ago, phase unknown"
    )
    assert found.metadata["lost"].value == 1
    assert found.metadata["oldest_heartbeat_s"].value == 12.0


def test_a_node_that_comes_back_is_green_again(fast: InventoryRuns) -> None:
    """No claim remembers."""
    kill(fast)
    assert red(fast.run())
    fast.fleet.beat("eu-1")
    fast.fleet.leases.pop("eu-1")
    fast.fleet.beat()
    assert red(fast.run()) == {}


def test_the_table_of_offenders_is_bounded(fast: InventoryRuns) -> None:
    """Thousands of duplicates are counted, and a few named."""
    agents = fast.cluster.snapshot("us").agents
    many = [agents[0]._replace(agent_id=f"x{i:04}") for i in range(1000)]
    fast.alter("us", agents=[*many, *many])
    found = checked(fast.run())["no_two_agents_share_an_id"]
    assert len(found.metadata["offending"].value.records) == OFFENDERS_MAX
    assert found.metadata["offenders"].value == 1000


def test_a_damaged_object_is_named_by_its_claims_and_replaced_by_the_next_run(
    on_disk: InventoryRuns,
) -> None:
    """One flipped byte: the claims on that table are red, the others judge on."""
    on_disk.run()
    assert on_disk.lake_path is not None
    (found,) = on_disk.lake.objects("agent_inventory", "eu")
    (damaged,) = on_disk.lake_path.rglob(found.key.rpartition("/")[2])
    body = bytearray(damaged.read_bytes())
    body[len(body) // 2] ^= 0xFF
    damaged.chmod(0o644)
    damaged.write_bytes(body)
    result = on_disk.judge()
    assert result.success
    assert set(red(result)) == {
        "no_two_agents_share_an_id",
        "every_agent_is_on_a_known_node",
        "allocations_fit_every_node",
        "agents_are_as_declared",
    }
    reason = checked(result)["no_two_agents_share_an_id"].description
    assert reason.startswith("cannot be judged for all regions: agent_inventory of eu:")
    assert damaged.name in reason
    assert red(on_disk.run()) == {}
