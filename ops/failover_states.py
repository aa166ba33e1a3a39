"""States of agents that are about to start elsewhere: looked at, and brought back when lost."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import CorruptObjectError
from fleet.failover_moves import PlannedMove
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incident_timeline import Losses
from fleet.placement.parking import NO_NODE
from fleet.ports.state_rescue import RescuedState
from ops.failover_ports import FailoverPorts

RESTORE_ATTEMPTS = 3
"""So many attempts of a move look for a backup that can be restored, before an agent is parked.

A vault that does not answer may do so in a minute, and parking is for good, until a person comes.
Attempts follow each other by `move_retry_s`; until then the agent stays where it was placed.
"""


class StatesFound(NamedTuple):
    """What a look at the states of some agents has found and done."""

    parked: Mapping[str, PlannedMove]
    """Agents whose state cannot be had, on their way to nowhere."""
    waiting: AbstractSet[str]
    """Agents that stay where they are: their backups could not be restored this time."""
    losses: Losses
    told: str


def restore_states(
    ports: FailoverPorts,
    order: FailoverOrder,
    pending: Sequence[PlannedMove],
    stored: Mapping[str, Placement],
) -> StatesFound:
    """Look at the states of agents that are about to start elsewhere; bring back what is lost.

    Whose backups fail is left where it is until the attempt `RESTORE_ATTEMPTS`, which parks it. On
    the way home nobody is parked for it: who cannot be moved runs where it is.
    """
    starting = [one for one in pending if one.node_id != NO_NODE]
    lost, damaged = find_unreadable(ports, [one.agent_id for one in starting])
    found = f"{len(starting) - len(lost) - len(damaged)} states are whole"
    if not lost and not damaged:
        return StatesFound({}, frozenset(), Losses(), found)
    versions = _known_versions(ports, damaged)
    back, losses = 0, Losses()
    parked, waiting, by_id = {}, set(), {one.agent_id: one for one in starting}
    for one in _rescue_all(ports, order, [*lost, *damaged], stored):
        if one.version:
            back += 1
            losses = _with_loss(losses, one, versions.get(one.agent_id), ports.clock.now())
        elif (one.problem or one.agent_id in damaged) and _may_wait(order, one):
            waiting.add(one.agent_id)
        elif one.problem or one.agent_id in damaged:
            why = one.problem or "its state is damaged, and no backup holds another"
            parked[one.agent_id] = by_id[one.agent_id]._replace(
                node_id=NO_NODE, desired="parked", reason=f"{order.because}; parked: {why}"
            )
    found += f", {back} came back from a backup" if back else ""
    found += f", {len(waiting)} cannot be had yet and stay where they are" if waiting else ""
    found += f", {len(parked)} cannot be had" if parked else ""
    empty = len(lost) + len(damaged) - back - len(waiting) - len(parked)
    found += f", {empty} agents never stored one" if empty else ""
    return StatesFound(parked, waiting, losses._replace(unknown=len(parked)), found)


def _may_wait(order: FailoverOrder, rescued: RescuedState) -> bool:
    """Whether another attempt may have what this one has not, or the agent runs where it is."""
    if order.kind == OrderKind.FAIL_BACK:
        return True
    return bool(rescued.problem) and order.attempt < RESTORE_ATTEMPTS


def find_unreadable(ports: FailoverPorts, agent_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """Agents without a state, and agents whose state is damaged."""
    try:
        whole = {one.agent_id for one in ports.store.states(agent_ids)}
        return [one for one in agent_ids if one not in whole], []
    except CorruptObjectError:
        lost, damaged = [], []
    for agent_id in agent_ids:
        try:
            if ports.store.state(agent_id) is None:
                lost.append(agent_id)
        except CorruptObjectError:
            damaged.append(agent_id)
    return lost, damaged


def _known_versions(ports: FailoverPorts, agent_ids: Sequence[str]) -> dict[str, int]:
    """Versions that damaged states had, as their rows still say."""
    wanted = set(agent_ids)
    if not wanted:
        return {}
    infos = ports.store.state_infos()
    return {one.agent_id: one.version for one in infos if one.agent_id in wanted}


def _rescue_all(
    ports: FailoverPorts,
    order: FailoverOrder,
    agent_ids: Sequence[str],
    stored: Mapping[str, Placement],
) -> list[RescuedState]:
    """Ask the backups of each network; those of a region that is left as a whole are lost."""
    if ports.rescue is None:
        return [RescuedState(one, 0, None, "", "") for one in agent_ids]
    by_network: dict[str, list[str]] = defaultdict(list)
    for agent_id in agent_ids:
        by_network[stored[agent_id].network_id].append(agent_id)
    found: list[RescuedState] = []
    lost_regions = {stored[one].region for one in agent_ids} if order.is_region else set()
    for network_id, names in sorted(by_network.items()):
        found += ports.rescue.rescue_states(network_id, names, lost_regions)
    return found


def _with_loss(losses: Losses, rescued: RescuedState, version: int | None, now: datetime) -> Losses:
    age_s = (now - rescued.stored_at).total_seconds() if rescued.stored_at else 0.0
    return losses._replace(
        versions=losses.versions + max(0, (version or rescued.version) - rescued.version),
        seconds=max(losses.seconds, age_s),
    )
