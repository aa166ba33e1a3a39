"""Rules between settings: what each key alone cannot show to be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fleet.names import NAME_MAX_CHARS
from platform_defs.settings_fleet import NODES_MAX, RegionSettings, WorkloadSettings
from platform_defs.settings_records import NodeSettings
from platform_defs.settings_source import nearest


class Violation(NamedTuple):
    """A broken rule, and the key whose line is shown with it."""

    path: tuple[str, ...]
    message: str


def violations(
    node: NodeSettings | None,
    regions: Sequence[RegionSettings],
    networks: Sequence[str],
    workloads: Sequence[WorkloadSettings],
) -> list[Violation]:
    """Every broken rule among the records that are valid by themselves.

    Args:
        node: None when a key of its own is wrong; its rules then wait.
        regions: the valid ones, in the order of the file.
        networks: names of all networks, also of those with a wrong key.
        workloads: the valid ones, in the order of the file.
    """
    broken = [
        *region_violations(regions),
        *failover_violations(regions),
        *workload_violations(networks, workloads),
        *name_violations(regions, workloads),
    ]
    if node is not None:
        broken += [*heartbeat_violations(node), *capacity_violations(node, workloads)]
    return broken


class StorePlace(Protocol):
    """Settings of a store that may lie in a bucket."""

    @property
    def bucket(self) -> str:
        """Empty: it lies in a folder."""
        ...

    @property
    def prefix(self) -> str:
        """Before each key in the bucket."""
        ...


def bucket_violations(
    here: tuple[str, ...], place: StorePlace, more: Sequence[str] = ()
) -> Iterator[Violation]:
    """Keys of a bucket need one.

    Args:
        here: path of the table.
        place: the table.
        more: its keys that mean something only with a bucket, besides those of every such table.
    """
    for only in ("prefix", "endpoint_url", "aws_region", *more):
        if getattr(place, only) and not place.bucket:
            yield Violation((*here, only), "has a meaning only with `bucket`")
    if place.prefix and not place.prefix.endswith("/"):
        yield Violation((*here, "prefix"), f"{place.prefix!r} does not end in '/'")


def heartbeat_violations(node: NodeSettings) -> Iterator[Violation]:
    """A node must get two heartbeats into a lease, and is late before it is lost."""
    interval_s = node.heartbeat_interval_s
    if node.lease_ttl_s < 2 * interval_s:
        yield Violation(
            ("node", "lease_ttl_s"),
            f"{node.lease_ttl_s:g} is less than two heartbeats ({2 * interval_s:g}); "
            "one lost heartbeat would end the lease",
        )
    if node.heartbeat_late_s <= interval_s:
        yield Violation(
            ("node", "heartbeat_late_s"),
            f"{node.heartbeat_late_s:g} is not more than heartbeat_interval_s ({interval_s:g}); "
            "every node would be late",
        )
    if node.heartbeat_lost_s < node.heartbeat_late_s:
        yield Violation(
            ("node", "heartbeat_lost_s"),
            f"{node.heartbeat_lost_s:g} is less than heartbeat_late_s "
            f"({node.heartbeat_late_s:g}); a node is late before it is lost",
        )


def region_violations(regions: Sequence[RegionSettings]) -> Iterator[Violation]:
    """Each node has one region, and the fleet has a size that is supported."""
    if sum(_count(region) for region in regions) > NODES_MAX:
        yield Violation(("regions",), f"more than {NODES_MAX} nodes together")
        return
    home: dict[str, str] = {}
    for region in regions:
        for node_id in region.node_ids:
            if node_id in home:
                yield Violation(
                    ("regions", region.name, "nodes"),
                    f"node {node_id!r} is already in region {home[node_id]}; "
                    "a node belongs to one region",
                )
            home.setdefault(node_id, region.name)


def failover_violations(regions: Sequence[RegionSettings]) -> Iterator[Violation]:
    """Agents go to regions that exist, and not to the one that is lost."""
    names = [region.name for region in regions]
    for region in regions:
        here = ("regions", region.name, "failover_to")
        for one in region.failover_to:
            others = [name for name in names if name != region.name]
            if one == region.name:
                yield Violation(here, f"names {one!r} itself; it is the region that is lost")
            elif one not in names:
                guess = nearest(one, others)
                meant = f"did you mean {guess!r}?" if guess else f"known: {', '.join(others)}"
                yield Violation(here, f"unknown region {one!r}; {meant}")


def _count(region: RegionSettings) -> int:
    return region.nodes if isinstance(region.nodes, int) else len(region.nodes)


def workload_violations(
    networks: Sequence[str], workloads: Sequence[WorkloadSettings]
) -> Iterator[Violation]:
    """A workload runs exactly one thing and belongs to a network that exists."""
    for workload in workloads:
        here = ("workloads", workload.name)
        if workload.network not in networks:
            guess = nearest(workload.network, networks)
            meant = f"did you mean {guess!r}?" if guess else f"known: {', '.join(networks)}"
            yield Violation((*here, "network"), f"unknown network {workload.network!r}; {meant}")
        if bool(workload.function) == bool(workload.command):
            count = "both" if workload.function else "neither"
            yield Violation(
                here, f"has {count} of `function` and `command`; exactly one says what it runs"
            )
        if workload.restart.delay_max_s < workload.restart.delay_s:
            yield Violation(
                (*here, "restart", "delay_max_s"),
                f"{workload.restart.delay_max_s:g} is less than delay_s "
                f"({workload.restart.delay_s:g})",
            )


def name_violations(
    regions: Sequence[RegionSettings], workloads: Sequence[WorkloadSettings]
) -> Iterator[Violation]:
    """Agents are called `<region>-<workload>-<number>`: each name belongs to one of them."""
    owners: dict[str, str] = {}
    for region in regions:
        for workload in workloads:
            prefix, here = f"{region.name}-{workload.name}", f"{workload.name} in {region.name}"
            if len(prefix) > NAME_MAX_CHARS - len(f"-{NODES_MAX * 10_000}"):
                yield Violation(
                    ("workloads", workload.name),
                    f"agents would be called {prefix}-1, ..., longer than {NAME_MAX_CHARS}",
                )
            if prefix in owners:
                yield Violation(
                    ("workloads", workload.name),
                    f"agents of {here} would be called {prefix}-1 like those of {owners[prefix]}",
                )
            owners.setdefault(prefix, here)


def capacity_violations(
    node: NodeSettings, workloads: Sequence[WorkloadSettings]
) -> Iterator[Violation]:
    """What a node's agents are allocated together fits the node."""
    room = {
        "cpu_milli": node.cpu_milli,
        "memory_mib": node.memory_mib,
        "bandwidth_mbps": node.bandwidth_mbps,
        "gpu_milli": node.gpu_count * 1000,
        "gpu_memory_mib": node.gpu_memory_mib,
    }
    for quantity, capacity in room.items():
        wanted = {w.name: w.replicas_per_node * int(getattr(w, quantity)) for w in workloads}
        total = sum(wanted.values())
        if total > capacity and (capacity or quantity != "bandwidth_mbps"):  # 0 Mbit/s: no limit
            parts = " + ".join(f"{name} {amount}" for name, amount in wanted.items() if amount)
            has = "gpu_count" if quantity == "gpu_milli" else quantity
            yield Violation(
                ("node", has),
                f"the workloads of one node are allocated {total} {quantity} ({parts}), "
                f"a node has {capacity}",
            )
