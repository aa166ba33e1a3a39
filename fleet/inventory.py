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
    """Name of the node, unique over all regions."""
    region: str
    """Region that it stands in; the partition."""
    zone: str
    """Failure domain inside the region."""
    phase: NodePhase
    """What the infrastructure says of it; it says nothing about whether the node works."""
    cpu_milli: int
    """Capacity that agents may be allocated, in thousandths of a core."""
    memory_bytes: int
    """Capacity that agents may be allocated."""
    bandwidth_bps: int
    """Declared network capacity in bits per second; 0 means none is declared or enforced."""
    gpu_count: int
    """GPUs that it is declared with."""
    gpu_memory_bytes: int
    """Sum over the node's GPUs."""
    gpu_model: str | None = None
    """Model of its GPUs; None without any."""
    address: str | None = None
    """host:port of the supervisor's HTTP endpoints."""
    pid: int | None = None
    """Process of the supervisor, on its own host."""
    boot_id: str | None = None
    """Changes whenever the supervisor (or machine) starts anew."""
    started_at: datetime | None = None
    """When the supervisor started."""
    heartbeat_at: datetime | None = None
    """When its last report was stored, by the store's clock."""
    lease_expires_at: datetime | None = None
    """Until when it may act for its agents."""
    cpu_percent: float | None = None
    """Of the whole machine, 0 to 100."""
    memory_used_bytes: int | None = None
    """In use on the whole machine."""
    disk_free_bytes: int | None = None
    """Free where its state folder lies."""
    agents_running: int | None = None
    """As the node counts them."""
    agents_failed: int | None = None
    """Those that crashed more often than their restart policy allows."""


class Gpu(NamedTuple):
    """One GPU (or MIG instance) as its node last saw it; None where the driver gave no value."""

    gpu_uuid: str
    """The driver's UUID; the key."""
    node_id: str
    """Node that it is built into."""
    region: str
    """Region of the node; the partition."""
    device_index: int
    """Order of the driver; not stable across boots, unlike the UUID."""
    model: str | None = None
    """Product name."""
    memory_total_bytes: int | None = None
    """Physical memory."""
    memory_used_bytes: int | None = None
    """In use by processes."""
    utilization_percent: float | None = None
    """Share of time in which a kernel ran, 0 to 100."""
    temperature_c: float | None = None
    """Of the chip."""
    power_w: float | None = None
    """Drawn now."""
    throttle_reasons: tuple[str, ...] = ()
    """Why the driver holds the clocks down, empty when it does not."""
    ecc_uncorrected_volatile: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    ecc_corrected_volatile: int | None = None
    """Corrected memory errors since the driver was loaded."""
    rows_remapped_uncorrected: int | None = None
    """Memory rows replaced because of uncorrected errors."""
    row_remap_pending: bool | None = None
    """A remap waits for the next reset."""
    row_remap_failed: bool | None = None
    """No spare row was left: replace the GPU."""
    pcie_width: int | None = None
    """Lanes in use."""
    pcie_width_max: int | None = None
    """Lanes that device and slot could use."""
    xid_last: int | None = None
    """Last Xid error seen."""
    recovery_action: str | None = None
    """What NVIDIA's driver asks for, None when it cannot say."""
    driver_version: str | None = None
    """Of the NVIDIA driver."""
    mig_profile: str | None = None
    """For a MIG instance: its profile."""
    lost: bool = False
    """The driver answered GPU_IS_LOST for this device."""
    denied: tuple[str, ...] = ()
    """Readings that the driver refused or does not support on this device."""
    observed_at: datetime | None = None
    """When the node read it."""
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
    """A page waits for the next reset to be retired."""
    xids: tuple[int, ...] = ()
    """Distinct Xid errors since watching began, in order of first sight."""
    xid_at: datetime | None = None
    """When `xid_last` was seen."""


class Agent(NamedTuple):
    """One agent: what it was declared with, where it is placed, what its node last reported."""

    agent_id: str
    """Name of the agent, unique over all regions."""
    network_id: str
    """Network (tenant, product, swarm) that it belongs to."""
    workload: str
    """Declaration that it comes from."""
    node_id: str
    """Node that it is placed on."""
    region: str
    """Region of its node; the partition."""
    epoch: int
    """Fencing token: rises by one whenever the agent is placed anew."""
    phase: AgentPhase
    """What its node last reported."""
    cpu_milli: int
    """Allocated, in thousandths of a core."""
    memory_bytes: int
    """Allocated."""
    bandwidth_bps: int
    """Allocated, in bits per second; 0 when none was asked for."""
    gpu_milli: int
    """Allocated, in thousandths of one GPU."""
    gpu_memory_bytes: int
    """Allocated on its GPU."""
    priority: int = 0
    """Higher ones are placed first."""
    pid: int | None = None
    """Its process, on its node's host."""
    started_at: datetime | None = None
    """When its process started."""
    heartbeat_at: datetime | None = None
    """Last sign of life that its node saw."""
    restarts: int = 0
    """How often its node has started it again under this epoch."""
    cpu_percent: float | None = None
    """Of one core, since the last report."""
    rss_bytes: int | None = None
    """Resident memory of its process."""
    reason: str = ""
    """Why it is in this phase, in words."""


class AgentStateInfo(NamedTuple):
    """Metadata of one agent's durable state; the bytes stay in the control store."""

    agent_id: str
    """Agent whose state it is."""
    network_id: str
    """Network that the agent belongs to."""
    region: str
    """Region where the agent is placed; the partition."""
    version: int
    """Rises by one with each accepted put."""
    epoch: int
    """Epoch of the copy that wrote it."""
    size_bytes: int
    """Of the state itself."""
    digest: str
    """SHA-256 of the state's bytes, hexadecimal."""
    updated_at: datetime
    """When the put was committed, by the store's clock."""
