"""Removes one thing that is left behind, once somebody has approved it.

Two looks came before: the one that `cleanup_plan` has recorded, and one at this moment by the same
reader, with the same age and the same names to keep. The remover looks a third time at what it
takes. Every step is the thing's own commit (a placement, a record of the vault's log, a deletion),
so a call that was cut off is repeated and goes on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fleet.agents import Placement
from fleet.cleanup import CleanupPolicy, CleanupProposal, LeftKind, Orphan, plan_cleanup
from fleet.errors import InvalidInputError, NotFoundError, PermanentError, VersionConflictError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.orphan_reader import OrphanReader, OrphanRemover
from fleet.rescaling.standing import HOLD, ScalingOrder
from fleet.retention import RetentionPolicy
from fleet.scaling import is_scaled_away, scaled_reason
from resources.vault.region_vaults import RegionVaults

NEWEST_ALONE = RetentionPolicy(last=1, hourly=0, daily=0, weekly=0, monthly=0, yearly=0)
"""What retention keeps of a network that is declared no more; its guards keep more."""

_STOPS = "stops what is idle"


class Approval(NamedTuple):
    """A person's word for one removal."""

    by: str
    reason: str


class CleanupPorts(NamedTuple):
    """What a removal touches."""

    store: ControlStore
    vaults: RegionVaults
    readers: Sequence[OrphanReader]
    removers: Mapping[LeftKind, OrphanRemover]
    idle: Callable[[], Iterable[CleanupProposal]]
    """Idle agents at this moment."""
    scaled: frozenset[str]
    """Workloads whose number is decided by rescaling, and needs no order."""
    policy: CleanupPolicy
    clock: Clock


class Removed(NamedTuple):
    """What a removal did."""

    freed_bytes: int
    said: str


class Judged(NamedTuple):
    """Something left behind, as it was judged at this moment."""

    proposal: CleanupProposal
    orphan: Orphan | None
    """As its reader found it; None for an idle agent."""
    placed: Placement | None = None
    """Of an idle agent, read before it was judged: who moves it since is noticed."""


def remove_left_behind(ports: CleanupPorts, chosen: CleanupProposal, approval: Approval) -> Removed:
    """Look again, and remove what was approved.

    Args:
        ports: what is touched.
        chosen: as it was recorded.
        approval: who wants it, and why.

    Raises:
        NotFoundError: it is not left behind any more, or not old enough by now.
        InvalidInputError: it is held, or nothing can remove its kind.
        PermanentError: it has come back to life meanwhile; nothing was removed.
        TransientError: a place cannot be reached; part of it may be gone, the next call goes on.
    """
    return _remove(ports, chosen, approval, look_again(ports, LeftKind(chosen.kind)))


def remove_all_of(
    ports: CleanupPorts, chosen: Sequence[CleanupProposal], approval: Approval
) -> tuple[list[Removed], list[PermanentError]]:
    """Remove things of one kind, all looked at again together, each as `remove_left_behind` would.

    Returns:
        What was removed, and why the others stay.

    Raises:
        TransientError: a place cannot be reached; what was removed until then is gone.
    """
    again = look_again(ports, LeftKind(chosen[0].kind)) if chosen else {}
    removed, refused = [], []
    for one in chosen:
        try:
            removed.append(_remove(ports, one, approval, again))
        except PermanentError as error:
            refused.append(error)
    return removed, refused


def look_again(ports: CleanupPorts, kind: LeftKind) -> dict[str, Judged]:
    """Everything of a kind that is left behind at this moment, by the id of its proposal."""
    if kind is LeftKind.IDLE_AGENT:
        places = {one.agent_id: one for one in ports.store.placements() if one.node_id}
        idle = ports.idle()
        return {one.proposal_id: Judged(one, None, places.get(one.subject)) for one in idle}
    readers = [reader for reader in ports.readers if reader.kind == kind]
    found = {(one.subject, one.region): one for reader in readers for one in reader.orphans()}
    judged = plan_cleanup(found.values(), ports.policy, 0.0, ports.clock.now())
    return {one.proposal_id: Judged(one, found[one.subject, one.region]) for one in judged}


def _remove(
    ports: CleanupPorts,
    chosen: CleanupProposal,
    approval: Approval,
    again: Mapping[str, Judged],
) -> Removed:
    kind = LeftKind(chosen.kind)
    if kind is LeftKind.IDLE_AGENT:
        return _remove_idle(ports, chosen, approval, again)
    orphan = _demand_free(again, chosen).orphan
    assert orphan is not None, "only idle agents have none"
    if kind is LeftKind.UNDECLARED_BACKUPS:
        return forget_snapshots(ports.vaults, orphan.subject, approval)
    remover = ports.removers.get(kind)
    if remover is None:
        raise InvalidInputError(
            "--approve", chosen.proposal_id, f"not of kind {kind}, which nothing removes",
            hint="`stateroom costs proposals` says what to do with it.",
        )  # fmt: skip
    freed = remover.remove(orphan)
    return Removed(freed, f"removed {orphan.detail}")


def _demand_free(again: Mapping[str, Judged], chosen: CleanupProposal) -> Judged:
    """What was approved, as it is now: still proposed, and held by nobody."""
    found = again.get(chosen.proposal_id)
    if found is None:
        raise NotFoundError(
            f"{chosen.kind} {chosen.subject} is not left behind any more; nothing was removed",
            hint="It is gone, in use again, or was written since; `costs_job` looks every hour.",
        )
    if found.proposal.held:
        raise InvalidInputError(
            "--approve", chosen.proposal_id, f"one that is not held ({found.proposal.reason})"
        )
    return found


def _remove_idle(
    ports: CleanupPorts,
    chosen: CleanupProposal,
    approval: Approval,
    again: Mapping[str, Judged],
) -> Removed:
    # By region: one that an earlier call has stopped may have given its node back since.
    agent = ports.store.agent(chosen.subject)
    here = [] if agent is None else ports.store.placements(region=agent.region)
    placed = next((one for one in here if one.agent_id == chosen.subject), None)
    if placed is None or not _was_stopped_by_us(placed):
        placed = _demand_free(again, chosen).placed
    if placed is None:
        raise NotFoundError(
            f"agent {chosen.subject} is on no node; nothing was changed",
            hint="`stateroom agents` says what runs.",
        )
    return stop_idle_agent(ports, placed, approval)


def _was_stopped_by_us(placed: Placement) -> bool:
    """Whether an earlier call, which was cut off, has stopped it: then only the number is due."""
    return is_scaled_away(placed) and _STOPS in placed.reason


def stop_idle_agent(ports: CleanupPorts, placed: Placement, approval: Approval) -> Removed:
    """Scale one agent away: it is stopped where it is, and its workload is to have one less.

    Committed by the compare-and-swap of its placement; its node stops it, its state stays, and more
    load or `stateroom scale` brings it back. Then its number is held, so that a start of the fleet
    does not bring it back either; where rescaling decides the number, that is left to it. Killed in
    between, the same call holds it.

    Raises:
        VersionConflictError: it was placed anew since it was looked at; nothing was changed.
    """
    now, key = ports.clock.now(), (placed.workload, placed.region)
    left = sum(
        one.is_wanted and one.agent.agent_id != placed.agent_id
        for one in ports.store.scaled_agents([placed.workload])
        if (one.home if one.placement is None else one.placement.region) == placed.region
    )
    said = f"{approval.by} {_STOPS}: {approval.reason}"
    if placed.desired == "running":
        reason = f"{scaled_reason(left, placed.region)}; {said}"
        stopped = placed._replace(desired="stopped", reason=reason, updated_at=now)
        if not ports.store.place_agents([stopped]):
            raise VersionConflictError(
                f"agent {placed.agent_id} was placed anew since it was looked at; it goes on",
                hint="`stateroom agent NAME` tells why.",
            )
    if placed.workload not in ports.scaled:
        order = ScalingOrder(*key, HOLD, left, approval.by, said, now)
        ports.store.order_scaling([order])
    return Removed(0, f"stopped {placed.agent_id}; {placed.workload} has {left} in {key[1]} now")


def forget_snapshots(vaults: RegionVaults, network_id: str, approval: Approval) -> Removed:
    """Forget the snapshots of a network that is declared no more, as retention forgets.

    All rules of the vault hold: what is held, waits for its verification or is the newest verified
    one stays, in every region by its own evidence; space is freed by a later call, a day after the
    garbage was condemned. Where more goes at once than the brake lets go, the person's word stands
    in the vault as the approval of exactly this plan.

    Raises:
        InvalidInputError: the network is declared (again).
        PermanentError: it was shredded, no key opens it, or the log forbids it.
        TransientError: a vault does not answer; the next call goes on.
    """
    from fleet.snapshot_fitness import GuardPolicy
    from ops.retention import carry_out_retention
    from resources.vault.retention.retention_plan import approve, plan_vault

    declaration = vaults.declaration
    if network_id in declaration.vault_networks:
        raise InvalidInputError("network", network_id, "one that is not declared")
    opened = RegionVaults(
        replace(declaration, networks=(*declaration.networks, network_id), retention=NEWEST_ALONE),
        vaults.clock,
    )
    vault, home, guards = opened.home(network_id), declaration.home_region, GuardPolicy()
    decided = plan_vault(vault, home, NEWEST_ALONE, guards)
    if decided.plan.refused is not None:
        approve(vault, decided, approval.by, approval.reason)
        decided = plan_vault(vault, home, NEWEST_ALONE, guards)
    done = carry_out_retention(opened, network_id, decided)
    _pull_copies(opened, network_id)
    left = len(vault.log.refresh().live)
    freed = int(done["swept_bytes"]) + int(done["trimmed_bytes"])
    return Removed(
        freed,
        f"{network_id}: {done['outcome']}; {left} stay by the vault's guards (`stateroom keys "
        f"shred` ends them), {done['packs_condemned']} packs are freed a day from now by the same "
        "call",
    )


def _pull_copies(vaults: RegionVaults, network_id: str) -> None:
    """Bring the log to the other regions, which learn of it in no other way any more.

    Their own packs go with a later call, a day after they have learnt of it.
    """
    from resources.vault.replicas.replicate import replicate

    home = vaults.home(network_id)
    for region in vaults.declaration.replica_regions:
        if vaults.store(region).list_objects(f"keys/{network_id}."):
            replicate(home, vaults.replica(region, network_id))
