"""Removing what is left behind: looked at again, by the rules of whoever holds it, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.agents import Workload
from fleet.approvals import decode_approval
from fleet.backup_evidence import VerificationEvidence
from fleet.cleanup import CleanupPolicy, CleanupProposal, LeftKind, Orphan
from fleet.costs.proposals import ProposalKind, proposal_id
from fleet.errors import InvalidInputError, NotFoundError, VersionConflictError
from fleet.rescaling.standing import HOLD
from fleet.vault_log import EvidenceRecord
from ops.cleanup_removal import (
    Approval,
    CleanupPorts,
    forget_snapshots,
    remove_all_of,
    remove_left_behind,
)
from platform_defs.declared_backup import simple_backup
from resources.vault.region_vaults import RegionVaults
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import hold
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.evidence import record_evidence
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import SeededFleet, declare_fleet
from tests.fakes.vault_fleet import VaultFleet

ANN = Approval("ann", "project ended")


def proposal(kind: LeftKind, subject: str, region: str = "") -> CleanupProposal:
    """As the list has recorded it."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    named = f"idle_agent {subject}" if kind is LeftKind.IDLE_AGENT else f"{kind} {region} {subject}"
    one = proposal_id(ProposalKind.CLEANUP.value, named)
    return CleanupProposal(one, kind.value, subject, region, 5, 1e6, False, 0.0, "why", at)


class OneFolder:
    """Something left behind in one place, that counts how often it was removed."""

    kind = LeftKind.LAKE_PARTITION

    def __init__(self, clock: ManualClock, age_days: float = 8.0) -> None:
        """One thing of five bytes."""
        at = clock.now() - timedelta(days=age_days)
        self.found = [Orphan(self.kind.value, "nodes/mars", "", 5, at, "2 objects of mars")]
        self.removed: list[Orphan] = []

    def orphans(self) -> Iterable[Orphan]:
        """As long as it is there."""
        return self.found

    def remove(self, orphan: Orphan) -> int:
        """All of it."""
        self.removed.append(orphan)
        self.found = []
        return orphan.size_bytes


class World:
    """A fleet of one region with two agents a node, and something left behind."""

    def __init__(self, folder: Path) -> None:
        """Everything runs, and is idle."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.fleet = SeededFleet(self.store, self.clock, declare_fleet(("eu",)))
        self.store.declare_workloads([Workload("work", "net", "observe")])
        self.fleet.beat()
        self.idle = [proposal(LeftKind.IDLE_AGENT, "eu-1-a1", "eu")]
        self.folder = OneFolder(self.clock)
        self.vaults = RegionVaults(simple_backup(("eu",), str(folder)), self.clock)

    def ports(self, policy: CleanupPolicy | None = None, scaled: str = "") -> CleanupPorts:
        """What a removal touches."""
        return CleanupPorts(
            self.store,
            self.vaults,
            (self.folder,),
            {LeftKind.LAKE_PARTITION: self.folder},
            lambda: self.idle,
            frozenset([scaled]),
            policy or CleanupPolicy(),
            self.clock,
        )

    def desired(self, agent_id: str = "eu-1-a1") -> str:
        """What is wanted of an agent."""
        return next(one.desired for one in self.store.placements() if one.agent_id == agent_id)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Stores of their own."""
    return World(tmp_path)


MARS = proposal(LeftKind.LAKE_PARTITION, "nodes/mars")


def test_what_is_still_left_behind_is_removed_and_no_second_time(world: World) -> None:
    """By its own remover, as the second look has found it."""
    done = remove_left_behind(world.ports(), MARS, ANN)
    assert (done.freed_bytes, done.said) == (5, "removed 2 objects of mars")
    with pytest.raises(NotFoundError, match="not left behind any more"):
        remove_left_behind(world.ports(), MARS, ANN)
    assert len(world.folder.removed) == 1


def _younger(world: World) -> None:
    world.folder = OneFolder(world.clock, age_days=6.0)


def _gone(world: World) -> None:
    world.folder.found = []


@pytest.mark.parametrize("change", [_younger, _gone])
def test_what_was_written_since_or_is_gone_is_not_removed(
    world: World, change: Callable[[World], None]
) -> None:
    """The second look judges by the same age as the first."""
    change(world)
    with pytest.raises(NotFoundError, match="nothing was removed"):
        remove_left_behind(world.ports(), MARS, ANN)
    assert world.folder.removed == []


def test_what_is_held_by_now_or_nobody_can_remove_stays(world: World) -> None:
    """Names to keep are those of this moment."""
    with pytest.raises(InvalidInputError, match="held by 'nodes/\\*'"):
        remove_left_behind(world.ports(CleanupPolicy(keep=("nodes/*",))), MARS, ANN)
    ports = world.ports()._replace(removers={})
    with pytest.raises(InvalidInputError, match="which nothing removes"):
        remove_left_behind(ports, MARS, ANN)
    assert world.folder.removed == []


def test_things_of_one_kind_go_together_and_what_came_back_stays(world: World) -> None:
    """Looked at once for all of them; who refuses says why, and holds nobody else up."""
    rows = [MARS, proposal(LeftKind.LAKE_PARTITION, "nodes/venus")]
    removed, refused = remove_all_of(world.ports(), rows, ANN)
    assert [one.said for one in removed] == ["removed 2 objects of mars"]
    assert ["nodes/venus is not left behind" in str(one) for one in refused] == [True]
    assert remove_all_of(world.ports(), [], ANN) == ([], [])


def test_an_idle_agent_is_scaled_away_and_its_number_held(world: World) -> None:
    """Its state stays; who stopped it and why stands in its placement."""
    world.fleet.write_states()
    done = remove_left_behind(world.ports(), world.idle[0], ANN)
    assert done.said == "stopped eu-1-a1; work has 3 in eu now"
    assert world.desired() == "stopped"
    (placed,) = [one for one in world.store.placements() if one.agent_id == "eu-1-a1"]
    assert placed.reason == "scaled to 3 in eu; ann stops what is idle: project ended"
    (order,) = world.store.scaling_orders()
    assert (order.key, order.kind, order.replicas) == (("work", "eu"), HOLD, 3)
    assert world.store.state("eu-1-a1") is not None
    assert world.desired("eu-1-a2") == "running"


def test_the_number_of_a_workload_that_is_scaled_is_left_to_its_scaler(world: World) -> None:
    """A person's number would stand above it for ever."""
    remove_left_behind(world.ports(scaled="work"), world.idle[0], ANN)
    assert (world.desired(), world.store.scaling_orders()) == ("stopped", [])


def test_an_agent_that_works_again_goes_on(world: World) -> None:
    """The newest samples say so."""
    approved, world.idle = world.idle[0], []
    with pytest.raises(NotFoundError, match="not left behind any more"):
        remove_left_behind(world.ports(), approved, ANN)
    assert world.desired() == "running"


@pytest.mark.parametrize("gone", [True, False])
def test_an_agent_that_is_on_no_node_any_more_is_left_as_it_is(world: World, gone: bool) -> None:
    """It was retired, or parked."""
    if gone:
        world.store.retire_agents(["eu-1-a1"])
    else:
        (placed,) = [one for one in world.store.placements() if one.agent_id == "eu-1-a1"]
        world.store.place_agents([placed._replace(node_id="", desired="parked")])
    with pytest.raises(NotFoundError, match="on no node"):
        remove_left_behind(world.ports(), world.idle[0], ANN)


def test_an_agent_that_is_placed_anew_at_that_moment_goes_on(world: World) -> None:
    """The compare-and-swap refuses: somebody moved it between the look and the stop."""

    def moved() -> list[CleanupProposal]:
        (placed,) = [one for one in world.store.placements() if one.agent_id == "eu-1-a1"]
        world.store.place_agents([placed._replace(node_id="eu-2")])
        return world.idle

    with pytest.raises(VersionConflictError, match="placed anew"):
        remove_left_behind(world.ports()._replace(idle=moved), world.idle[0], ANN)
    assert world.desired() == "running"
    assert world.store.scaling_orders() == []


@pytest.mark.parametrize("released", [False, True])
def test_a_call_that_died_between_the_stop_and_the_number_is_made_again(
    world: World, released: bool
) -> None:
    """The agent is not idle but stopped by then, and may have left its node: the number is due."""
    remove_left_behind(world.ports(scaled="work"), world.idle[0], ANN)  # as far as it came
    approved, world.idle = world.idle[0], []
    if released:
        world.clock.advance(3600)  # its node is silent
        assert [one.node_id for one in world.store.release_ended()] == [""]
    remove_left_behind(world.ports(), approved, ANN)
    (order,) = world.store.scaling_orders()
    assert order.replicas == 3


class Left:
    """A vault with fourteen verified snapshots of a network, which is declared no more."""

    def __init__(self, folder: Path) -> None:
        """Ten days ago, an hour apart; the other region has a copy of all but the last."""
        self.fleet = VaultFleet(2)
        self.clock = ManualClock(datetime.now(UTC) - timedelta(days=10))
        self.declared = simple_backup(("eu", "us"), str(folder), ("net",))
        vaults = RegionVaults(self.declared, self.clock)
        vaults.prepare()
        home = vaults.home("net")
        self.ids = []
        for number in range(14):
            if number == 13:
                replicate(home, vaults.replica("us", "net"))
            self.clock.advance(3600)
            self.fleet.change("agent-0001")
            made = back_up(home, self.fleet.store, workers=1).snapshot_id
            at = self.clock.now()
            done = VerificationEvidence("net", "eu", "V1", made, at, 0.1, 1, 1, (), "test")
            record_evidence(home, "eu", done)
            self.ids.append(made)
        self.clock.advance(10 * 86_400 - 15 * 3600)
        for path in (folder / "vaults").rglob("*"):
            seen = path.stat()
            os.utime(path, (seen.st_atime - 9 * 86_400, seen.st_mtime - 9 * 86_400))
        self.vaults = RegionVaults(replace(self.declared, networks=()), self.clock)

    def live(self, region: str = "eu") -> list[str]:
        """Snapshots that are not forgotten, oldest first."""
        opened = RegionVaults(self.declared, self.clock)
        log = opened.replica(region, "net").log
        return [one for one in self.ids if one in log.refresh().live]


@pytest.fixture
def left(tmp_path: Path) -> Left:
    """Vaults of their own."""
    return Left(tmp_path)


def test_snapshots_of_a_network_that_is_gone_go_by_the_rules_of_the_vault(left: Left) -> None:
    """Two verified ones stay, and what is held; the copy follows, and the approval is recorded."""
    hold(RegionVaults(left.declared, left.clock).home("net"), left.ids[:1], "audit")
    done = forget_snapshots(left.vaults, "net", ANN)
    kept = [left.ids[0], *left.ids[-2:]]
    assert (left.live(), left.live("us")) == (kept, kept)
    assert "forgot 11 snapshots; 3 stay by the vault's guards" in done.said
    log = RegionVaults(left.declared, left.clock).home("net").log
    log.refresh()
    found = [one.record for one in log.records if isinstance(one.record, EvidenceRecord)]
    approvals = [one for one in map(decode_approval, found) if one is not None]
    assert [(one.by, one.reason) for one in approvals] == [("ann", "project ended")]
    again = forget_snapshots(left.vaults, "net", ANN)
    assert (left.live(), "nothing to forget" in again.said) == (kept, True)


def test_a_network_that_is_declared_again_keeps_its_snapshots(left: Left) -> None:
    """Whatever was approved before."""
    with pytest.raises(InvalidInputError, match="not declared"):
        forget_snapshots(RegionVaults(left.declared, left.clock), "net", ANN)
    assert left.live() == left.ids
