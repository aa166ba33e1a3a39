"""All GPUs of a fleet: missing ones are named, instances share their GPU's fate, counts add up."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.gpu_fleet import check_gpus
from fleet.inventory import Gpu, GpuAction, GpuState, Node, NodePhase

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _gpu(index: int, node: str = "node-1") -> Gpu:
    return Gpu(
        gpu_uuid=f"GPU-{node}-{index}",
        node_id=node,
        region="r",
        device_index=index,
        model="NVIDIA H200",
        memory_used_bytes=1,
        recovery_action="none",
        boot_id="boot-1",
        energy_mj=1_000,
        observed_at=T0,
    )


def _node(gpu_count: int, node: str = "node-1", started_at: datetime | None = None) -> Node:
    return Node(
        node_id=node,
        region="r",
        zone="z",
        phase=NodePhase.RUNNING,
        cpu_milli=1,
        memory_bytes=1,
        bandwidth_bps=0,
        gpu_count=gpu_count,
        gpu_memory_bytes=0,
        started_at=started_at,
    )


def test_a_whole_fleet_is_healthy_and_counted() -> None:
    """Every state is named in the counts, also with 0."""
    verdict = check_gpus([_gpu(0), _gpu(1)], [_node(2)])
    assert verdict.counts == {
        GpuState.HEALTHY: 2,
        GpuState.DEGRADED: 0,
        GpuState.UNKNOWN: 0,
        GpuState.UNHEALTHY: 0,
        GpuState.LOST: 0,
    }
    assert verdict.actions[GpuAction.NONE] == 2
    assert (verdict.worst, verdict.reason) == (GpuState.HEALTHY, "2 GPUs: 2 healthy")


def test_a_fleet_without_gpus_is_healthy() -> None:
    """Nothing declared, nothing seen, nothing wrong."""
    verdict = check_gpus([], [_node(0)])
    assert (verdict.verdicts, verdict.worst, verdict.reason) == ([], GpuState.HEALTHY, "no GPUs")


def test_a_gpu_that_vanished_is_lost_under_its_own_uuid() -> None:
    """Seven of eight: the eighth is known from before."""
    gpus = [_gpu(index) for index in range(8)]
    previous = {gpu.gpu_uuid: [gpu] for gpu in gpus}
    verdict = check_gpus(gpus[:3] + gpus[4:], [_node(8)], previous)
    assert verdict.counts[GpuState.LOST] == 1
    missing = verdict.verdicts[-1]
    assert (missing.gpu_uuid, missing.action) == ("GPU-node-1-3", GpuAction.DRAIN_AND_REBOOT)
    assert missing.reasons == ("missing: node node-1 should have 8 GPUs and reports 7",)
    assert verdict.reason == "8 GPUs: 7 healthy, 1 lost"
    assert verdict.worst is GpuState.LOST


def test_a_gpu_that_was_never_seen_is_lost_under_its_place() -> None:
    """A node declared with two GPUs reports one from the first day."""
    verdict = check_gpus([_gpu(0)], [_node(2)])
    assert verdict.verdicts[-1].gpu_uuid == "node-1:gpu-1"
    assert verdict.verdicts[-1].state is GpuState.LOST


def test_an_exchanged_gpu_is_not_missing() -> None:
    """The count is right again, so the old UUID is history."""
    old, new = _gpu(1), _gpu(1)._replace(gpu_uuid="GPU-new")
    previous = {old.gpu_uuid: [old], _gpu(0).gpu_uuid: [_gpu(0)]}
    verdict = check_gpus([_gpu(0), new], [_node(2)], previous)
    assert verdict.counts[GpuState.HEALTHY] == len(verdict.verdicts) == 2


def test_a_node_that_declares_none_should_have_those_it_reported_before() -> None:
    """The local cluster declares no GPUs, yet one that vanishes is noticed."""
    previous: dict[str, list[Gpu]] = {"GPU-node-1-1": [_gpu(1)], "GPU-x": []}
    verdict = check_gpus([_gpu(0)], [_node(0)], previous)
    assert [one.gpu_uuid for one in verdict.verdicts if one.state is GpuState.LOST] == [
        "GPU-node-1-1"
    ]


def test_missing_is_unknown_while_the_node_is_silent_or_has_just_started() -> None:
    """A supervisor that is slow to open its driver does not lose GPUs."""
    now = T0 + timedelta(seconds=30)
    silent = check_gpus([], [_node(1)], silent_nodes={"node-1"}, now=now)
    assert silent.verdicts[0].reasons == ("node node-1 is silent",)
    fresh = check_gpus([], [_node(1, started_at=T0)], now=now)
    assert fresh.verdicts[0].reasons == (
        "node node-1 started 30 s ago and has not reported it yet",
    )
    later = check_gpus([], [_node(1, started_at=T0)], now=T0 + timedelta(seconds=60))
    assert [one.worst for one in (silent, fresh, later)] == [
        GpuState.UNKNOWN,
        GpuState.UNKNOWN,
        GpuState.LOST,
    ]


def test_being_missing_is_not_held_but_does_not_end_what_was_held() -> None:
    """Back in the next report: healthy if it was, unhealthy if it was."""
    gpu = _gpu(0)
    previous = {gpu.gpu_uuid: [gpu]}
    gone = check_gpus([], [_node(1)], previous)
    assert gone.held == {}
    assert check_gpus([gpu], [_node(1)], previous, gone.held).worst is GpuState.HEALTHY

    faulty = check_gpus([gpu._replace(xid_last=64)], [_node(1)])
    gone = check_gpus([], [_node(1)], previous, faulty.held)
    assert gone.verdicts[0].action is GpuAction.REPLACE
    assert gone.verdicts[0].reasons[1].startswith("before that: Xid 64")
    back = check_gpus([gpu], [_node(1)], previous, gone.held)
    assert back.worst is GpuState.UNHEALTHY
    silent = check_gpus([], [_node(1)], previous, faulty.held, silent_nodes={"node-1"})
    assert silent.worst is GpuState.UNHEALTHY


def test_a_mig_instance_is_never_better_than_its_gpu() -> None:
    """A fault of the GPU is a fault of every slice; a slice counts as an item, not as a GPU."""
    sick = _gpu(0)._replace(xid_last=79)
    slices = [
        _gpu(0)._replace(gpu_uuid=f"MIG-{n}", parent_uuid=sick.gpu_uuid, mig_profile="1g.18gb")
        for n in range(2)
    ]
    orphan = slices[0]._replace(gpu_uuid="MIG-orphan", parent_uuid="GPU-elsewhere")
    verdict = check_gpus([sick, *slices, orphan], [_node(1)])
    assert [one.state for one in verdict.verdicts] == [GpuState.UNHEALTHY] * 3 + [GpuState.HEALTHY]
    assert verdict.verdicts[1].reasons == ("its GPU: Xid 79: GPU has fallen off the bus",)
    assert verdict.verdicts[1].action is GpuAction.DRAIN_AND_REBOOT
    assert verdict.verdicts[1].held is None
    well = check_gpus([_gpu(0), slices[0]], [_node(1)])
    assert well.counts[GpuState.HEALTHY] == 2


def test_all_gpus_of_a_silent_node_are_unknown() -> None:
    """Its last report must not be believed."""
    verdict = check_gpus([_gpu(0), _gpu(0, "node-2")], silent_nodes={"node-2"})
    assert [one.state for one in verdict.verdicts] == [GpuState.HEALTHY, GpuState.UNKNOWN]


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.tuples(st.integers(0, 4), st.integers(0, 6))
    )
)
def test_seen_and_missing_add_up_to_what_is_declared(sizes: dict[str, tuple[int, int]]) -> None:
    """Each node counts the larger of what it declares and reports, and all names differ."""
    gpus = [_gpu(index, node) for node, (seen, _) in sizes.items() for index in range(seen)]
    nodes = [_node(declared, node) for node, (_, declared) in sizes.items()]
    verdict = check_gpus(gpus, nodes)
    expected = sum(max(seen, declared) for seen, declared in sizes.values())
    assert len(verdict.verdicts) == expected == sum(verdict.counts.values())
    assert len({one.gpu_uuid for one in verdict.verdicts}) == expected
    assert verdict.counts[GpuState.HEALTHY] == len(gpus)
