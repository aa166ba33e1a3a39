"""What the settings declare, as the records that stores and clusters take. Imports no Dagster."""

from __future__ import annotations

from fleet.agents import Workload
from fleet.declaration import WorkloadReplicas
from fleet.placement.quotas import NetworkLimits
from fleet.reports import AgentDeclaration, NodeDeclaration
from platform_defs.settings import Settings
from platform_defs.settings_fleet import MIB


def declared_nodes(settings: Settings) -> list[NodeDeclaration]:
    """Every node, in the order of regions and nodes; its zone is its region's next in turn."""
    node = settings.node
    return [
        NodeDeclaration(
            node_id=node_id,
            region=region.name,
            zone=zone,
            cpu_milli=node.cpu_milli,
            memory_bytes=node.memory_mib * MIB,
            bandwidth_bps=node.bandwidth_mbps * 1_000_000,
            gpu_count=node.gpu_count,
            gpu_memory_bytes=node.gpu_memory_mib * MIB,
            gpu_model=node.gpu_model or None,
        )
        for region in settings.regions
        for node_id, zone in zip(region.node_ids, region.node_zones, strict=True)
    ]


def declared_workloads(settings: Settings) -> list[Workload]:
    """Every workload, in the order of the settings."""
    return [workload.workload() for workload in settings.workloads]


def declared_limits(settings: Settings) -> list[NetworkLimits]:
    """Quotas and limits of the networks that have some, in the order of the settings."""
    found = [network.network_limits() for network in settings.networks]
    return [one for one in found if one is not None]


def declared_replicas(settings: Settings) -> list[WorkloadReplicas]:
    """How many of `declared_agents` each workload has, without making them."""
    nodes = sum(len(region.node_ids) for region in settings.regions)
    return [
        WorkloadReplicas(
            workload.network,
            workload.name,
            workload.replicas_per_node * nodes,
            is_scaled=workload.scaling is not None,
        )
        for workload in settings.workloads
    ]


def scaled_workloads(settings: Settings) -> frozenset[str]:
    """Workloads whose number rescaling decides: what is declared is where they begin."""
    return frozenset(one.name for one in settings.workloads if one.scaling is not None)


def declared_agents(settings: Settings) -> list[AgentDeclaration]:
    """Every agent: `<region>-<workload>-<number>`, replicas times nodes of each region.

    The name holds no node, because an agent keeps it when it moves.
    """
    return [
        AgentDeclaration(
            agent_id=f"{region.name}-{workload.name}-{number}",
            network_id=workload.network,
            workload=workload.name,
            region=region.name,
            cpu_milli=workload.cpu_milli,
            memory_bytes=workload.memory_mib * MIB,
            bandwidth_bps=workload.bandwidth_mbps * 1_000_000,
            gpu_milli=workload.gpu_milli,
            gpu_memory_bytes=workload.gpu_memory_mib * MIB,
            priority=workload.priority,
        )
        for region in settings.regions
        for workload in settings.workloads
        for number in range(1, workload.replicas_per_node * len(region.node_ids) + 1)
    ]
