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


class GpuState(StrEnum):
    """Health of a GPU, from best to worst; see `fleet.gpus` for the rules."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """Works, slower or with a repair due at the next pause; takes new work."""
    UNKNOWN = "unknown"
    """Its node or driver gives no readings; takes no new work."""
    UNHEALTHY = "unhealthy"
    """Must not get new work until its driver is reloaded or its machine restarted."""
    LOST = "lost"
    """Fell off the bus, or is missing from a node that should have it."""

    @property
    def severity(self) -> int:
        """0 for healthy up to 4 for lost; definition order is the order of severity."""
        return list(GpuState).index(self)


class GpuAction(StrEnum):
    """What the operator is advised to do about a GPU, from least to most disruptive."""

    NONE = "none"
    RESET_WHEN_IDLE = "reset_when_idle"
    """Goes on taking work; reset it at the next pause."""
    RESTART_APPLICATION = "restart_application"
    DRAIN_AND_RESET = "drain_and_reset"
    """No new work; move or finish the running work, then reset the GPU."""
    DRAIN_AND_REBOOT = "drain_and_reboot"
    """The same, then restart the machine."""
    REPLACE = "replace"
    """Hand the GPU back to its vendor."""

    @property
    def rank(self) -> int:
        """0 for none up to 5 for replace; definition order is the order of disruption."""
        return list(GpuAction).index(self)


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
    parent_uuid: str | None = None
    """For a MIG instance: the UUID of the GPU that it is a slice of."""
    boot_id: str | None = None
    """Of the machine's kernel (not of the supervisor): a new one means that it was restarted."""
    energy_mj: int | None = None
    """Millijoules used since the driver was loaded; going back proves a reload or reset."""
    memory_reserved_bytes: int | None = None
    """Kept by the driver, not in `memory_used_bytes`; None where the driver counts it as used."""
    pages_retired: int | None = None
    """GPUs before Ampere only; later ones remap rows."""
    pages_retired_pending: bool | None = None
    xids: tuple[int, ...] = ()
    """Distinct Xid errors since watching began, in order of first sight."""
    xid_at: datetime | None = None
    """When `xid_last` was seen."""


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
