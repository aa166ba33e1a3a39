"""What is known becomes readings of declared families; what is not known has none."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from fleet.backup_tables import ProvenLevel, RecoveryObjective
from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.gpu_leases import GpuFallbacks, GpuLease
from fleet.heartbeats import HeartbeatPolicy
from fleet.incidents import IncidentKind
from fleet.inventory import Gpu, GpuState, Node, NodePhase
from fleet.inventory_checks import judge_gpus
from fleet.metrics.exported.automation import RunFact, TickFact, automation_readings
from fleet.metrics.exported.backups import recovery_readings, verification_readings
from fleet.metrics.exported.fleet import (
    circuit_readings,
    controller_readings,
    fleet_readings,
    incident_readings,
    unplaced_readings,
)
from fleet.metrics.exported.gpus import gpu_lease_readings, gpu_readings, gpu_state_readings
from fleet.metrics.exported.readings import NETWORKS_MAX, OTHERS, WORST, Reading
from fleet.metrics.exported.table import FAMILIES, grouped
from fleet.metrics.exported.vectors import index_readings
from fleet.names import is_name
from fleet.reports import RegionCounts
from fleet.vectors.health import IndexHealth
from tests.fleet.metrics.exported.incidents import NOW, ended_incident


def test_every_family_has_a_name_of_its_own_a_sentence_and_a_bound() -> None:
    """The table is read by people, dashboards and tests."""
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    for family in FAMILIES:
        assert re.fullmatch(r"(stateroom|DCGM_FI_DEV)_\w+", family.name)
        assert family.help.endswith(".")
        assert family.bound
        assert family.type in {"gauge", "counter", "untyped"}
        assert (family.type == "counter") <= family.name.endswith("_total")


def test_nodes_and_agents_are_counted_by_state() -> None:
    """Those that were never seen are neither live nor silent."""
    region = RegionCounts("eu", 5, 3, 1, 40, 30, 20, 2, 8, NOW - timedelta(seconds=7), None)
    unseen = RegionCounts("us", 1, 0, 0, 0, 0, 0, 0, 0, None, None)
    found = {one[:2]: one.value for one in fleet_readings([region, unseen], NOW)}
    assert found["stateroom_nodes", ("eu", "live")] == 3
    assert found["stateroom_nodes", ("eu", "silent")] == 1
    assert found["stateroom_nodes", ("eu", "never_seen")] == 1
    assert found["stateroom_agents", ("eu", "unknown")] == 8
    assert found["stateroom_heartbeat_age_seconds", ("eu",)] == 7
    assert ("stateroom_heartbeat_age_seconds", ("us",)) not in found


def test_incidents_are_counted_by_kind_and_every_kind_has_a_count() -> None:
    """A kind without incidents is 0, which is known; it has no longest one."""
    some = [
        ended_incident(IncidentKind.NODE, 100, None),
        ended_incident(IncidentKind.NODE, 500, 200),
        ended_incident(IncidentKind.REGION, 50, None),
    ]
    found = {one[:2]: one.value for one in incident_readings(some, NOW)}
    assert found["stateroom_incidents_open", ("node",)] == 1
    assert found["stateroom_incidents_ended_recently", ("node",)] == 1
    assert found["stateroom_incident_longest_seconds", ("node",)] == 300
    assert found["stateroom_incidents_open", ("router",)] == 0
    assert ("stateroom_incident_longest_seconds", ("router",)) not in found
    assert found["stateroom_incidents_unacknowledged", ()] == 2


def _objective(network: str, age_s: float, rpo_s: float | None) -> RecoveryObjective:
    return RecoveryObjective(
        region="eu",
        network_id=network,
        covered_until=None,
        rpo_s=rpo_s,
        rto_s=30.0,
        snapshot_id="s",
        snapshot_at=None,
        backup_age_s=60.0,
        replica_lag_s=None,
        verified_age_v1_s=10.0,
        verified_age_v2_s=None,
        verified_age_v3_s=None,
        verified_age_v4_s=None,
        verified_age_v5_s=None,
        missing=(),
        first_snapshot_at=NOW,
        looked_at=NOW - timedelta(seconds=age_s),
    )


def test_ages_grow_on_when_nobody_looks_any_more() -> None:
    """A platform that has stopped looking must not look young; a measured time stays."""
    found = {one[:2]: one.value for one in recovery_readings([_objective("n", 900, 5.0)], NOW)}
    assert found["stateroom_recovery_point_age_seconds", ("eu", "n")] == 905
    assert found["stateroom_backup_age_seconds", ("eu", "n")] == 960
    assert found["stateroom_backup_verified_age_seconds", ("eu", "n", "V1")] == 910
    assert found["stateroom_recovery_time_seconds", ("eu", "n")] == 30
    assert not [key for key in found if key[0] == "stateroom_replica_lag_seconds"]


def test_what_never_was_ages_from_the_first_snapshot_on() -> None:
    """A region that nothing arrived in, and a proof that was never made, must not be silent."""
    first = NOW - timedelta(days=40)
    row = _objective("n", 60, None)._replace(
        first_snapshot_at=first, backup_age_s=None, rto_s=None, verified_age_v1_s=None
    )
    found = {one[:2]: one.value for one in recovery_readings([row], NOW)}
    age_s = timedelta(days=40).total_seconds()
    for name in ("recovery_point_age", "backup_age"):
        assert found[f"stateroom_{name}_seconds", ("eu", "n")] == age_s
    for level in ("V1", "V5"):
        assert found["stateroom_backup_verified_age_seconds", ("eu", "n", level)] == age_s
    assert not [key for key in found if key[0] == "stateroom_recovery_time_seconds"]
    dated_ahead = row._replace(covered_until=NOW, snapshot_at=NOW)
    names = {one.name for one in recovery_readings([dated_ahead], NOW)}
    assert names == {"stateroom_backup_verified_age_seconds"}


def test_a_thousand_networks_have_bounded_series_and_the_worst_is_always_there() -> None:
    """The worst network is told even when it has no series of its own."""
    rows = [_objective(f"net-{i:04}", 0, float(i)) for i in range(1000)]
    found = {one[:2]: one.value for one in recovery_readings(rows, NOW)}
    points = [labels for name, labels in found if name == "stateroom_recovery_point_age_seconds"]
    assert len(points) == NETWORKS_MAX + 1
    assert found["stateroom_recovery_point_age_seconds", ("eu", WORST)] == 999
    assert not is_name(WORST)


def test_a_level_that_fails_now_says_so_whatever_it_passed_before() -> None:
    """The newest verification counts."""
    row = ProvenLevel("eu", "n", "V2", "s", NOW, 1.0, 5, 100, False, ("pack x",), "1", NOW)
    readings = list(verification_readings([row]))
    assert readings == [
        Reading("stateroom_backup_verification_failing", ("eu", "n", "V2"), 1),
        Reading("stateroom_backup_verification_failing", ("eu", WORST, "V2"), 1),
    ]


def test_a_network_without_series_of_its_own_is_not_overlooked() -> None:
    """One damaged copy among a thousand networks is the worst of its region, whatever its name."""
    rows = [
        ProvenLevel("eu", f"net-{i:04}", "V2", "s", NOW, 1.0, 5, 100, i != 900, (), "1", NOW)
        for i in range(1000)
    ]
    found = {one.labels: one.value for one in verification_readings(rows)}
    assert len(found) == NETWORKS_MAX + 1
    assert [labels for labels, value in found.items() if value] == [("eu", WORST, "V2")]


def test_agents_without_a_place_are_bounded_by_networks_and_none_is_lost() -> None:
    """Networks that have no series of their own are added up in one, which no network is called."""
    counts = {(f"net-{i:04}", region): 2 for i in range(1000) for region in ("eu", "us")}
    found = {one.labels: one.value for one in unplaced_readings(counts)}
    assert len(found) == 2 * (NETWORKS_MAX + 1)
    assert sum(found.values()) == sum(counts.values())
    assert found[OTHERS, "eu"] == 2 * (1000 - NETWORKS_MAX)
    assert not is_name(OTHERS)


def test_an_index_with_problems_has_series_however_many_there_are() -> None:
    """An alert on what is not exported never fires."""
    indexes = [_index(f"net-{i:04}", 1000.0 if i == 900 else 0.0) for i in range(1000)]
    found = [one for one in index_readings(indexes, NOW) if one.value == 1000.0]
    assert found == [Reading("stateroom_index_behind_seconds", ("net-0900",), 1000.0)]
    behind = [
        one.labels[0]
        for one in index_readings(indexes, NOW)
        if one.name == "stateroom_index_behind_seconds"
    ]
    assert behind == [f"net-{i:04}" for i in range(NETWORKS_MAX - 1)] + ["net-0900"]


def _index(network: str, behind_s: float) -> IndexHealth:
    return IndexHealth(network, 1, behind_s, 900.0, 0.95, None, None, "", {}, None, False)


def test_of_one_circuit_in_several_processes_the_open_one_counts() -> None:
    """Half-open is not open: calls pass again."""
    breakers = [
        BreakerStatus("traffic/a", "p1", BreakerPhase.CLOSED, 0, "", NOW),
        BreakerStatus("traffic/a", "p2", BreakerPhase.OPEN, 5, "refused", NOW),
        BreakerStatus("traffic/b", "p1", BreakerPhase.HALF_OPEN, 5, "refused", NOW),
    ]
    found = {one.labels: one.value for one in circuit_readings(breakers)}
    assert found == {("traffic/a",): 1, ("traffic/b",): 0}


def test_a_controller_that_never_led_has_no_term() -> None:
    """Rather than term 0."""
    readings = controller_readings(leads=False, term=None, frozen=False, paused=True)
    found = {one.name: one.value for one in readings}
    assert "stateroom_leader_term" not in found
    assert found["stateroom_automation_paused"] == 1


def test_gpus_have_the_names_of_dcgm_and_no_value_that_the_driver_did_not_give() -> None:
    """A dashboard that was made for dcgm-exporter finds its metrics; absent is absent."""
    known = Gpu(
        "GPU-1",
        "eu-1",
        "eu",
        0,
        model="H200",
        memory_total_bytes=1024 * 2**20,
        memory_used_bytes=24 * 2**20,
        memory_reserved_bytes=100 * 2**20,
        xid_last=79,
    )
    unknown = Gpu("GPU-2", "eu-1", "eu", 1, lost=True)
    found = {(one.name, one.labels[1]): one.value for one in gpu_readings([known, unknown])}
    assert found["DCGM_FI_DEV_FB_USED", "GPU-1"] == 24
    assert found["DCGM_FI_DEV_FB_FREE", "GPU-1"] == 900
    assert found["DCGM_FI_DEV_XID_ERRORS", "GPU-1"] == 79
    assert [name for name, uuid in found if uuid == "GPU-2"] == ["stateroom_gpu_lost"]


def test_leases_of_a_gpu_are_added_up_and_fallbacks_counted() -> None:
    """By GPU and machine; what is not there has no sample."""
    leases = [
        GpuLease("GPU-1", "m", holder, size, 1, 60.0, NOW, NOW)
        for holder, size in (("a", 5), ("b", 7))
    ]
    found = list(gpu_lease_readings(leases, [GpuFallbacks("m", "memory", 3)]))
    assert found == [
        Reading("stateroom_gpu_leased_bytes", ("GPU-1", "m"), 12.0),
        Reading("stateroom_gpu_fallbacks_total", ("m", "memory"), 3.0),
    ]
    assert set(grouped(found)) == {one.name for one in found}
    assert list(gpu_lease_readings([], [])) == []


def test_gpus_are_counted_by_state_also_those_that_a_node_should_have() -> None:
    """Healthy, lost by the driver, and declared but never seen; other states are 0."""
    phase = NodePhase.RUNNING
    node = Node("eu-1", "eu", "a", phase, 1000, 2**30, 0, 3, 0, heartbeat_at=NOW)
    gpus = [
        Gpu("GPU-1", "eu-1", "eu", 0, memory_used_bytes=1, observed_at=NOW),
        Gpu("GPU-2", "eu-1", "eu", 1, lost=True, observed_at=NOW),
    ]
    found = judge_gpus(gpus, [node], {"eu": NOW}, HeartbeatPolicy()).verdicts
    counts = {one.labels: one.value for one in gpu_state_readings(found)}
    wanted = {state.value: 0.0 for state in GpuState} | {"healthy": 1, "lost": 2}
    assert counts == {("eu", state): count for state, count in wanted.items()}
    silent = judge_gpus(gpus, [node], {"eu": NOW + timedelta(hours=1)}, HeartbeatPolicy()).verdicts
    assert {one.labels: one.value for one in gpu_state_readings(silent)}["eu", "unknown"] > 0
    assert not list(gpu_state_readings([]))


def test_ticks_have_ages_and_runs_are_counted_by_job_and_status() -> None:
    """A sensor that has not ticked yet has no age."""
    ticks = [TickFact("a_sensor", NOW - timedelta(seconds=9), True), TickFact("b", None, False)]
    runs = [RunFact("job", "success"), RunFact("job", "success"), RunFact("job", "failure")]
    found = {one[:2]: one.value for one in automation_readings(ticks, runs, NOW)}
    assert found == {
        ("stateroom_sensor_tick_age_seconds", ("a_sensor",)): 9,
        ("stateroom_sensor_failing", ("a_sensor",)): 1,
        ("stateroom_sensor_failing", ("b",)): 0,
        ("stateroom_runs_recent", ("job", "success")): 2,
        ("stateroom_runs_recent", ("job", "failure")): 1,
    }


def test_readings_that_nobody_declared_are_a_defect() -> None:
    """An undeclared metric, missing labels, or a series that stands twice."""
    assert grouped([Reading("stateroom_leader_term", (), 3.0)]).keys() == {"stateroom_leader_term"}
    with pytest.raises(KeyError):
        grouped([Reading("stateroom_made_up", (), 1.0)])
    with pytest.raises(AssertionError):
        grouped([Reading("stateroom_nodes", ("eu",), 1.0)])
    with pytest.raises(AssertionError):
        grouped([Reading("stateroom_leader_term", (), 3.0)] * 2)
