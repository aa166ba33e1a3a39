"""Loads recorded clusters: nodes and tasks of a production cluster as published CSV files.

The layout is that of `openb_node_list_*.csv` and `openb_pod_list_*.csv` (alibaba/clusterdata,
cluster-trace-gpu-v2023). The loader declares; it places nothing: the recording does not say on
which node a task ran, so each agent comes with the reason why it has no node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import is_name, validate_name
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.simulated.csv_rows import ProblemList, Row, read_rows
from resources.simulated.gpu_models import GPU_MEMORY_BYTES

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TASK_COLUMNS = (
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "qos",
    "pod_phase",
    "creation_time",
    "deletion_time",
    "scheduled_time",
)
TASK_PHASES = ("Pending", "Running", "Succeeded", "Failed")
QOS_PRIORITY = {"LS": 3, "Guaranteed": 2, "Burstable": 1, "BE": 0}
"""Priority by class of service: latency-sensitive first, best effort last."""

_MIB = 1024 * 1024
_GPUS_MAX = 1024
_NAME_ALLOWED = "letters, digits, '.', '_' or '-', beginning and ending with a letter or digit"


class RecordedTask(NamedTuple):
    """One task (pod) of the recording; times are seconds after its start."""

    agent_id: str
    region: str
    """Home by the dealing rule; the recording has one site only."""
    cpu_milli: int
    memory_bytes: int
    gpu_milli: int
    """Of all its GPUs together."""
    gpu_spec: tuple[str, ...]
    """Models it may run on; empty: any."""
    qos: str
    phase: str
    created_s: int
    deleted_s: int | None
    """None: still there when the recording ended."""
    scheduled_s: int | None
    """None: never scheduled."""


class RecordedFleet(NamedTuple):
    """What was there at one moment, as declarations."""

    nodes: list[NodeDeclaration]
    agents: list[AgentDeclaration]
    reasons: dict[str, str]
    """agent_id -> why it has no node; for `SimulatedCluster.declare_agents`."""


class RecordedCluster(NamedTuple):
    """A whole recording, checked."""

    nodes: list[NodeDeclaration]
    tasks: list[RecordedTask]

    def at(self, moment_s: float) -> RecordedFleet:
        """Declare the tasks that existed at a moment (created <= moment < deleted) as agents.

        Args:
            moment_s: seconds after the start of the recording.

        Returns:
            All nodes, and the agents in the order of the file; none when nothing existed.
        """
        alive = [
            task
            for task in self.tasks
            if task.created_s <= moment_s and (task.deleted_s is None or moment_s < task.deleted_s)
        ]
        agents = [_declare(task) for task in alive]
        reasons = {task.agent_id: _reason(task, moment_s) for task in alive}
        return RecordedFleet(self.nodes, agents, reasons)


def load_recorded_cluster(
    node_path: Path, task_path: Path, *, regions: Sequence[str], zones_per_region: int = 2
) -> RecordedCluster:
    """Read nodes and tasks; both files are loaded, or neither.

    Regions are dealt: the n-th node (from 0) of one kind of hardware (model, GPUs, CPU, memory)
    goes to region n mod R and there to zone (n div R) mod Z, so that every region gets its share
    of every kind; the n-th task of the file has its home in region n mod R.

    Args:
        node_path: CSV with NODE_COLUMNS.
        task_path: CSV with TASK_COLUMNS.
        regions: names of R regions, in the order of dealing.
        zones_per_region: Z, named `<region>a`, `<region>b` ...

    Raises:
        InvalidDocumentError: lists problems of both files with their lines.
        InvalidInputError: no region, an invalid or repeated name, zones outside 1 .. 26.
        NotFoundError: a file does not exist.
        TooLargeError: a file is too large.
    """
    if not regions or len(set(regions)) < len(regions):
        raise InvalidInputError("regions", list(regions), "at least one region, each name once")
    for region in regions:
        validate_name("regions", region)
    if not 1 <= zones_per_region <= 26:
        raise InvalidInputError("zones_per_region", zones_per_region, "1 to 26")
    problems = ProblemList()
    nodes = _read_nodes(read_rows(node_path, NODE_COLUMNS, problems), regions, zones_per_region)
    tasks = _read_tasks(read_rows(task_path, TASK_COLUMNS, problems), regions)
    problems.raise_if_any(f"{node_path.name} and {task_path.name}")
    return RecordedCluster(nodes, tasks)


def _read_nodes(
    rows: Iterable[Row], regions: Sequence[str], zones_per_region: int
) -> list[NodeDeclaration]:
    lines: dict[str, str] = {}
    dealt: dict[tuple[str, int, int, int], int] = {}
    nodes = []
    for row in rows:
        name = _unique_name(row, "sn", lines)
        cpu_milli, memory_mib = row.whole("cpu_milli"), row.whole("memory_mib")
        gpus = row.whole("gpu", _GPUS_MAX)
        model = _gpu_model(row, gpus)
        kind = (model, gpus, cpu_milli, memory_mib)
        turn = dealt.get(kind, 0)
        dealt[kind] = turn + 1
        region = regions[turn % len(regions)]
        zone = chr(ord("a") + turn // len(regions) % zones_per_region)
        nodes.append(
            NodeDeclaration(
                node_id=name,
                region=region,
                zone=f"{region}{zone}",
                cpu_milli=cpu_milli,
                memory_bytes=memory_mib * _MIB,
                gpu_count=gpus,
                gpu_memory_bytes=gpus * (GPU_MEMORY_BYTES.get(model) or 0),
                gpu_model=model or None,
            )
        )
    return nodes


def _gpu_model(row: Row, gpus: int) -> str:
    """The model, which must be known when there are GPUs and absent when there are none."""
    model = row.text("model")
    if gpus and model not in GPU_MEMORY_BYTES:
        row.reject("model", "one of " + ", ".join(GPU_MEMORY_BYTES))
    elif not gpus and model and row.text("gpu") == "0":
        row.reject("model", "empty for a node without GPUs")
    return model


def _read_tasks(rows: Iterable[Row], regions: Sequence[str]) -> list[RecordedTask]:
    lines: dict[str, str] = {}
    tasks: list[RecordedTask] = []
    for row in rows:
        name = _unique_name(row, "name", lines)
        gpus, milli_each = row.whole("num_gpu", _GPUS_MAX), row.whole("gpu_milli", 1000)
        spec = tuple(row.text("gpu_spec").split("|")) if row.text("gpu_spec") else ()
        if any(model not in GPU_MEMORY_BYTES for model in spec):
            row.reject("gpu_spec", "empty, or models joined by '|': " + ", ".join(GPU_MEMORY_BYTES))
        for column, allowed in (("qos", tuple(QOS_PRIORITY)), ("pod_phase", TASK_PHASES)):
            if row.text(column) not in allowed:
                row.reject(column, ", ".join(allowed))
        created_s = row.whole("creation_time")
        deleted_s = row.optional_whole("deletion_time")
        scheduled_s = row.optional_whole("scheduled_time")
        if deleted_s is not None and deleted_s < created_s:
            row.reject("deletion_time", f"empty, or at least creation_time ({created_s})")
        if scheduled_s is not None and scheduled_s < created_s:
            row.reject("scheduled_time", f"empty, or at least creation_time ({created_s})")
        tasks.append(
            RecordedTask(
                agent_id=name,
                region=regions[len(tasks) % len(regions)],
                cpu_milli=row.whole("cpu_milli"),
                memory_bytes=row.whole("memory_mib") * _MIB,
                gpu_milli=gpus * milli_each,
                gpu_spec=spec,
                qos=row.text("qos"),
                phase=row.text("pod_phase"),
                created_s=created_s,
                deleted_s=deleted_s,
                scheduled_s=scheduled_s,
            )
        )
    return tasks


def _unique_name(row: Row, column: str, lines: dict[str, str]) -> str:
    """The name of a row; noted when it is not a name or stands in an earlier line already."""
    name = row.text(column)
    if not is_name(name):
        row.reject(column, _NAME_ALLOWED)
    elif name in lines:
        row.reject(column, f"each name once; first in {lines[name]}")
    else:
        lines[name] = row.source
    return name


def _declare(task: RecordedTask) -> AgentDeclaration:
    return AgentDeclaration(
        agent_id=task.agent_id,
        network_id="recorded",
        workload=f"recorded-{task.qos.lower()}",
        region=task.region,
        cpu_milli=task.cpu_milli,
        memory_bytes=task.memory_bytes,
        gpu_milli=task.gpu_milli,
        priority=QOS_PRIORITY[task.qos],
    )


def _reason(task: RecordedTask, moment_s: float) -> str:
    """Why the agent has no node."""
    if task.scheduled_s is None:
        return f"recorded as {task.phase}, never scheduled"
    if task.scheduled_s > moment_s:
        return f"recorded as {task.phase}, scheduled only at {task.scheduled_s} s"
    return f"recorded as {task.phase}, but the recording names no node; not placed yet"
