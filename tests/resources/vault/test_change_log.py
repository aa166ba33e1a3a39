"""The change log loses what all its readers have passed, two days later, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import StateChange
from fleet.pack_keys import PackKeys
from resources.vault.journal.journal import append_segment
from resources.vault.network import NetworkVault
from resources.vault.retention.change_log import KEEP, trim_change_log, trimmable_cursor
from resources.vault.snapshots.backup import back_up
from tests.fakes.journaled_fleet import JournaledFleet
from tests.fakes.vault_fleet import AT

HOUR_S = 3600.0


@pytest.fixture
def fleet() -> JournaledFleet:
    """Four changes; then a snapshot and a pass of the journal have read them."""
    fleet = JournaledFleet(4)
    fleet.snapshot()
    fleet.clock.advance(60)
    fleet.tick()
    return fleet


def ids(fleet: JournaledFleet) -> list[int]:
    """What the change log still holds."""
    return [one.change_id for one in fleet.store.state_changes(0, 999)]


def trim(fleet: JournaledFleet) -> int:
    """As the retention does, with fresh handles."""
    vaults = {"net": fleet.vault(fleet.objects)}
    return trim_change_log(vaults, fleet.store, fleet.clock.now())


def read_on(fleet: JournaledFleet) -> None:
    """Journal and backup go on without a gap, and without comparing everything."""
    fleet.change("agent-0003")
    fleet.clock.advance(60)
    assert fleet.tick().gap == ""
    result = fleet.snapshot()
    assert (result.compared_all, result.changed) == ("", 1)


def test_what_all_have_passed_goes_after_two_days(fleet: JournaledFleet) -> None:
    """All but the entry at the cursors: by it the readers see that nothing is missing."""
    fleet.clock.advance(47 * HOUR_S)
    assert (trim(fleet), ids(fleet)) == (0, [1, 2, 3, 4])
    fleet.clock.advance(1 * HOUR_S)
    assert (trim(fleet), ids(fleet)) == (3, [4])
    assert trim(fleet) == 0
    read_on(fleet)


def test_the_reader_that_lags_decides(fleet: JournaledFleet) -> None:
    """Whichever of the two it is."""
    fleet.change("agent-0001")
    fleet.clock.advance(60)
    fleet.tick()
    fleet.clock.advance(49 * HOUR_S)
    assert (trim(fleet), ids(fleet)) == (3, [4, 5])
    fleet.snapshot()
    fleet.change("agent-0002")
    fleet.snapshot()
    fleet.clock.advance(49 * HOUR_S)
    assert (trim(fleet), ids(fleet)) == (1, [5, 6])
    fleet.tick()
    assert (trim(fleet), ids(fleet)) == (1, [6])
    read_on(fleet)


def test_young_entries_stay_behind_old_ones_that_go(fleet: JournaledFleet) -> None:
    """Age is that of each entry, by the store's clock."""
    for _ in range(5):
        fleet.clock.advance(20 * HOUR_S)
        fleet.change("agent-0001")
        fleet.snapshot()
        fleet.tick()
    assert (trim(fleet), ids(fleet)) == (6, [7, 8, 9])
    read_on(fleet)


def test_a_backup_that_compares_everything_holds_nothing_back(fleet: JournaledFleet) -> None:
    """It reads no change log; after a damaged state that is so."""
    fleet.change("agent-0001", "agent-0002")
    fleet.store.damage_state("agent-0001", b"rotten")
    assert back_up(fleet.vault(fleet.objects), fleet.store).damaged == ("agent-0001",)
    fleet.clock.advance(60)
    assert append_segment(fleet.vault(fleet.objects), fleet.store).cursor == 6
    fleet.clock.advance(49 * HOUR_S)
    assert (trim(fleet), ids(fleet)) == (5, [6])


def test_every_network_must_have_passed(fleet: JournaledFleet) -> None:
    """One that has a vault and no journal yet holds everything back; without networks none goes."""
    fleet.clock.advance(49 * HOUR_S)
    keys = PackKeys(b"e" * 32, "idle.0001", "idle")
    idle = NetworkVault(fleet.objects, keys, fleet.clock)
    mine = fleet.vault(fleet.objects)
    now = fleet.clock.now()
    assert trim_change_log({"net": mine, "idle": idle}, fleet.store, now) == 0
    assert trim_change_log({}, fleet.store, now) == 0
    assert (trimmable_cursor([mine, idle]), trimmable_cursor([mine])) == (0, 3)


class Entries:
    """A change log of ids and ages; what is trimmed is remembered."""

    def __init__(self, entries: list[tuple[int, datetime]]) -> None:
        """In order."""
        self.entries = entries
        self.calls = self.up_to = 0

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """As the port says."""
        self.calls += 1
        return [
            StateChange(number, "a", 1, 1, 0, "", at)
            for number, at in self.entries
            if number > after
        ][:limit]

    def trim_state_changes(self, up_to: int) -> int:
        """Remembered."""
        self.up_to = up_to
        return sum(number <= up_to for number, _ in self.entries)


@given(
    steps=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), min_size=1, max_size=60),
    cursor=st.integers(1, 200),
    hours=st.integers(0, 900),
)
def test_the_halving_finds_what_reading_everything_finds(
    fleet_head: NetworkVault, steps: list[tuple[int, int]], cursor: int, hours: int
) -> None:
    """Numbers with gaps, entries of one moment, cursors anywhere; in a few short reads."""
    entries, number, at = [], 0, AT
    for gap, pause in steps:
        number, at = number + gap, at + timedelta(hours=pause)
        entries.append((number, at))
    log, now = Entries(entries), AT + timedelta(hours=hours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resources.vault.retention.change_log._cursors", lambda _: [cursor])
        removed = trim_change_log({"net": fleet_head}, log, now)
    gone = [n for n, at in entries if n < cursor and now - at >= KEEP]
    assert removed == len(gone)
    assert log.up_to == max(gone, default=0)
    assert log.calls <= 9


@pytest.fixture(scope="module")
def fleet_head() -> NetworkVault:
    """A handle that nobody asks."""
    fleet = JournaledFleet(1)
    return fleet.vault(fleet.objects)
