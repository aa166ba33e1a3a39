"""The machinery that runs nodes and agents, what it shows, and how it is damaged on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.agents import Placement
from fleet.inventory import Agent, Gpu, Node
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.standing import ScaleResult


class ClusterEvent(NamedTuple):
    """Something the infrastructure saw happen."""

    cursor: str
    kind: str
    """`node_started`, `node_stopped`, `node_terminated`, `agent_evicted`, ..."""
    subject: str
    at: datetime
    detail: str


class FleetSnapshot(NamedTuple):
    """One consistent look at (a region of) the fleet."""

    region: str
    observed_at: datetime
    nodes: list[Node]
    gpus: list[Gpu]
    agents: list[Agent]


class FleetReader(Protocol):
    """The part of a cluster that only looks; all that the inventory needs."""

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        ...

    def nodes(self, region: str) -> list[Node]:
        """The nodes of a region alone: cheap enough to look at every few seconds."""
        ...

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region as they are now."""
        ...


class PlacementFollower(FleetReader, Protocol):
    """The part of a cluster that a failover run uses beside the control store."""

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Let the nodes follow placements that are in force, sooner than they would find out."""
        ...

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Ask an agent to stop, kill it after the grace period; returns once it is gone.

        Raises:
            NodeUnavailableError: nobody can ask its node.
        """
        ...


class ScaleWish(NamedTuple):
    """One workload's number in one region, as a controller of rescaling wants it now."""

    workload: str
    region: str
    replicas: int
    scales: int
    """Changes that had been made when this was decided: it is refused after another one."""
    state: AutoscalerState
    """What the autoscaler remembers once it is done."""
    reason: str


class FleetScaler(PlacementFollower, Protocol):
    """The part of a cluster that a run of rescaling uses."""

    def rescale(
        self, wishes: Sequence[ScaleWish], sessions: Mapping[str, int], *, term: int
    ) -> list[ScaleResult]:
        """Set the wanted numbers of many workloads at once, and place what is new.

        The change is committed as one, under the rescaling lease (`ScalingStore.apply_scales`);
        new agents are placed after it. Called again after a crash in between, it places those that
        wait, also when the changes themselves were made before.

        Args:
            wishes: each workload and region once.
            sessions: open sessions by agent, as far as they are known: who has fewest goes first.
            term: of the rescaling lease.

        Returns:
            One result for each wish, in the given order.

        Raises:
            LeaseLostError: the term does not hold the lease (any more); nothing was changed.
            NotFoundError: a workload has no agent anywhere to take the shape from.
        """
        ...


class Cluster(Protocol):
    """The machinery that runs nodes and agents: local processes, a simulator, Kubernetes.

    Fits Kubernetes as follows: `snapshot` lists Nodes and Pods, `apply_placements` is a
    server-side apply of Pods (idempotent, with epoch and term as annotations), `watch` is a watch
    with the resourceVersion as cursor, `scale` is the scale subresource, `evict` the Eviction API
    (and so subject to disruption budgets), `node_phase` reads the instance, not the kubelet.
    """

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region as they are now."""
        ...

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        ...

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Make the nodes run what the placements say; idempotent, refuses lower epochs."""
        ...

    def scale(self, workload: str, region: str, replicas: int) -> None:
        """Set the wanted number of a workload's agents in a region."""
        ...

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Ask an agent to stop, kill it after the grace period; returns once it is gone."""
        ...

    def watch(self, cursor: str, timeout_s: float) -> list[ClusterEvent]:
        """Events after the cursor ('' means from now); waits up to `timeout_s` for the first."""
        ...


class FaultInjector(Protocol):
    """Deliberate damage, for drills: implemented by local and simulated clusters only."""

    def kill_node(self, node_id: str) -> str:
        """End a node without warning; returns what was done, in words."""
        ...

    def pause_node(self, node_id: str, duration_s: float) -> str:
        """Freeze a node: it neither works nor fails, then goes on as if nothing had been."""
        ...

    def slow_node(self, node_id: str, delay_s: float, duration_s: float) -> str:
        """Delay a node's heartbeats."""
        ...

    def start_node(self, node_id: str) -> str:
        """Bring a killed node back."""
        ...
