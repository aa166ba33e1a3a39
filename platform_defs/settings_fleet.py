"""Settings of what the fleet consists of: regions, networks, workloads."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.agents import RestartMode, RestartPolicy, Workload
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key
from platform_defs.settings_scaling import ScalingSettings

MIB = 1024 * 1024
NODES_MAX = 10_000
"""Nodes in one region and in the whole fleet; the store and the sensors are measured to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSettings:
    """One region: its zones and nodes."""

    name: str
    zones: tuple[str, ...] = key(
        kinds.names(), "Zones that the region's nodes are spread over, in turn.", default=()
    )
    nodes: int | tuple[str, ...] = key(
        kinds.nodes(NODES_MAX), "How many nodes the region has, or their names."
    )
    failover_to: tuple[str, ...] = key(
        kinds.names(),
        "Regions that take this one's agents in, in this order; empty: all others, as in the file.",
        default=(),
    )

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Names of the region's nodes, in order: the given ones, or `<region>-1`, `-2`, ..."""
        if isinstance(self.nodes, tuple):
            return self.nodes
        return tuple(f"{self.name}-{index}" for index in range(1, self.nodes + 1))

    @property
    def node_zones(self) -> tuple[str, ...]:
        """Zone of each node, in the order of `node_ids`; the region itself where it has none."""
        zones = self.zones or (self.name,)
        return tuple(zones[index % len(zones)] for index in range(len(self.node_ids)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSettings:
    """When a crashed agent is started again on its node (see `fleet.agents.RestartPolicy`)."""

    mode: str = key(
        kinds.choice(*(mode.value for mode in RestartMode)),
        "After which ends an agent is started again.",
        default=RestartMode.ON_FAILURE.value,
    )
    delay_s: float = key(
        kinds.number(0, 3600, "seconds"),
        "Delay before the first restart; doubles with each.",
        default=RestartPolicy().delay_s,
        unit="seconds",
    )
    delay_max_s: float = key(
        kinds.number(0, 86_400, "seconds"),
        "Longest delay.",
        default=RestartPolicy().delay_max_s,
        unit="seconds",
    )
    attempts_max: int = key(
        kinds.whole(0, 1_000_000),
        "Restarts inside the window after which the agent is left failed.",
        default=RestartPolicy().attempts_max,
    )
    window_s: float = key(
        kinds.number(0, 31_536_000, "seconds"),
        "Window in which restarts are counted.",
        default=RestartPolicy().window_s,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """A number of identical agents of one network; exactly one of `function` and `command`."""

    name: str
    network: str = key(kinds.name(), "The network that the agents belong to.")
    function: str = key(
        kinds.function(), "Python callable that the agents run, forked.", default=""
    )
    command: tuple[str, ...] = key(
        kinds.words(), "Program that the agents run, with its arguments.", default=()
    )
    arguments: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "kind": kinds.text_map(),
            "meaning": "Handed to each agent as JSON in `AGENT_ARGUMENTS`.",
            "unit": "",
            "ci": "",
            "production": "",
        },
    )
    replicas_per_node: int = key(
        kinds.whole(0, 10_000), "Agents of this workload on each node.", default=1
    )
    cpu_milli: int = key(
        kinds.whole(0, 10_000_000, "thousandths of a core"),
        "CPU allocated to one agent.",
        default=10,
        unit="thousandths of a core",
    )
    memory_mib: int = key(
        kinds.whole(0, 64 * 1024 * 1024, "MiB"),
        "Memory allocated to one agent.",
        default=16,
        unit="MiB",
    )
    bandwidth_mbps: int = key(
        kinds.whole(0, 1_000_000, "Mbit/s"),
        "Network capacity allocated to one agent.",
        default=0,
        unit="Mbit/s",
    )
    gpu_milli: int = key(
        kinds.whole(0, 64_000, "thousandths of a GPU"),
        "GPU share allocated to one agent.",
        default=0,
        unit="thousandths of a GPU",
    )
    gpu_memory_mib: int = key(
        kinds.whole(0, 64 * 1024 * 1024, "MiB"),
        "GPU memory allocated to one agent.",
        default=0,
        unit="MiB",
    )
    priority: int = key(
        kinds.whole(-1000, 1000), "Higher is placed first when room is short.", default=0
    )
    gpu_models: tuple[str, ...] = key(
        kinds.models(), "GPU models that its agents may run on; empty: any.", default=()
    )
    spread_zones: bool = key(
        kinds.boolean(),
        "Place its agents evenly over the zones of each region, where room allows.",
        default=False,
    )
    gang: str = key(
        kinds.optional_name(),
        "Agents of a network and region with the same gang are placed together or not at all.",
        default="",
    )
    pack: bool = key(
        kinds.boolean(),
        "Without GPUs: on as few nodes as hold them, instead of evenly over all.",
        default=False,
    )
    stateless: bool = key(
        kinds.boolean(),
        "Agents keep no state and may run twice: failover moves those that have stored none before "
        "their node is fenced.",
        default=False,
    )
    restart: RestartSettings = field(default_factory=RestartSettings)
    scaling: ScalingSettings | None = None

    def workload(self) -> Workload:
        """The declaration as the core knows it: bytes, bits and a restart policy."""
        restart = self.restart
        return Workload(
            workload=self.name,
            network_id=self.network,
            function=self.function or None,
            command=self.command,
            arguments=dict(self.arguments),
            replicas_per_node=self.replicas_per_node,
            cpu_milli=self.cpu_milli,
            memory_bytes=self.memory_mib * MIB,
            bandwidth_bps=self.bandwidth_mbps * 1_000_000,
            gpu_milli=self.gpu_milli,
            gpu_memory_bytes=self.gpu_memory_mib * MIB,
            priority=self.priority,
            stateless=self.stateless,
            gpu_models=self.gpu_models,
            spread_zones=self.spread_zones,
            gang=self.gang,
            pack=self.pack,
            restart=RestartPolicy(
                mode=RestartMode(restart.mode),
                delay_s=restart.delay_s,
                delay_max_s=restart.delay_max_s,
                attempts_max=restart.attempts_max,
                window_s=restart.window_s,
            ),
        )
