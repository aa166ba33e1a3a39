"""The claim on GPU health takes over the verdicts of `fleet.gpus`, and names the worst first."""

from __future__ import annotations

from datetime import timedelta

from fleet.heartbeats import HeartbeatPolicy
from fleet.inventory_checks import CheckVerdict, Severity, check_gpu_health
from tests.fleet.inventory_records import GIB, NOW, a_gpu, a_node

POLICY = HeartbeatPolicy(late_s=5.0, lost_s=10.0)
READING = {"temperature_c": 40.0, "utilization_percent": 1.0, "memory_total_bytes": 80 * GIB}


def judge_gpus(*gpus: object, silent_s: float = 1.0, declared: int = 0) -> CheckVerdict:
    """The verdict on GPUs of one node that was heard `silent_s` ago."""
    node = a_node(heartbeat_at=NOW - timedelta(seconds=silent_s), gpu_count=declared)
    return check_gpu_health(gpus, [node], {"us": NOW}, POLICY)  # type: ignore[arg-type]


def test_a_fleet_without_gpus_passes() -> None:
    """Nothing declared, nothing seen."""
    verdict = judge_gpus()
    assert verdict.passed
    assert verdict.numbers["checked"] == 0


def test_healthy_gpus_pass_and_are_counted() -> None:
    """Two good ones."""
    verdict = judge_gpus(a_gpu("G1", **READING), a_gpu("G2", device_index=1, **READING), declared=2)
    assert verdict.passed
    assert verdict.numbers["gpus_healthy"] == 2


def test_a_lost_gpu_is_an_error_with_the_advised_action() -> None:
    """The offender's detail says state, node, action and reason."""
    verdict = judge_gpus(a_gpu("G1", lost=True), declared=1)
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert verdict.offenders[0].detail.startswith("lost on n1, advised: drain_and_reboot; ")


def test_a_declared_gpu_that_nobody_reports_is_an_error() -> None:
    """Its node is up, so it is the GPU that is missing."""
    verdict = judge_gpus(a_gpu("G1", **READING), declared=2)
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert verdict.numbers["gpus_lost"] == 1


def test_gpus_of_a_lost_node_are_unknown_and_only_a_warning() -> None:
    """The node's own claim is the error; its last report is not believed."""
    verdict = judge_gpus(a_gpu("G1", **READING), silent_s=60.0, declared=1)
    assert (verdict.passed, verdict.severity) == (False, Severity.WARN)
    assert verdict.numbers["gpus_unknown"] == 1


def test_gpus_of_a_late_node_are_still_believed() -> None:
    """Late is not lost."""
    assert judge_gpus(a_gpu("G1", **READING), silent_s=6.0, declared=1).passed
