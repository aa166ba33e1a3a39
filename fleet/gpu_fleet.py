"""The GPUs of a fleet: every verdict, every GPU that should be there and is not, counts per state.

Linear in the number of GPUs, nodes and earlier records; judging 80,000 GPUs takes about a second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple

from fleet.gpus import (
    ACTION_RANK,
    DEFAULT_POLICY,
    SEVERITY,
    GpuHealthPolicy,
    GpuVerdict,
    HeldFault,
    classify_gpu,
)
from fleet.inventory import Gpu, GpuAction, GpuState, Node


class GpuFleetVerdict(NamedTuple):
    """The health of all GPUs, missing ones included."""

    verdicts: list[GpuVerdict]
    """In the given order; the missing ones follow, by node."""
    counts: dict[GpuState, int]
    """GPUs per state, every state named, also with 0."""
    actions: dict[GpuAction, int]
    """GPUs per advised action, every action named, also with 0."""
    worst: GpuState
    """`healthy` when there is no GPU at all."""
    reason: str
    """One line for people."""

    @property
    def held(self) -> dict[str, HeldFault]:
        """UUID -> held fault; hand it to the next judgement."""
        return {one.gpu_uuid: one.held for one in self.verdicts if one.held is not None}


class MissingGpu(NamedTuple):
    """A GPU that its node should have and does not report."""

    gpu: Gpu
    """Its last record; only its place, when it was never seen."""
    node: Node
    reason: str


def missing_gpus(
    gpus: Sequence[Gpu], nodes: Sequence[Node], previous: Mapping[str, Sequence[Gpu]]
) -> Iterator[MissingGpu]:
    """Name the GPUs that a node should have and does not report.

    A node should have as many as it declares (`gpu_count`); one that declares none should have
    those that it reported before. The names are UUIDs known from earlier records, by device index;
    a GPU that was never seen is named after its node and place (`node-1:gpu-7`). A GPU that was
    exchanged is not missing, because the count is right again.

    Args:
        gpus: the newest records.
        nodes: declared nodes.
        previous: UUID -> earlier records, oldest first.

    Yields:
        The missing ones, in the order of `nodes`.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    for gpu in gpus:
        if gpu.parent_uuid is None:
            seen[gpu.node_id].add(gpu.gpu_uuid)
    known: dict[str, list[Gpu]] = defaultdict(list)
    for records in previous.values():
        last = records[-1] if records else None
        if last and last.parent_uuid is None and last.gpu_uuid not in seen[last.node_id]:
            known[last.node_id].append(last)
    for node in nodes:
        gone = sorted(known[node.node_id], key=lambda gpu: gpu.device_index)
        present = len(seen[node.node_id])
        expected = node.gpu_count or present + len(gone)
        reason = f"missing: node {node.node_id} should have {expected} GPUs and reports {present}"
        for place in range(present, expected):
            nth = place - present
            name = f"{node.node_id}:gpu-{place}"
            unseen = Gpu(name, node.node_id, node.region, place, node.gpu_model)
            yield MissingGpu(gone[nth] if nth < len(gone) else unseen, node, reason)


def _missing_verdict(
    missing: MissingGpu,
    held: HeldFault | None,
    silent: bool,
    now: datetime | None,
    policy: GpuHealthPolicy,
) -> GpuVerdict:
    """A missing GPU is lost, unless its node is silent or has only just started.

    Being missing is not held: a supervisor that was slow to read its GPUs must not take them out
    of service until the next reboot. The driver's own "GPU is lost" is.
    """
    gpu, node, reason = missing
    state, action = GpuState.LOST, GpuAction.DRAIN_AND_REBOOT
    age_s = (now - node.started_at).total_seconds() if now and node.started_at else None
    if silent:
        state, action, reason = GpuState.UNKNOWN, GpuAction.NONE, f"node {node.node_id} is silent"
    elif age_s is not None and age_s < policy.start_grace_s:
        state, action = GpuState.UNKNOWN, GpuAction.NONE
        reason = f"node {node.node_id} started {age_s:.0f} s ago and has not reported it yet"
    reasons: tuple[str, ...] = (reason,)
    if held is not None:
        state = max(state, GpuState.UNHEALTHY, key=SEVERITY.__getitem__)
        action = max(action, held.action, key=ACTION_RANK.__getitem__)
        reasons = (reason, f"before that: {held.reason}")
    return GpuVerdict(gpu.gpu_uuid, gpu.node_id, gpu.region, state, action, reasons, held)


def _under_parent(child: GpuVerdict, parent: GpuVerdict | None) -> GpuVerdict:
    """A MIG instance is never better than the GPU that it is a slice of."""
    if parent is None or parent.state is GpuState.HEALTHY:
        return child
    return child._replace(
        state=max(child.state, parent.state, key=SEVERITY.__getitem__),
        action=max(child.action, parent.action, key=ACTION_RANK.__getitem__),
        reasons=(*child.reasons, *(f"its GPU: {reason}" for reason in parent.reasons)),
    )


def _summary(counts: Mapping[GpuState, int], total: int) -> str:
    if not total:
        return "no GPUs"
    parts = [f"{counts[state]} {state}" for state in GpuState if counts[state]]
    return f"{total} GPU{'s' if total > 1 else ''}: {', '.join(parts)}"


def check_gpus(
    gpus: Sequence[Gpu],
    nodes: Sequence[Node] = (),
    previous: Mapping[str, Sequence[Gpu]] | None = None,
    held: Mapping[str, HeldFault] | None = None,
    *,
    silent_nodes: AbstractSet[str] = frozenset(),
    now: datetime | None = None,
    policy: GpuHealthPolicy = DEFAULT_POLICY,
) -> GpuFleetVerdict:
    """Judge all GPUs of a fleet or region.

    Args:
        gpus: the newest record of each; MIG instances are items of their own.
        nodes: declared nodes, to find GPUs that are missing; empty: not looked for.
        previous: UUID -> earlier records, oldest first; two or more make every rule work.
        held: UUID -> held fault, from `GpuFleetVerdict.held` of the judgement before.
        silent_nodes: nodes whose last report must not be believed any more.
        now: the moment of judgement; None: the age of the reports is not judged.
        policy: thresholds.

    Returns:
        All verdicts with counts, the worst state, and a line for people.
    """
    earlier, faults = previous or {}, held or {}
    verdicts = [
        classify_gpu(
            gpu,
            earlier.get(gpu.gpu_uuid, ()),
            faults.get(gpu.gpu_uuid),
            now=now,
            silent=gpu.node_id in silent_nodes,
            policy=policy,
        )
        for gpu in gpus
    ]
    parents = {one.gpu_uuid: one for one, gpu in zip(verdicts, gpus, strict=True)}
    verdicts = [
        _under_parent(one, parents.get(gpu.parent_uuid)) if gpu.parent_uuid else one
        for one, gpu in zip(verdicts, gpus, strict=True)
    ]
    verdicts += [
        _missing_verdict(
            missing,
            faults.get(missing.gpu.gpu_uuid),
            missing.node.node_id in silent_nodes,
            now,
            policy,
        )
        for missing in missing_gpus(gpus, nodes, earlier)
    ]
    states = Counter(one.state for one in verdicts)
    actions = Counter(one.action for one in verdicts)
    counts = {state: states[state] for state in GpuState}
    worst = max(states, key=SEVERITY.__getitem__, default=GpuState.HEALTHY)
    return GpuFleetVerdict(
        verdicts=verdicts,
        counts=counts,
        actions={action: actions[action] for action in GpuAction},
        worst=worst,
        reason=_summary(counts, len(verdicts)),
    )
