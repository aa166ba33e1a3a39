"""States that the store has lost come back from the youngest whole backup that is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents import StatePut
from platform_defs.declared_backup import simple_backup
from resources.vault.drills.state_rescue import VaultStateRescue
from resources.vault.journal.journal import append_segment
from resources.vault.region_vaults import RegionVaults
from resources.vault.replicas.replicate import replicate
from resources.vault.snapshots.backup import back_up
from tests.fakes.vault_fleet import VaultFleet, body_of

REGIONS = ("eu", "us")


class Disaster:
    """Six agents, backed up in `eu` and copied to `us`; some states are then lost."""

    def __init__(self, folder: Path) -> None:
        """One snapshot, and a journal that has a later version of agent-0001."""
        self.fleet = VaultFleet(6)
        self.vaults = RegionVaults(
            simple_backup(REGIONS, str(folder), networks=("net",)), self.fleet.clock
        )
        self.vaults.prepare()
        home = self.vaults.home("net")
        back_up(home, self.fleet.store, workers=1)
        self.fleet.clock.advance(30)
        self.fleet.change("agent-0001")
        append_segment(home, self.fleet.store)
        replicate(home, self.vaults.replica("us", "net"))
        self.fleet.clock.advance(30)

    def rescue(self, *agent_ids: str, lost: tuple[str, ...] = ("eu",)) -> list[tuple[object, ...]]:
        """What came back, without the texts of problems."""
        found = VaultStateRescue(
            RegionVaults(self.vaults.declaration, self.fleet.clock), self.fleet.store
        ).rescue_states("net", agent_ids, lost)
        return [(one.agent_id, one.version, one.source.split("/")[0], one.problem) for one in found]


@pytest.fixture
def disaster(tmp_path: Path) -> Disaster:
    """A backed up network."""
    return Disaster(tmp_path)


def test_a_lost_state_comes_back_as_the_journal_of_another_region_knows_it(
    disaster: Disaster,
) -> None:
    """Not as the snapshot has it: a minute is lost, not an hour."""
    disaster.fleet.drop("agent-0001")
    disaster.fleet.drop("agent-0002")
    assert disaster.rescue("agent-0001", "agent-0002") == [
        ("agent-0001", 2, "us", ""),
        ("agent-0002", 1, "us", ""),
    ]
    for agent_id, version in (("agent-0001", 2), ("agent-0002", 1)):
        state = disaster.fleet.store.state(agent_id)
        assert state is not None
        assert state.body == body_of(agent_id, version)


def test_others_are_not_touched(disaster: Disaster) -> None:
    """Whoever has moved on meanwhile keeps what it stored."""
    disaster.fleet.drop("agent-0002")
    disaster.fleet.change("agent-0003")
    before = disaster.fleet.bodies()
    disaster.rescue("agent-0002")
    after = disaster.fleet.bodies()
    assert after.pop("agent-0002")
    assert after == before


def test_an_agent_that_never_stored_anything_is_no_problem(disaster: Disaster) -> None:
    """It starts empty, as it did the first time."""
    disaster.fleet.declare(disaster.fleet.store, ["agent-9999"])
    assert disaster.rescue("agent-9999") == [("agent-9999", 0, "", "")]


def test_a_damaged_copy_is_passed_over_for_the_next_region(disaster: Disaster) -> None:
    """`us` lacks a pack; the home, which is not lost this time, has it."""
    store = disaster.vaults.store("us")
    store.delete([one.key for one in store.list_objects("packs/net/")])
    disaster.fleet.drop("agent-0002")
    assert disaster.rescue("agent-0002", lost=()) == [("agent-0002", 1, "eu", "")]


def test_without_a_whole_copy_every_region_says_why(disaster: Disaster) -> None:
    """Nothing is written, and the reason is one that a person can act on."""
    disaster.fleet.drop("agent-0002")
    ((_, version, _, problem),) = disaster.rescue("agent-0002", lost=REGIONS)
    assert (version, problem) == (0, "no backup can be restored: no region is left")
    store = disaster.vaults.store("us")
    store.delete([one.key for one in store.list_objects("packs/net/")])
    ((_, version, _, problem),) = disaster.rescue("agent-0002")
    assert version == 0
    assert str(problem).startswith("no backup can be restored: us")
    assert disaster.fleet.store.state("agent-0002") is None


def test_a_state_that_is_put_meanwhile_wins(disaster: Disaster) -> None:
    """The guard is the version: what somebody stores in between is not overwritten unseen."""
    disaster.fleet.drop("agent-0002")
    store = disaster.fleet.store
    restore_states = store.restore_states

    def late(restores, **options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN202
        store.put_states([StatePut("agent-0002", 1, 0, b"back by itself")])
        return restore_states(restores, **options)

    store.restore_states = late  # type: ignore[method-assign]
    ((_, version, _, problem),) = disaster.rescue("agent-0002")
    state = store.state("agent-0002")
    assert state is not None
    assert state.body == b"back by itself"
    assert (version, bool(problem)) == (0, True)
