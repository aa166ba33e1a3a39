"""The inventory shows each region as it is, and says so when it cannot."""

from __future__ import annotations

from fleet.errors import NodeUnavailableError, NotFoundError, StoreUnavailableError
from tests.assets.inventory_runs import InventoryRuns, checked, materialized, red

TABLES = {"node_inventory", "gpu_inventory", "agent_inventory", "agent_states"}


def test_one_run_materializes_every_table_of_every_region_with_its_own_numbers(
    runs: InventoryRuns,
) -> None:
    """One event for each table and region; each carries rows, preview, numbers and evidence."""
    runs.fleet.write_states(b"1234")
    result = runs.run()
    assert result.success
    made = materialized(result)
    assert set(made) == {(table, region) for table in TABLES for region in ("eu", "us")}
    for (table, region), metadata in made.items():
        committed = runs.lake.objects(table, region)[-1]
        assert metadata["lake_key"] == committed.key
        assert metadata["sha256"] == committed.sha256
        assert metadata["dagster/row_count"] == committed.rows
        assert metadata["dagster/table_name"] == table
        names = [column.name for column in metadata["dagster/column_schema"].columns]
        assert list(metadata["preview"].schema.columns) is not None
        assert [column.name for column in metadata["preview"].schema.columns] == names
    nodes = made["node_inventory", "eu"]
    assert (nodes["nodes_ready"], nodes["nodes_lost"], nodes["oldest_heartbeat_s"]) == (2, 0, 1.0)
    assert nodes["preview"].records[0].data["node_id"] == "eu-1"
    agents = made["agent_inventory", "us"]
    assert (agents["agents_running"], agents["allocated_cpu_milli_percent"]) == (4, 10.0)
    assert made["agent_states", "us"]["state_bytes"] == 16
    assert made["gpu_inventory", "us"]["gpus"] == 0


def test_a_healthy_fleet_is_green_in_every_claim(runs: InventoryRuns) -> None:
    """No claim fails without a fault."""
    result = runs.run()
    assert len(checked(result)) == 10
    assert red(result) == {}


def test_all_tables_of_a_run_show_the_same_moment(runs: InventoryRuns) -> None:
    """A region is looked at once, and the tables of that look share its time."""
    runs.run()
    assert sorted(runs.cluster.looks) == ["eu", "us"]
    looked = [
        runs.lake.objects(table, "eu")[-1].written_at
        for table in ("node_inventory", "gpu_inventory", "agent_inventory")
    ]
    assert len(set(looked)) == 1


def test_a_run_of_one_region_leaves_the_others_alone(runs: InventoryRuns) -> None:
    """The other region keeps its newest object."""
    runs.run()
    before = runs.lake.objects("node_inventory", "us")
    result = runs.run("eu")
    assert result.success
    assert set(materialized(result)) == {(table, "eu") for table in TABLES}
    assert runs.lake.objects("node_inventory", "us") == before


def test_an_unreadable_region_fails_the_run_but_not_the_others(runs: InventoryRuns) -> None:
    """The others are written and recorded; the failure names region, error and next step."""
    runs.cluster.errors["eu"] = NotFoundError("no such region", hint="Declare it.")
    result = runs.run()
    assert not result.success
    assert set(materialized(result)) == {("node_inventory", "us")}
    (failed,) = result.get_step_failure_events()
    failure = failed.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description == "node_inventory of region eu: no such region"
    assert failure.metadata["hint"].value == "Declare it."
    assert runs.run("us").success


def test_two_unreadable_regions_are_named_in_one_failure(runs: InventoryRuns) -> None:
    """Nothing is materialized, and both reasons are told."""
    for region in ("eu", "us"):
        runs.cluster.errors[region] = NotFoundError(f"{region} is gone")
    result = runs.run()
    (failed,) = result.get_step_failure_events()
    failure = failed.step_failure_data.user_failure_data
    assert failure is not None
    assert failure.description == "node_inventory of eu: eu is gone; us: us is gone"
    assert materialized(result) == {}


def test_a_transient_error_is_retried_and_heals(runs: InventoryRuns, no_delays: None) -> None:
    """Two refusals, then an answer: the run succeeds, and each region is materialized once."""
    runs.cluster.errors["eu"] = NodeUnavailableError("no answer yet")
    runs.cluster.failures_left["eu"] = 2
    result = runs.run()
    assert result.success
    assert len(materialized(result)) == 8
    assert [len(runs.lake.objects("node_inventory", region)) for region in ("eu", "us")] == [1, 1]


def test_a_transient_error_that_stays_fails_after_the_last_retry(
    runs: InventoryRuns, no_delays: None
) -> None:
    """The other region is recorded all the same."""
    runs.cluster.errors["eu"] = StoreUnavailableError("locked", hint="See what holds it.")
    result = runs.run()
    assert not result.success
    assert len(result.filter_events(lambda event: event.is_step_up_for_retry)) == 3
    assert set(materialized(result)) == {("node_inventory", "us")}


def test_a_lost_object_turns_its_claims_red_and_the_next_run_heals(runs: InventoryRuns) -> None:
    """A region whose rows are gone cannot pass any claim."""
    runs.run()
    runs.lake.remove(runs.lake.objects("gpu_inventory", "eu"))
    result = runs.judge()
    assert red(result) == {"no_two_gpus_share_a_uuid": "ERROR", "every_gpu_is_healthy": "ERROR"}
    reason = checked(result)["every_gpu_is_healthy"].description
    assert reason.startswith(
        "cannot be judged for all regions: gpu_inventory of eu: never recorded"
    )
    assert red(runs.run()) == {}
