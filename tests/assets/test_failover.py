"""The report shows how failover stands: red by evidence, never by failing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from fleet.agents import StateChange
from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.incidents import IncidentKind, IncidentOpening
from fleet.leases import LEADER_LEASE
from ops.failover_report_jobs import FAILOVER_REPORT_JOB
from tests.assets.failover_runs import FailoverRuns
from tests.assets.inventory_runs import checked, materialized, red


@pytest.fixture
def runs(instance: dg.DagsterInstance, tmp_path: Path) -> FailoverRuns:
    """A fleet in which all is well."""
    return FailoverRuns(instance, tmp_path)


def test_a_healthy_fleet_is_green_and_told_in_numbers(runs: FailoverRuns) -> None:
    """Every table has its rows, every claim holds."""
    result = runs.report()
    assert result.success
    made = materialized(result)
    assert set(made) == {
        ("node_health", "eu"),
        ("node_health", "us"),
        ("incidents", ""),
        ("placements", ""),
        ("failover_readiness", "eu"),
        ("failover_readiness", "us"),
    }
    assert red(result) == {}
    assert len(checked(result)) == 5
    assert {row["state"] for row in runs.rows("node_health")} == {"healthy"}
    assert made["node_health", "eu"]["nodes_healthy"] == 2
    assert made["node_health", "eu"]["controller"] == "active"
    assert made["incidents", ""]["incidents_open"] == 0
    assert "No incident is open" in made["incidents", ""]["stories"]
    assert made["placements", ""]["rows_appended"] == 16


def test_an_incident_is_a_row_with_its_times_and_its_story(runs: FailoverRuns) -> None:
    """Seen, decided, done; what was moved, and that nothing was lost."""
    runs.lose("eu-1")
    made = materialized(runs.report())
    (row,) = runs.rows("incidents")
    assert (row["kind"], row["subject"], row["state"]) == ("node", "eu-1", "ended")
    assert row["opened_at"] <= row["decided_at"] <= row["done_at"] <= row["ended_at"]
    assert (row["agents_moved"], row["agents_parked"], row["versions_lost"]) == (4, 0, 0)
    told = made["incidents", ""]
    took_s = (row["done_at"] - row["opened_at"]).total_seconds()
    assert told["recovery_s_newest"] == row["recovery_s"] == took_s
    assert "Node eu-1 in eu" in told["stories"]
    assert "nothing is lost" in told["stories"]
    assert not any("\\" in part for part in told["stories"].split("`")[1::2])
    assert next(iter(told)) == "stories"


def test_a_silence_is_dated_back_so_that_detection_is_a_time(runs: FailoverRuns) -> None:
    """A node that only falls silent is seen seconds after its last sign of life."""
    runs.world.kill("eu-1")
    runs.world.look_until_ordered()
    runs.report()
    (row,) = runs.rows("incidents")
    assert row["silent_at"] < row["opened_at"]
    assert 2.0 < row["detection_s"] < 20.0
    state = {one["node_id"]: one["state"] for one in runs.rows("node_health")}
    assert state["eu-1"] not in {"healthy", "unwatched"}
    (lost,) = [one for one in runs.rows("node_health") if one["node_id"] == "eu-1"]
    assert lost["incident_id"] == row["incident_id"]
    assert lost["votes_dead"] > lost["votes_alive"]
    assert lost["lease_left_s"] < 0
    assert lost["seen_heartbeat_age_s"] > 2.0


def test_placements_are_appended_once_with_their_reasons(runs: FailoverRuns) -> None:
    """The second look adds what has moved since, a third nothing."""
    runs.report()
    runs.lose("eu-1")
    moved = materialized(runs.report())["placements", ""]
    assert (moved["rows_appended"], moved["agents_moved"]) == (4, 4)
    (reason,) = [row.data for row in moved["moves_by_reason"].records]
    assert reason["agents"] == 4
    assert str(reason["reason"]).startswith("node eu-1 was lost")
    nothing = materialized(runs.report())["placements", ""]
    assert (nothing["rows_appended"], nothing["cursor"]) == (0, moved["cursor"])
    assert runs.lake.query("SELECT count(*) AS n FROM placements_history").to_pylist() == [
        {"n": 20}
    ]


def test_a_dead_controller_is_red_by_age_alone(runs: FailoverRuns) -> None:
    """Nothing fails: its lease ends, its look grows old."""
    runs.world.clock.advance(120.0)
    result = runs.quietly(FAILOVER_REPORT_JOB)
    assert result.success
    assert red(result)["the_controller_is_alive"] == "ERROR"
    offending = checked(result)["the_controller_is_alive"].metadata["offending"].value.records
    assert {row.data["subject"] for row in offending} == {"leader lease", "last look"}
    rows = {
        (one["region"], one["claim"]): one["verdict"] for one in runs.rows("failover_readiness")
    }
    assert rows["eu", "a_controller_leads"] == "not_ready"
    assert rows["us", "observers_report"] == "not_ready"


def test_a_frozen_controller_is_not_alive(runs: FailoverRuns) -> None:
    """It leads and looks, and must not act: a person has to know."""
    runs.world.kill("eu-1", "eu-2", "us-1", "us-2")
    for _ in range(10):
        runs.world.look()
    result = runs.report()
    assert "the_controller_is_alive" in red(result)
    assert "frozen" in str(checked(result)["the_controller_is_alive"].description)


def test_an_incident_without_an_end_is_red_until_it_has_one(runs: FailoverRuns) -> None:
    """An hour, or a day once somebody has it."""
    opened = runs.store.open_incident(
        IncidentOpening(IncidentKind.SERVICE, "search", "eu", "it fails", runs.world.clock.now())
    )
    assert "no_incident_is_without_an_end" not in red(runs.report())
    runs.world.clock.advance(3700.0)
    late = runs.quietly(FAILOVER_REPORT_JOB)
    assert red(late)["no_incident_is_without_an_end"] == "ERROR"
    offending = checked(late)["no_incident_is_without_an_end"].metadata["offending"].value.records
    assert offending[0].data["subject"] == opened.incident_id
    runs.store.acknowledge(opened.incident_id, "anna")
    assert "no_incident_is_without_an_end" not in red(runs.quietly(FAILOVER_REPORT_JOB))


def test_an_agent_on_two_nodes_is_found_in_the_history(runs: FailoverRuns) -> None:
    """A row behind the store's back, as a defect of the store would leave it."""
    twin = runs.store._history[3]._replace(node_id="us-2", history_id=99)
    runs.store._history.append(twin)
    result = runs.report()
    found = red(result)
    assert found["no_agent_is_on_two_nodes"] == "ERROR"
    offending = checked(result)["no_agent_is_on_two_nodes"].metadata["offending"].value.records
    assert {row.data["subject"] for row in offending} == {twin.agent_id}


def test_a_state_under_a_replaced_epoch_is_found_in_the_change_log(runs: FailoverRuns) -> None:
    """A zombie's write that a broken store let through."""
    runs.lose("eu-1")
    assert red(runs.report()) == {}
    now = runs.world.clock.now()
    stale = StateChange(10_000, "eu-1-a0", 9, 1, 1, "0" * 64, now)
    runs.store.state_changes = lambda after, limit: [stale] if after < 10_000 else []  # type: ignore[method-assign]
    result = runs.report()
    assert set(red(result)) == {"no_stale_epoch_was_accepted"}
    offending = checked(result)["no_stale_epoch_was_accepted"].metadata["offending"].value.records
    assert "after the move to epoch 2" in str(offending[0].data["detail"])


def readiness(runs: FailoverRuns, region: str, claim: str) -> tuple[str, str]:
    """Verdict and reason of one claim after a new report."""
    runs.report()
    (row,) = [
        one
        for one in runs.rows("failover_readiness")
        if (one["region"], one["claim"]) == (region, claim)
    ]
    return row["verdict"], row["reason"]


def test_a_target_without_room_is_named_before_the_region_is_lost(runs: FailoverRuns) -> None:
    """Planned as the failover would plan it: with head-room, on whole nodes only."""
    assert readiness(runs, "eu", "targets_have_room") == (
        "ready",
        "all 8 agents have a place on 2 nodes of us, 10% kept free",
    )
    runs.world.kill("us-1", terminated=True)
    runs.world.clock.advance(10.0)
    runs.run("inventory_job")
    verdict, reason = readiness(runs, "eu", "targets_have_room")
    assert verdict == "not_ready"
    assert "agents have no place on 1 nodes of us" in reason
    assert "cpu_milli" in reason


def test_what_stands_in_the_way_of_a_takeover_is_said(runs: FailoverRuns) -> None:
    """A pause, an adapter that is cut off; a network that is not backed up is a decision."""
    assert readiness(runs, "eu", "backups_are_young")[0] == "waived"
    runs.store.set_automation(paused=True, by="anna", reason="we move house")
    assert readiness(runs, "us", "automation_is_on") == (
        "not_ready",
        "paused by anna: we move house",
    )
    runs.store.set_automation(paused=False, by="anna", reason="done")
    now = runs.world.clock.now()
    shut = BreakerStatus("traffic/haproxy", "h/1", BreakerPhase.OPEN, 5, "no answer", now)
    runs.store.report_breakers([shut])
    verdict, reason = readiness(runs, "us", "traffic_can_be_switched")
    assert (verdict, "traffic/haproxy" in reason) == ("not_ready", True)
    assert red(runs.report())["every_region_could_be_taken_over"] == "WARN"


def test_an_inventory_that_was_never_taken_is_no_room(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """What is not known is not ready."""
    runs = FailoverRuns(instance, tmp_path)
    runs.lake.remove(runs.lake.objects("agent_inventory"))
    verdict, reason = readiness(runs, "eu", "targets_have_room")
    assert (verdict, "never recorded" in reason) == ("not_ready", True)


def test_old_placements_are_trimmed_and_those_in_force_stay(runs: FailoverRuns) -> None:
    """By the settings' days; a second run finds nothing, the lake keeps what it has."""
    runs.report()
    runs.world.clock.jump(timedelta(days=2).total_seconds())
    placed = runs.store.placements()
    result = runs.quietly("trim_placements_job")
    assert materialized(result)["placement_history", ""]["placements_removed"] == 16
    again = materialized(runs.quietly("trim_placements_job"))["placement_history", ""]
    assert again["placements_removed"] == 0
    assert runs.store.placements() == placed
    assert len(runs.rows("placements")) == 16


def test_a_controller_that_was_followed_keeps_the_view_of_its_follower(runs: FailoverRuns) -> None:
    """The paused one wakes up, is refused, says so, and goes on deciding nothing."""
    kept = runs.store.controller_view()
    assert kept is not None
    follower = kept.view._replace(term=kept.view.term + 5, holder="another")
    runs.store.keep_controller_view(follower)
    faults = [fault for _ in range(7) for fault in runs.world.look().faults]
    assert any("controller view: " in fault for fault in faults)
    now = runs.store.controller_view()
    assert now is not None
    assert now.view == follower
    assert runs.store.lease(LEADER_LEASE) is not None
