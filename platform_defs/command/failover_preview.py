"""What a failover or fail-back would do now: the planner of the live run, on the live fleet.

Nothing is written. The run plans again when it acts, so the two differ by what has changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.controller_view import ControllerView, doubted_nodes
from fleet.failover_moves import PlannedMove
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.inventory import Node, NodePhase
from fleet.placement.parking import NO_NODE
from fleet.ports.clock import PatientClock
from fleet.ports.cluster import FleetReader
from fleet.ports.control_store import ControlStore
from platform_defs.command.operator_input import NODE
from platform_defs.command.output import age, cell_text
from platform_defs.declared_failover import declared_failover
from platform_defs.settings import Settings
from platform_defs.settings_fleet import RegionSettings

if TYPE_CHECKING:
    from ops.failover_planning import Proposal

NODES_TOLD = 5
TARGETS_TOLD = 10
REASONS_TOLD = 3


class Preview(NamedTuple):
    """What would happen."""

    subject: str
    """`node/<id>` or `region/<name>`."""
    nodes: list[Node]
    """That are left; of a fail-back those that are gone to."""
    moves: list[PlannedMove]
    """One for each agent that would move or be parked."""
    staying: int = 0
    """Of a fail-back: agents that have no place at home and stay where they are."""
    waiting: tuple[str, ...] = ()
    """Agents that would stay where they are, until a node is well again; sorted."""
    hoping: int = 0
    """Agents that would have a place if every node were well, whether they wait or are parked."""
    doubted: tuple[str, ...] = ()
    """Nodes that these wait for: down or in doubt, sorted."""

    @property
    def placed(self) -> list[PlannedMove]:
        """Moves to a node."""
        return [one for one in self.moves if one.node_id != NO_NODE]

    @property
    def parked(self) -> list[PlannedMove]:
        """Agents without a place."""
        return [one for one in self.moves if one.node_id == NO_NODE]


def preview_failover(
    settings: Settings,
    store: ControlStore,
    kind: str,
    name: str,
    home: RegionSettings,
    view: ControllerView | None = None,
    *,
    forced: bool = False,
) -> Preview:
    """Plan the failover of a node or region; writes nothing.

    Args:
        settings: of the fleet.
        store: its control store.
        kind: `node` or `region`.
        name: declared.
        home: the region that it is (in).
        view: which nodes the controller doubts; they are no targets.
        forced: it would be ordered by force: nobody waits for a node that is in doubt.
    """
    declaration = declared_failover(settings)
    is_node = kind == NODE
    left = (name,) if is_node else home.node_ids
    order = FailoverOrder(
        kind=OrderKind.NODE if is_node else OrderKind.REGION,
        subject=name,
        incident_id="",
        attempt=1,
        term=0,
        because=f"{kind} {name} is given up",
        nodes=tuple(sorted(left)),
        avoid=doubted(view),
        regions=() if is_node else declaration.targets.get(name, ()),
        head_room=0.0 if is_node else declaration.head_room,
        forced=forced,
    )
    reader, proposal = _propose(settings, store, order)
    wanted = frozenset(left)
    return Preview(
        f"{kind}/{name}",
        [one for one in reader.nodes(home.name) if one.node_id in wanted],
        proposal.moves,
        waiting=tuple(sorted(proposal.waiting)),
        hoping=len(proposal.hoping),
        doubted=proposal.doubted,
    )


def doubted(view: ControllerView | None) -> tuple[str, ...]:
    """Nodes that take nobody in: what the controller does not hold to be healthy, sorted."""
    return () if view is None else doubted_nodes(view)


def preview_fail_back(
    settings: Settings, store: ControlStore, region: str, view: ControllerView | None = None
) -> Preview:
    """Rehearse the way home of all agents of a region, against what its nodes have free now."""
    order = FailoverOrder(
        kind=OrderKind.FAIL_BACK,
        subject=region,
        incident_id="",
        attempt=1,
        term=0,
        because=f"region {region} is back",
        avoid=doubted(view),
        regions=(region,),
    )
    abroad = len(store.agents_abroad(region))
    reader, proposal = _propose(settings, store, order)
    moves = proposal.moves
    return Preview(f"region/{region}", reader.nodes(region), moves, abroad - len(moves))


def _propose(
    settings: Settings, store: ControlStore, order: FailoverOrder
) -> tuple[FleetReader, Proposal]:
    from ops.failover_planning import propose
    from ops.failover_ports import FailoverPorts
    from resources.clock import SystemClock

    clock: PatientClock = SystemClock()
    reader = _reader(settings, store, clock)
    ports = FailoverPorts(store, reader, clock, _never, _never)
    return reader, propose(ports, order, order.nodes)


def _never(*_args: object) -> None:
    raise AssertionError("a preview has moved something")


def _reader(settings: Settings, store: ControlStore, clock: PatientClock) -> FleetReader:
    """The same eyes as the run's: a local cluster also sees which processes have vanished."""
    if settings.fleet.cluster == "local":
        from resources.local.local_cluster import LocalCluster

        return LocalCluster(store, settings.fleet.state_dir, clock)
    from resources.reported_fleet import ReportedFleet

    return ReportedFleet(store, clock)


def preview_lines(preview: Preview, now: datetime) -> list[str]:
    """The preview of a failover in lines, without its head."""
    lines = [*_node_lines(preview.nodes, now)]
    if preview.moves or not preview.waiting:
        lines += move_lines(preview.moves)
    lines += _waiting_lines(preview)
    alive = [one for one in preview.nodes if one.phase == NodePhase.RUNNING]
    if alive and (preview.moves or preview.waiting):
        count = "it shows" if len(preview.nodes) == 1 else f"{len(alive)} of these nodes show"
        lines.append(
            f"  ! {count} life: agents are stopped there first; a node that cannot be asked is "
            "waited for until its lease is over"
        )
    return lines


def _waiting_lines(preview: Preview) -> list[str]:
    """Who waits for a node that is down or in doubt, or would if nobody used force."""
    if not preview.hoping:
        return []
    named = ", ".join(preview.doubted[:NODES_TOLD])
    more = len(preview.doubted) - NODES_TOLD
    which = f"{named} and {more} more" if more > 0 else named
    if preview.waiting:
        line = (
            f"  ! {_agents(len(preview.waiting))} would wait where they are: the only places for "
            f"them are on nodes that are down or in doubt ({which})"
        )
    else:
        line = (
            f"  ! {_agents(preview.hoping)} of these would wait, left to the automation: the only "
            f"places for them are on nodes that are down or in doubt ({which}); an order by force "
            "parks them"
        )
    return [cell_text(line)]


def move_lines(moves: Sequence[PlannedMove]) -> list[str]:
    """Where how many agents would go."""
    if not moves:
        return ["  no agent is placed there: nothing would be moved"]
    targets = Counter((one.region, one.node_id) for one in moves if one.node_id != NO_NODE)
    lines = [
        f"  {_agents(count)} to {node_id} ({region})"
        for (region, node_id), count in targets.most_common(TARGETS_TOLD)
    ]
    rest = targets.most_common()[TARGETS_TOLD:]
    if rest:
        lines.append(f"  {_agents(sum(n for _, n in rest))} to {len(rest)} more nodes")
    parked = Counter(
        one.reason.partition("; ")[2] or one.reason for one in moves if one.node_id == NO_NODE
    )
    lines += [f"  ! {_agents(n)} {why}" for why, n in parked.most_common(REASONS_TOLD)]
    left = sum(n for _, n in parked.most_common()[REASONS_TOLD:])
    if left:
        lines.append(f"  ! {_agents(left)} parked for other reasons (--json has each)")
    return [cell_text(line) for line in lines]


def _node_lines(nodes: Sequence[Node], now: datetime) -> list[str]:
    if len(nodes) > NODES_TOLD:
        phases = Counter(one.phase.value for one in nodes)
        told = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
        return [f"  {len(nodes)} nodes: {told}"]
    lines = []
    for one in nodes:
        beat = "never heard of"
        if one.heartbeat_at is not None:
            beat = f"last heartbeat {age(one.heartbeat_at, now)} ago"
        lines.append(f"  {one.node_id} in {one.region}: {one.phase.value}, {beat}")
    return lines


def preview_document(preview: Preview) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "subject": preview.subject,
        "nodes": [
            {"node_id": one.node_id, "phase": one.phase.value, "heartbeat_at": one.heartbeat_at}
            for one in preview.nodes
        ],
        "agents_placed": len(preview.placed),
        "agents_parked": len(preview.parked),
        "agents_staying": preview.staying,
        "agents_waiting": len(preview.waiting),
        "agents_hoping": preview.hoping,
        "nodes_in_doubt": list(preview.doubted),
        "waiting": list(preview.waiting),
        "moves": [one._asdict() for one in preview.moves],
    }


def _agents(count: int) -> str:
    return f"{count:,} {'agent' if count == 1 else 'agents'}"
