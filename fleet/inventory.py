"""What the fleet consists of: nodes, GPUs, agents and the metadata of their states.

Records are `NamedTuple`s: immutable, and cheap enough (about 0.3 us each) to hold 100,000 of them
as plain lists. Sizes are bytes, CPU is thousandths of a core (`cpu_milli`), GPU shares are
thousandths of one device (`gpu_milli`), times are aware UTC. A value that was not measured is None,
never 0.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class NodePhase(StrEnum):
    """What the infrastructure says of a node; readiness is judged from its heartbeat instead."""

    PENDING = "pending"
    """Declared, not started yet."""
    RUNNING = "running"
    """The infrastructure reports it as running, which does not prove that it works."""
    STOPPED = "stopped"
    """Stopped on request."""
    TERMINATED = "terminated"
    """Gone for certain: process vanished, instance deleted."""
    UNKNOWN = "unknown"
    """The infrastructure gives no answer."""


class AgentPhase(StrEnum):
    """What the agent's node last reported of it."""

    PENDING = "pending"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    """Crashed; will be restarted after its delay."""
    FAILED = "failed"
    """Crashed more often than its restart policy allows; stays down until placed again."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"
    """Its node is lost, or has not reported it under its present epoch."""


class Node(NamedTuple):
    """One machine (or one supervisor on this machine) that agents run on."""

    node_id: str
    region: str
    zone: str
    phase: NodePhase
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int
    """Declared network capacity in bits per second; 0 means none is declared or enforced."""
    gpu_count: int
    gpu_memory_bytes: int
    """Sum over the node's GPUs."""
    gpu_model: str | None = None
    address: str | None = None
    """host:port of the supervisor's HTTP endpoints."""
    pid: int | None = None
    boot_id: str | None = None
    """Changes whenever the supervisor (or machine) starts anew."""
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    lease_expires_at: datetime | None = None
    cpu_percent: float | None = None
    """Of the whole machine, 0 to 100."""
    memory_used_bytes: int | None = None
    disk_free_bytes: int | None = None
    agents_running: int | None = None
    agents_failed: int | None = None


class Gpu(NamedTuple):
    """One GPU (or MIG instance) as its node last saw it; None where the driver gave no value."""

    gpu_uuid: str
    node_id: str
    region: str
    device_index: int
    """Order of the driver; not stable across boots, unlike the UUID."""
    model: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    ecc_uncorrected_volatile: int | None = None
    ecc_corrected_volatile: int | None = None
    rows_remapped_uncorrected: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    xid_last: int | None = None
    recovery_action: str | None = None
    driver_version: str | None = None
    mig_profile: str | None = None
    lost: bool = False
    """The driver answered GPU_IS_LOST for this device."""
    denied: tuple[str, ...] = ()
    """Readings that the driver refused or does not support on this device."""
    observed_at: datetime | None = None


class Agent(NamedTuple):
    """One agent: what it was declared with, where it is placed, what its node last reported."""

    agent_id: str
    network_id: str
    workload: str
    node_id: str
    region: str
    epoch: int
    """Fencing token: rises by one whenever the agent is placed anew."""
    phase: AgentPhase
    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int
    gpu_milli: int
    gpu_memory_bytes: int
    priority: int = 0
    pid: int | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
    restarts: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    reason: str = ""
    """Why it is in this phase, in words."""


class AgentStateInfo(NamedTuple):
    """Metadata of one agent's durable state; the bytes stay in the control store."""

    agent_id: str
    network_id: str
    region: str
    version: int
    epoch: int
    size_bytes: int
    digest: str
    """SHA-256 of the state's bytes, hexadecimal."""
    updated_at: datetime
