"""The journal loses nothing, is whole after any kill, and says what it does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from threading import Thread
from typing import Any

import pytest

from fleet.agents import StateChange
from fleet.errors import FencedError, NotFoundError, PermanentError, StoreUnavailableError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY, journal_prefix
from resources.vault.journal.journal import append_segment, append_segments
from resources.vault.journal.journal_upkeep import copy_segments, trim_journal, verify_journal
from resources.vault.network import NetworkVault
from resources.vault.replicas.replicate import replicate
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.retention.removal import forget
from resources.vault.snapshots.backup import back_up
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.journaled_fleet import DictTarget, JournaledFleet
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet, body_of
from tests.resources.vault.test_crashes import Turns, TurnStore


class CountingSource:
    """Counts what the journal reads of the control store."""

    def __init__(self, store: Any) -> None:
        """Count from zero."""
        self.store = store
        self.pages = self.listings = 0
        self.read: list[str] = []

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Counted."""
        self.pages += 1
        return self.store.state_changes(after, limit)

    def state_infos(self) -> Any:
        """Counted."""
        self.listings += 1
        return self.store.state_infos()

    def states(self, agent_ids: Sequence[str]) -> Any:
        """Counted."""
        self.read += agent_ids
        return self.store.states(agent_ids)


@pytest.fixture
def fleet() -> JournaledFleet:
    """Four agents, a snapshot, and a journal that has begun."""
    fleet = JournaledFleet(4)
    fleet.objects.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
    fleet.snapshot()
    step(fleet)
    return fleet


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One agent a segment."""
    monkeypatch.setattr("resources.vault.journal.journal_writer.PART_BYTES", 1)


def step(fleet: JournaledFleet, *agent_ids: str) -> None:
    """Change agents, let a minute pass, journal."""
    fleet.change(*agent_ids)
    fleet.clock.advance(60)
    fleet.tick()
    fleet.clock.advance(1e-6)


def check_all(fleet: JournaledFleet, objects: ObjectStore | None = None) -> None:
    """Every moment of the history; what was looked at comes back exactly."""
    fleet.reader = None
    for at in sorted({one.updated_at for one in fleet.history}):
        if fleet.taken[0] <= at <= fleet.covered[-1]:
            fleet.check(at, objects)
            expected = fleet.expected_at(at)
            assert {k for k, v in expected.items() if v[:3] in fleet.captured} <= fleet.exact
    fleet.check(None, objects)


def segments(store: ObjectStore) -> list[str]:
    """Keys of the journal."""
    return [one.key for one in store.list_objects(journal_prefix("net"))]


@pytest.mark.parametrize("mode", CRASHES)
@pytest.mark.parametrize("begun", [False, True])
def test_a_pass_killed_at_any_operation_loses_nothing_and_goes_on(
    small_parts: None, begun: bool, mode: str
) -> None:
    """At its first listing, and with changes; a lost answer is looked up."""

    def build() -> JournaledFleet:
        fleet = JournaledFleet(4)
        fleet.snapshot()
        fleet.clock.advance(1e-6)
        if begun:
            step(fleet)
        fleet.change("agent-0001", "agent-0002", "agent-0002")
        fleet.clock.advance(60)
        return fleet

    counted = build()
    total = count_operations(counted.objects, counted.tick)
    assert total >= 4
    for number in range(1, total + 1):
        fleet = build()
        try:
            fleet.tick(CrashingStore(fleet.objects, number, mode))
        except Crashed:
            assert mode != "lost"
        except StoreUnavailableError:
            assert mode == "lost"
        step(fleet, "agent-0002")
        assert verify_journal(fleet.opened()).findings == ()
        check_all(fleet)


def test_two_passes_at_once_share_the_numbers(small_parts: None) -> None:
    """In sixty orders of their operations: one chain, nothing lost."""
    for seed in range(60):
        fleet = JournaledFleet(4)
        fleet.snapshot()
        step(fleet)
        fleet.change("agent-0001", "agent-0002", "agent-0003")
        fleet.clock.advance(60)
        turns = Turns(seed, 2)
        faults: list[BaseException] = []

        def act(actor: int) -> None:
            try:
                store = TurnStore(fleet.objects, turns, actor)  # noqa: B023
                append_segment(fleet.vault(store), fleet.store)  # noqa: B023
            except BaseException as error:  # noqa: BLE001
                faults.append(error)  # noqa: B023
            finally:
                turns.leave()  # noqa: B023

        threads = [Thread(target=act, args=(one,)) for one in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        fleet.capture()
        step(fleet, "agent-0001")
        assert verify_journal(fleet.opened()).findings == ()
        check_all(fleet)


def test_nothing_changed_writes_nothing_until_the_heartbeat(fleet: JournaledFleet) -> None:
    """No object, no read of a state; after five minutes one small segment proves coverage."""
    before = segments(fleet.objects)
    source = CountingSource(fleet.store)
    for _ in range(4):
        fleet.clock.advance(60)
        quiet = append_segment(fleet.vault(fleet.objects), source)
        assert quiet.segments == ()
        assert quiet.covered_at == fleet.covered[-1]
        assert quiet.checked_at == fleet.clock.now()
    assert segments(fleet.objects) == before
    assert (source.read, source.listings, source.pages) == ([], 0, 4)
    fleet.clock.advance(61)
    beat = append_segment(fleet.vault(fleet.objects), source)
    assert len(beat.segments) == 1
    assert beat.covered_at == fleet.clock.now()
    assert beat.bytes_stored < 1500
    assert source.listings == 0


def test_a_clock_set_back_is_on_record_at_once(fleet: JournaledFleet) -> None:
    """Coverage never stays ahead of the clock."""
    fleet.clock.jump(-86_400)
    result = append_segment(fleet.vault(fleet.objects), fleet.store)
    assert result.covered_at == fleet.clock.now()


def test_without_a_snapshot_the_journal_waits() -> None:
    """It would have to hold everything; it says so, and begins behind the first snapshot."""
    fleet = JournaledFleet(2)
    result = fleet.tick()
    assert result.waiting
    assert (result.covered_at, result.segments, segments(fleet.objects)) == (None, (), [])
    fleet.snapshot()
    assert fleet.tick().gap == "the journal begins here"


@pytest.mark.parametrize("loss", ["trimmed", "emptied"])
def test_a_change_log_that_does_not_continue_leaves_a_visible_gap(
    fleet: JournaledFleet, loss: str
) -> None:
    """Trimmed past the cursor, or of another store: what is live is held, the rest reported."""
    since = fleet.covered[-1]
    fleet.change("agent-0001")
    fleet.clock.advance(40)
    fleet.change("agent-0001", "agent-0003")
    fleet.clock.advance(20)
    fleet.store.trim_state_changes(10**9)
    if loss == "emptied":
        fleet.store._change_id = 0
        fleet.change("agent-0002")
    fleet.clock.advance(1)
    result = fleet.tick()
    assert "does not continue at change 4" in result.gap
    fleet.clock.advance(60)
    step(fleet, "agent-0001")
    items, report = fleet.restored_at(since + timedelta(seconds=30))
    assert [one.agent_id for one in report.substitutions] == ["agent-0001"]  # 0003 rose by one
    assert "were not recorded" in report.substitutions[0].reason
    assert any("does not continue" in one for one in report.notes)
    assert items["agent-0001"].version == 1
    check_all(fleet)


def test_one_pass_reads_the_change_log_once_for_all_networks() -> None:
    """Each gets its own agents; one whose vault fails stops no other."""
    one = JournaledFleet(3)
    other = VaultFleet(0, "other")
    other.store, other.clock = one.store, one.clock
    other.agent_ids = ["other-1", "other-2"]
    other.declare(one.store, other.agent_ids)
    other.change(*other.agent_ids)
    keys = PackKeys(b"o" * 32, "other.0001", "other")
    vaults = {
        "net": one.vault(one.objects),
        "other": NetworkVault(one.objects, keys, one.clock),
    }
    for vault in vaults.values():
        back_up(vault, one.store)
    source = CountingSource(one.store)
    assert append_segments({}, source).results == {}
    append_segments(vaults, source)
    one.change("agent-0001")
    other.change("other-2")
    one.clock.advance(60)
    source = CountingSource(one.store)
    done = append_segments(vaults, source)
    assert (source.pages, source.listings, source.read) == (1, 1, ["agent-0001", "other-2"])
    assert {name: result.agents for name, result in done.results.items()} == {"net": 1, "other": 1}
    one.change("agent-0002")
    other.change("other-1")
    one.clock.advance(60)
    broken = NetworkVault(CrashingStore(one.objects, 1, "lost"), keys, one.clock)
    done = append_segments({"net": vaults["net"], "other": broken}, source)
    assert (done.results["net"].agents, list(done.failures)) == (1, ["other"])
    assert append_segment(vaults["other"], source).agents == 1


def test_a_caller_that_remembers_the_networks_spares_the_listing(fleet: JournaledFleet) -> None:
    """It is read again only for an agent that is not known yet."""
    source, networks = CountingSource(fleet.store), dict[str, str]()
    for listings in (1, 1):
        fleet.change("agent-0001")
        fleet.clock.advance(60)
        append_segment(fleet.vault(fleet.objects), source, networks=networks)
        assert source.listings == listings
    del networks["agent-0002"]
    fleet.change("agent-0002", "agent-0003")
    fleet.clock.advance(60)
    assert append_segment(fleet.vault(fleet.objects), source, networks=networks).agents == 2
    assert source.listings == 2
    assert networks == dict.fromkeys(fleet.agent_ids, "net")


def test_many_changes_are_read_page_by_page(
    fleet: JournaledFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of bounded size; the cursor moves with each."""
    monkeypatch.setattr("resources.vault.journal.journal._PAGE", 3)
    monkeypatch.setattr("resources.vault.journal.journal._ROUND", 5)
    for _ in range(6):
        fleet.change("agent-0001", "agent-0002", "agent-0001")
        fleet.clock.advance(1)
    result = fleet.tick()
    assert result.cursor == 4 + 18
    assert result.gap == ""
    assert len(result.segments) >= 3
    check_all(fleet)


def test_a_large_state_is_stored_in_pieces(
    fleet: JournaledFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several segments, each below the limit; whole again in a restore."""
    body = body_of("large", 1) * 200_000
    assert 16 * 1024 * 1024 < len(body) < 64 * 1024 * 1024
    fleet.write("agent-0001", body)
    fleet.clock.advance(60)
    result = fleet.tick()
    assert len(result.segments) == -(-len(body) // (16 * 1024 * 1024))
    items, _ = fleet.restored_at(None)
    assert items["agent-0001"].body == body


def test_a_damaged_live_state_is_reported_and_never_stands_for_a_good_one(
    fleet: JournaledFleet,
) -> None:
    """The others are journaled; a restore names the version that was not to be had."""
    fleet.change("agent-0001", "agent-0002")
    fleet.store.damage_state("agent-0001", b"rotten")
    fleet.clock.advance(60)
    result = append_segment(fleet.vault(fleet.objects), fleet.store)
    assert (result.damaged, result.agents) == (("agent-0001",), 1)
    items, report = fleet.restored_at(None)
    assert (items["agent-0001"].version, items["agent-0002"].version) == (1, 2)
    assert [(one.agent_id, one.wanted_version) for one in report.substitutions] == [
        ("agent-0001", 2)
    ]


def test_one_agent_takes_at_most_four_requests_through_the_journal(
    fleet: JournaledFleet,
) -> None:
    """For a reader that knew the journal up to the segment before."""
    store = CrashingStore(fleet.objects)
    reader = fleet.vault(store)
    target = ControlStoreTarget(fleet.store)
    restore(reader, target, agent_ids=["agent-0001"])
    step(fleet, "agent-0001")
    wanted = fleet.bodies()["agent-0001"]
    fleet.change("agent-0001")
    store.calls = 0
    result = restore(reader, target, agent_ids=["agent-0001"], newer="overwrite")
    assert (result.restored, result.from_journal, result.from_snapshot) == (1, 1, 0)
    assert fleet.bodies()["agent-0001"] == wanted
    assert store.calls <= 4, store.counts


def test_an_older_epoch_cannot_go_on_when_a_newer_one_has_begun(fleet: JournaledFleet) -> None:
    """The new writer continues the numbers; what the old one added meanwhile does not count."""
    stale = fleet.objects.copy()
    promoted = NetworkVault(fleet.objects, fleet.vault(fleet.objects).keys, fleet.clock, epoch=1)
    fleet.change("agent-0001")
    fleet.clock.advance(60)
    append_segment(promoted, fleet.store)
    assert segments(fleet.objects)[-1] == "journal/net/0001/0000000002.segment"
    fleet.change("agent-0002")
    fleet.clock.advance(60)
    with pytest.raises(FencedError, match="epoch 1 has begun"):
        append_segment(fleet.vault(fleet.objects), fleet.store)
    append_segment(fleet.vault(stale), fleet.store)
    for key in segments(stale):
        fleet.objects.create(key, stale.get(key))
    listed = [one.key for one in fleet.opened().journal.refresh()]
    assert listed == [
        "journal/net/0000/0000000001.segment",
        "journal/net/0001/0000000002.segment",
    ]


@pytest.fixture(scope="module")
def long_journal() -> JournaledFleet:
    """Twenty-four ticks with a snapshot after each fourth; tests copy its store."""
    fleet = JournaledFleet(3)
    fleet.snapshot()
    for number in range(24):
        step(fleet, fleet.agent_ids[number % 3])
        if number % 4 == 3:
            fleet.snapshot()
    return fleet


@pytest.mark.parametrize("mode", CRASHES)
def test_a_trim_killed_anywhere_leaves_every_promised_moment(
    long_journal: JournaledFleet, mode: str
) -> None:
    """Oldest first, so what remains is contiguous; nothing inside the window goes."""
    fleet, keep = long_journal, timedelta(minutes=10)

    def trim(store: ObjectStore) -> int:
        return trim_journal(fleet.vault(store), keep).segments

    total = count_operations(fleet.objects.copy(), trim)
    assert total >= 10
    window = [one for one in moments_of(fleet) if one >= fleet.clock.now() - keep]
    check_window(fleet, window)
    good = {at: fleet.restored_at(at, fleet.objects)[0] for at in window}
    assert good
    for number in range(1, total + 1, 3):
        objects = fleet.objects.copy()
        try:
            trim(CrashingStore(objects, number, mode))
        except Crashed:
            assert mode != "lost"
        except StoreUnavailableError:
            assert mode == "lost"
        left = [int(one[-18:-8]) for one in segments(objects)]
        assert left == list(range(left[0], 25))
        trim(objects)
        assert trim(objects) == 0
        assert len(segments(objects)) < 16
        fleet.reader = fleet.opened(objects)
        for at, items in good.items():
            again, result = fleet.restored_at(at)
            assert again == items
            assert result.substitutions == ()
    fleet.reader = None


def moments_of(fleet: JournaledFleet) -> list[Any]:
    """When anything was written."""
    return sorted({one.updated_at for one in fleet.history})


def check_window(fleet: JournaledFleet, window: Sequence[Any]) -> None:
    """Each moment against the twin."""
    for at in window:
        fleet.check(at)


def test_a_trim_keeps_what_the_oldest_promised_moment_begins_at(fleet: JournaledFleet) -> None:
    """Without a snapshot from before the window nothing goes, however old."""
    for _ in range(5):
        step(fleet, "agent-0001")
    result = trim_journal(fleet.vault(fleet.objects), timedelta(minutes=1))
    assert result.segments == 0
    assert "no live snapshot before" in result.reason
    fleet.snapshot()
    fleet.clock.advance(120)
    result = trim_journal(fleet.vault(fleet.objects), timedelta(minutes=1))
    assert (result.segments, len(segments(fleet.objects))) == (5, 1)
    assert fleet.tick().gap == ""
    check_window(fleet, [fleet.covered[-1]])


@pytest.mark.parametrize("mode", CRASHES)
def test_a_replica_of_the_journal_is_a_valid_prefix_at_every_moment(
    fleet: JournaledFleet, mode: str
) -> None:
    """Killed at any operation; the next copy completes it to the same bytes."""
    for agent_id in fleet.agent_ids:
        step(fleet, agent_id)

    def run(store: ObjectStore) -> None:
        copy_segments(fleet.opened(), fleet.opened(store))

    total = count_operations(InMemoryObjectStore(fleet.clock.now), run)
    assert total >= 10
    for number in range(1, total + 1):
        target = InMemoryObjectStore(fleet.clock.now)
        with suppress(Crashed, StoreUnavailableError):
            run(CrashingStore(target, number, mode))
        assert segments(target) == segments(fleet.objects)[: len(segments(target))]
        assert verify_journal(fleet.opened(target)).findings == ()
        run(target)
        assert [target.get(one) for one in segments(target)] == [
            fleet.objects.get(one) for one in segments(fleet.objects)
        ]


def test_a_replica_restores_any_moment_alone(fleet: JournaledFleet) -> None:
    """Replication carries the journal; a second run copies only what is new."""
    target = InMemoryObjectStore(fleet.clock.now)
    step(fleet, "agent-0001")
    assert replicate(fleet.opened(), fleet.opened(target)).segments == 2
    step(fleet, "agent-0002")
    assert replicate(fleet.opened(), fleet.opened(target)).segments == 1
    assert replicate(fleet.opened(), fleet.opened(target)).segments == 0
    check_all(fleet, target)


def test_a_replica_that_was_away_begins_anew_behind_what_was_trimmed(
    fleet: JournaledFleet,
) -> None:
    """Its own old segments cannot be continued; a hole in the source is no trim."""
    target = InMemoryObjectStore(fleet.clock.now)
    copy_segments(fleet.opened(), fleet.opened(target))
    for _ in range(5):
        step(fleet, "agent-0001")
    keys = segments(fleet.objects)
    holed = fleet.objects.copy()
    holed.delete([keys[3]])
    with pytest.raises(PermanentError, match="is missing"):
        copy_segments(fleet.opened(holed), fleet.opened(target))
    assert segments(target) == keys[:3]
    fleet.objects.delete(keys[:4])
    copy_segments(fleet.opened(), fleet.opened(target))
    assert segments(target) == keys[4:]
    assert verify_journal(fleet.opened(target)).findings == ()


def test_a_replica_of_another_journal_is_refused(fleet: JournaledFleet) -> None:
    """Two segments under one number, and a replica that is ahead."""
    target = fleet.objects.copy()
    step(fleet, "agent-0001")
    fleet.change("agent-0002")
    append_segment(fleet.vault(target), fleet.store)
    with pytest.raises(PermanentError, match="the replica holds another one"):
        copy_segments(fleet.opened(), fleet.opened(target))
    ahead = fleet.objects.copy()
    step(fleet, "agent-0001")
    fleet.objects.delete(segments(fleet.objects)[-2:])
    with pytest.raises(PermanentError, match="goes beyond"):
        copy_segments(fleet.opened(), fleet.opened(ahead))


@pytest.mark.parametrize("mode", CRASHES)
def test_a_restore_killed_anywhere_runs_again_and_releases_its_hold(
    fleet: JournaledFleet, mode: str
) -> None:
    """The hold is the first record and the release the last; both are found again."""
    step(fleet, "agent-0001")
    wanted = fleet.bodies()
    fleet.change(*fleet.agent_ids)

    def run(store: ObjectStore) -> Any:
        target = ControlStoreTarget(fleet.store)
        return restore(fleet.vault(store), target, newer="overwrite")

    total = count_operations(fleet.objects.copy(), run)
    assert total >= 9
    for number in range(1, total + 1):
        fleet.change(*fleet.agent_ids)
        objects = fleet.objects.copy()
        try:
            result = run(CrashingStore(objects, number, mode))
        except (Crashed, StoreUnavailableError):
            run(objects)
        else:
            assert mode == "lost"
            assert fleet.vault(objects).log.refresh().holds == {} or result.notes
        assert fleet.bodies() == wanted
        holds = fleet.vault(objects).log.refresh().holds
        assert len(holds) <= 1
        assert all(one.expires_at is not None for one in holds.values())


def test_a_held_snapshot_cannot_be_forgotten_while_it_is_restored(
    fleet: JournaledFleet,
) -> None:
    """And a vault that takes no writes is restored all the same, with a note."""
    fleet.snapshot()
    first, second = fleet.vault(fleet.objects).log.refresh().live

    class Forgetting(ControlStoreTarget):
        def heads(self, agent_ids: Sequence[str]) -> Any:
            vault = fleet.vault(fleet.objects)
            with pytest.raises(PermanentError, match=f"held: {second}"):
                forget(vault, [second])
            return super().heads(agent_ids)

    restore(fleet.vault(fleet.objects), Forgetting(fleet.store))
    forget(fleet.vault(fleet.objects), [second])
    assert list(fleet.vault(fleet.objects).log.refresh().live) == [first]

    class ReadOnly(CrashingStore):
        def create(self, key: str, data: bytes) -> bool:
            raise StoreUnavailableError(f"{key}: read-only")

    down = fleet.vault(ReadOnly(fleet.objects))
    result = restore(down, ControlStoreTarget(fleet.store))
    assert any("without a hold" in one for one in result.notes)


def test_moments_that_cannot_be_known_are_one_clear_error_each(fleet: JournaledFleet) -> None:
    """Before the first backup, after the coverage, and unknown agents; nothing is written."""
    step(fleet, "agent-0001")
    covered = fleet.covered[-1]
    with pytest.raises(NotFoundError, match=re.escape(f"covered until {covered.isoformat()}")):
        fleet.restored_at(covered + timedelta(seconds=1))
    with pytest.raises(NotFoundError, match="the oldest is of"):
        fleet.restored_at(fleet.taken[0] - timedelta(seconds=1))
    target = ControlStoreTarget(fleet.store)
    with pytest.raises(NotFoundError, match="does not hold nobody"):
        restore(fleet.opened(), target, at=covered, agent_ids=["nobody", "agent-0001"])
    empty = JournaledFleet(1)
    with pytest.raises(NotFoundError, match="there is no backup yet"):
        empty.restored_at(None)


def test_segments_of_several_data_keys_are_restored_together(fleet: JournaledFleet) -> None:
    """The newest key seals; without it what it sealed is refused, and nothing else."""
    first = fleet.vault(fleet.objects).keys
    later = PackKeys(b"n" * 32, "net.0002", "net")
    rotated = NetworkVault(fleet.objects, replace(first, later=(later,)), fleet.clock)
    fleet.change("agent-0001")
    fleet.clock.advance(60)
    covered = append_segment(rotated, fleet.store).covered_at
    target = DictTarget()
    rotated.read_only = True
    restore(rotated, target, at=covered)
    assert {one: item.body for one, item in target.items.items()} == fleet.bodies()
    with pytest.raises(PermanentError, match=r"net\.0002 is needed"):
        fleet.restored_at(covered)


def test_nothing_of_an_agent_can_be_read_in_a_segment(fleet: JournaledFleet) -> None:
    """Neither ids nor states; and no salt is used twice."""
    for agent_id in fleet.agent_ids:
        fleet.write(agent_id, b"the agent's secret thoughts" * 9)
        fleet.clock.advance(60)
        fleet.tick()
    salts = set()
    for key in segments(fleet.objects):
        data = fleet.objects.get(key)
        assert b"agent-0" not in data
        assert b"secret" not in data
        salts.add(data[6 + data[5] : 6 + data[5] + 32])
    assert len(salts) == len(segments(fleet.objects))
