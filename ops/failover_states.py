"""States of agents that are about to start elsewhere: looked at, and brought back when lost."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import CorruptObjectError
from fleet.failover_moves import PlannedMove
from fleet.failover_order import FailoverOrder
from fleet.incident_timeline import Losses
from fleet.placement import NO_NODE
from fleet.ports.state_rescue import RescuedState
from ops.failover_ports import FailoverPorts


class StatesFound(NamedTuple):
    """What a look at the states of some agents has found and done."""

    parked: Mapping[str, PlannedMove]
    """Agents whose state cannot be had, on their way to nowhere."""
    losses: Losses
    told: str


def restore_states(
    ports: FailoverPorts,
    order: FailoverOrder,
    pending: Sequence[PlannedMove],
    stored: Mapping[str, Placement],
) -> StatesFound:
    """Look at the states of agents that are about to start elsewhere; bring back what is lost."""
    starting = [one for one in pending if one.node_id != NO_NODE]
    lost, damaged = find_unreadable(ports, [one.agent_id for one in starting])
    found = f"{len(starting) - len(lost) - len(damaged)} states are whole"
    if not lost and not damaged:
        return StatesFound({}, Losses(), found)
    versions = _known_versions(ports, damaged)
    by_network: dict[str, list[str]] = defaultdict(list)
    for agent_id in (*lost, *damaged):
        by_network[stored[agent_id].network_id].append(agent_id)
    regions = {stored[one.agent_id].region for one in starting} if order.is_region else set()
    back, parked, losses = 0, {}, Losses()
    by_id = {one.agent_id: one for one in starting}
    for network_id, agent_ids in sorted(by_network.items()):
        for one in _rescue(ports, network_id, agent_ids, regions):
            if one.version:
                back += 1
                losses = _with_loss(losses, one, versions.get(one.agent_id), ports.clock.now())
            elif one.problem or one.agent_id in damaged:
                why = one.problem or "its state is damaged, and no backup holds another"
                parked[one.agent_id] = by_id[one.agent_id]._replace(
                    node_id=NO_NODE, desired="parked", reason=f"{order.because}; parked: {why}"
                )
    found += f", {back} came back from a backup" if back else ""
    found += f", {len(parked)} cannot be had" if parked else ""
    empty = len(lost) + len(damaged) - back - len(parked)
    found += f", {empty} agents never stored one" if empty else ""
    return StatesFound(parked, losses._replace(unknown=len(parked)), found)


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


def _rescue(
    ports: FailoverPorts, network_id: str, agent_ids: Sequence[str], lost_regions: set[str]
) -> list[RescuedState]:
    if ports.rescue is None:
        return [RescuedState(one, 0, None, "", "") for one in agent_ids]
    return ports.rescue.rescue_states(network_id, agent_ids, lost_regions)


def _with_loss(losses: Losses, rescued: RescuedState, version: int | None, now: datetime) -> Losses:
    age_s = (now - rescued.stored_at).total_seconds() if rescued.stored_at else 0.0
    return losses._replace(
        versions=losses.versions + max(0, (version or rescued.version) - rescued.version),
        seconds=max(losses.seconds, age_s),
    )
