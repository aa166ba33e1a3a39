"""Increments read what the change log names, and are what a comparison of everything would be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fleet.agents import Placement, StatePut, StateRestore
from fleet.backup import BackupScope
from fleet.reports import AgentDeclaration
from fleet.vault_keyspace import VAULT_KEY
from resources.vault.network import NetworkVault
from resources.vault.replicas.promote import promote
from resources.vault.retention.removal import forget, undelete
from resources.vault.snapshots.backup import BackupResult, back_up
from tests.examples import examples
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.copied_store import CopiedMemory, CopiedSqlite, CopiedStore, HookedSource
from tests.fakes.crashing_store import Crashed, CrashingStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import AT, KEYS, VaultFleet

AGENTS = [f"agent-{number}" for number in range(5)]


class Twin:
    """A fleet, its vault, and the snapshot that comparing everything would give.

    Args:
        copied: the control store.
        clock: of the fleet.
    """

    def __init__(self, copied: CopiedStore, clock: ManualClock) -> None:
        """Three agents with a state."""
        self.copied, self.clock = copied, clock
        self.store = copied.store
        self.objects = InMemoryObjectStore(clock.now)
        self.objects.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.source = HookedSource(self.store)
        self.held: dict[str, tuple[int, str]] = {}
        """Version and digest of each agent in the newest snapshot."""
        self.good: dict[str, bytes] = {}
        """Bytes of the states that were damaged."""
        self.saved: list[object] = []
        for agent_id in AGENTS[:3]:
            self.declare(agent_id)
            self.write(agent_id)

    def vault(self, objects: Any = None) -> NetworkVault:
        """As a fresh process opens it."""
        return NetworkVault(objects or self.objects, KEYS, self.clock)

    def declare(self, agent_id: str, network_id: str = "net") -> None:
        """Declare and place, here or into another network."""
        epochs = {one.agent_id: one.epoch for one in self.store.placements()}
        self.store.declare_agents([AgentDeclaration(agent_id, network_id, "w", "eu", 1, 1)])
        placement = Placement(
            agent_id, network_id, "w", "n", "eu", epochs.get(agent_id, 0), 1, "running", "", AT
        )
        assert self.store.place_agents([placement])

    def write(self, agent_id: str) -> None:
        """The next version, of bytes that occur again; an agent that is not placed cannot."""
        placed = {one.agent_id: one for one in self.store.placements()}.get(agent_id)
        if placed is None or agent_id in self.good:
            return
        version = self.version(agent_id)
        put = StatePut(agent_id, placed.epoch, version, f"{agent_id} {version % 2}".encode())
        assert self.store.put_states([put])[0].error is None

    def version(self, agent_id: str) -> int:
        """The live one; 0 for none."""
        return {one.agent_id: one.version for one in self.store.state_infos()}.get(agent_id, 0)

    def damage(self, agent_id: str) -> None:
        """Its bytes rot."""
        if agent_id not in self.good and self.version(agent_id):
            state = self.store.state(agent_id)
            assert state is not None
            self.good[agent_id] = state.body
            self.copied.damage(agent_id, b"rotten")

    def mend(self, agent_id: str) -> None:
        """Its bytes are put right by hand; no version, no entry of the change log."""
        if agent_id in self.good:
            self.copied.damage(agent_id, self.good.pop(agent_id))

    def delete(self, agent_id: str) -> None:
        """Its row goes; somebody's always stays."""
        mine = [one for one in self.store.state_infos() if one.network_id == "net"]
        if len(mine) > 1 and self.version(agent_id):
            self.copied.delete(agent_id)
            self.good.pop(agent_id, None)

    def put_back(self) -> None:
        """The control store is what it was when it was saved."""
        if self.saved:
            store, good = self.saved[-1]  # type: ignore[misc]
            self.copied.put_back(store)
            self.good = dict(good)

    def step(self, what: str, agent_id: str) -> None:
        """One step of a history."""
        placed = {one.agent_id: one.network_id for one in self.store.placements()}
        if what in {"write", "damage", "mend", "delete"}:
            getattr(self, what)(agent_id)
        elif what == "declare" and agent_id not in placed:
            self.declare(agent_id)
        elif what == "retire":
            self.store.retire_agents([agent_id])
        elif what == "move" and (placed.get(agent_id) != "net" or len(self.live()) > 1):
            self.declare(agent_id, "other" if placed.get(agent_id) == "net" else "net")
        elif what == "restore" and agent_id in placed and agent_id not in self.good:
            version = self.version(agent_id)
            self.store.restore_states([StateRestore(agent_id, version, version + 3, b"older")])
        elif what == "trim":
            self.store.trim_state_changes(10**9)
        elif what == "save":
            self.saved.append((self.copied.save(), dict(self.good)))
        elif what == "put back":
            self.put_back()
        elif what == "crash":
            with pytest.raises(Crashed):
                back_up(self.vault(CrashingStore(self.objects, 1, "before")), self.source)

    def live(self) -> dict[str, tuple[int, str]]:
        """What the full listing says of the network."""
        return {
            one.agent_id: (one.version, one.digest)
            for one in self.store.state_infos()
            if one.network_id == "net"
        }

    def rows(self, result: BackupResult) -> dict[str, tuple[int, str]]:
        """What a snapshot holds."""
        vault = self.vault()
        vault.log.refresh()
        table = vault.read_manifest(vault.snapshot(result.snapshot_id)).table
        return {
            row["item_id"]: (row["version"], row["digest"].hex())
            for row in table.select(["item_id", "version", "digest"]).to_pylist()
        }

    def expected(self) -> dict[str, tuple[int, str]]:
        """The listing; of a damaged state what the snapshot before holds of it."""
        found = self.live()
        for agent_id in found.keys() & self.good.keys():
            if agent_id in self.held:
                found[agent_id] = self.held[agent_id]
            else:
                del found[agent_id]
        return found

    def check(self, **options: Any) -> BackupResult:
        """Back up, and compare with the twin."""
        self.clock.advance(60)
        wanted, agents = self.expected(), len(self.live())
        result = back_up(self.vault(), self.source, workers=1, **options)
        assert self.rows(result) == wanted
        assert result.agents == agents
        # One who is damaged but was not touched since it was stored is not read, as ever.
        assert set(result.damaged) <= self.good.keys()
        self.held = wanted
        return result

    def check_during_writes(self, agent_ids: list[str]) -> None:
        """Back up while agents write; each row is a version that was live during the backup."""
        self.clock.advance(60)
        before = self.live()
        self.source.meanwhile = [lambda one=one: self.write(one) for one in agent_ids]
        result = back_up(self.vault(), self.source, workers=1)
        self.source.meanwhile = []
        after, held = self.live(), self.rows(result)
        for agent_id, (version, _) in held.items():
            if agent_id not in self.good:
                assert before[agent_id][0] <= version <= after[agent_id][0]
        assert before.keys() - self.good.keys() <= held.keys() <= after.keys()
        self.held = held


@pytest.fixture
def twin() -> Twin:
    """In memory."""
    clock = ManualClock(AT)
    return Twin(CopiedMemory(clock), clock)


@pytest.fixture(autouse=True)
def small_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas also for small networks."""
    monkeypatch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", 0)


USUAL = [*("write" for _ in range(8)), "declare", "declare", "retire", "move", "restore"]
RARE = ["damage", "mend", "delete", "trim", "save", "put back", "crash"]
STEP = st.tuples(st.sampled_from([*USUAL, *RARE]), st.sampled_from(AGENTS))
ROUND = st.tuples(
    st.lists(STEP, max_size=5),
    st.sampled_from(["plain", "plain", "plain", "full", "no states"]),
    st.lists(st.sampled_from(AGENTS), max_size=3),
)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_increment_is_what_comparing_everything_gives(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """Random histories of everything that happens to states, on what keeps them."""

    @settings(max_examples=examples(80 if kind == "memory" else 15))
    @given(rounds=st.lists(ROUND, min_size=1, max_size=6))
    def histories(rounds: list[tuple[list[tuple[str, str]], str, list[str]]]) -> None:
        clock = ManualClock(AT)
        folder = tmp_path_factory.mktemp("twin")
        copied: CopiedStore = (
            CopiedMemory(clock) if kind == "memory" else CopiedSqlite(folder / "c.db", clock)
        )
        try:
            twin = Twin(copied, clock)
            twin.check()
            for steps, how, writing in rounds:
                for what, agent_id in steps:
                    twin.step(what, agent_id)
                if how == "no states":
                    scope = BackupScope(kinds=frozenset({"file"}))
                    carried = back_up(twin.vault(), twin.source, scope=scope)
                    assert twin.rows(carried) == twin.held
                if writing:
                    twin.check_during_writes(writing)
                result = twin.check(full=how == "full")
                event(result.compared_all.partition(":")[0] or "increment")
                quiet = {"write", "declare", "retire", "restore", "mend", "save"}
                logged = bool(twin.store.state_changes(0, 1))
                if logged and not twin.good and {what for what, _ in steps} <= quiet:
                    follow = twin.check()
                    assert (follow.compared_all, follow.changed) == ("", 0)
        finally:
            copied.close()

    histories()


def test_states_that_stay_behind_a_retired_declaration_stay_in_snapshots(twin: Twin) -> None:
    """As ever; declared again the agent goes on from there, without comparing everything."""
    twin.check()
    twin.store.retire_agents([AGENTS[0]])
    twin.write(AGENTS[1])
    retired = twin.check()
    assert (retired.compared_all, retired.agents, retired.removed) == ("", 3, 0)
    twin.declare(AGENTS[0])
    twin.write(AGENTS[0])
    again = twin.check()
    assert (again.compared_all, again.changed) == ("", 1)


def test_a_removed_state_leaves_the_next_snapshot(twin: Twin) -> None:
    """The database has noted that something went; what it was, the comparison finds."""
    twin.check()
    twin.copied.delete(AGENTS[1])
    result = twin.check()
    assert (result.removed, result.agents) == (1, 2)
    assert "a state was deleted" in result.compared_all
    assert twin.check().compared_all == ""


def test_an_agent_leaves_one_network_and_enters_another(twin: Twin) -> None:
    """No entry of the change log says so; both networks' next snapshots do."""
    twin.check()
    twin.declare(AGENTS[1], "other")
    left = twin.check()
    assert (left.removed, "changed its network" in left.compared_all) == (1, True)
    twin.declare(AGENTS[1], "net")
    back = twin.check()
    assert (back.changed, "changed its network" in back.compared_all) == (1, True)


def test_a_change_log_trimmed_past_the_base_is_not_gone_on_from(twin: Twin) -> None:
    """Neither when it is empty, nor when new entries stand in it."""
    twin.check()
    twin.write(AGENTS[0])
    twin.store.trim_state_changes(10**9)
    twin.write(AGENTS[1])
    result = twin.check()
    assert (result.changed, "trimmed past it" in result.compared_all) == (2, True)
    twin.store.trim_state_changes(10**9)
    assert "trimmed past it" in twin.check().compared_all
    assert "no longer holds entry 0" in twin.check().compared_all


def test_a_control_store_made_anew_is_not_gone_on_from(twin: Twin) -> None:
    """Though its entry at the cursor has the same number, agent, version and bytes."""
    fresh = Twin(CopiedMemory(twin.clock), twin.clock)
    assert fresh.store.state_changes(0, 99) == twin.store.state_changes(0, 99)
    twin.check()
    fresh.objects, fresh.held = twin.objects, twin.held
    for _ in range(3):
        fresh.write(AGENTS[0])
    result = fresh.check()
    assert "it is another one, or was put back" in result.compared_all
    assert fresh.check().compared_all == ""


def test_a_control_store_put_back_is_not_gone_on_from(twin: Twin) -> None:
    """It has caught up with the number at the cursor: an agent fell back that no entry names."""
    twin.step("save", "")
    twin.write(AGENTS[0])
    twin.write(AGENTS[1])
    twin.check()
    twin.put_back()
    twin.write(AGENTS[2])
    twin.write(AGENTS[1])
    result = twin.check()
    assert (result.changed, "was put back" in result.compared_all) == (2, True)
    assert twin.held[AGENTS[0]][0] == 1


def test_a_base_of_another_home_is_not_gone_on_from(tmp_path: Path) -> None:
    """After a promotion; even where the new home's control store is a copy of the old one."""
    fleet = VaultFleet(4)
    stores = {name: InMemoryObjectStore() for name in ("ams", "fra", "nyc")}
    for store in stores.values():
        store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
    old = NetworkVault(stores["fra"], KEYS, fleet.clock)
    back_up(old, fleet.store)
    assert back_up(old, fleet.store).compared_all == ""
    new = NetworkVault(stores["fra"], KEYS, fleet.clock, region="fra")
    won = promote(new, stores)
    home = NetworkVault(stores["fra"], KEYS, fleet.clock, won.epoch, "fra")
    fleet.change("agent-0002")
    first = back_up(home, fleet.store)
    assert (first.changed, "the base is of epoch 0" in first.compared_all) == (1, True)
    assert back_up(home, fleet.store).compared_all == ""
    elsewhere = VaultFleet(4)
    other = back_up(home, elsewhere.store)
    assert "it is another one" in other.compared_all
    assert fleet.restored(stores["fra"], other.snapshot_id) == elsewhere.bodies()


def test_a_base_of_an_older_version_is_not_gone_on_from(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record names no cursor."""
    with monkeypatch.context() as patch:
        patch.setattr("resources.vault.snapshots.cut.cursor_fields", lambda _: None)
        twin.check()
    twin.write(AGENTS[0])
    assert twin.check().compared_all == "no earlier cut is known"


def test_an_older_base_is_not_gone_on_from(twin: Twin) -> None:
    """The newest snapshot was forgotten, or an old one brought back as the newest."""
    first = twin.check()
    twin.write(AGENTS[0])
    second = twin.check()
    twin.write(AGENTS[1])
    third = twin.check()
    forget(twin.vault(), [third.snapshot_id])
    result = twin.check()
    assert (result.base_id, result.changed) == (second.snapshot_id, 1)
    assert "does not know the earlier cut" in result.compared_all
    forget(twin.vault(), [first.snapshot_id])
    undelete(twin.vault(), first.snapshot_id)
    result = twin.check()
    assert (result.base_id, result.changed) == (first.snapshot_id, 2)
    assert "does not know the earlier cut" in result.compared_all


def test_after_an_attempt_that_came_to_nothing_everything_is_compared(twin: Twin) -> None:
    """Killed at each of its operations: the next one loses nothing, and the one after is quick."""
    twin.check()
    died = 0
    for number in range(1, 20):
        twin.write(AGENTS[number % 3])
        crashing = CrashingStore(twin.objects, number, "before")
        try:
            back_up(twin.vault(crashing), twin.source, workers=1)
        except Crashed:
            died += 1
        twin.check()
        assert twin.check().compared_all == ""
    assert died >= 3


def test_a_damaged_state_is_tried_again_until_it_is_mended(twin: Twin) -> None:
    """Nothing tells when that is, so everything is compared meanwhile, as ever."""
    twin.check()
    twin.write(AGENTS[0])
    twin.damage(AGENTS[0])
    for _ in range(2):
        result = twin.check()
        assert (result.damaged, result.changed) == ((AGENTS[0],), 0)
    twin.mend(AGENTS[0])
    assert twin.check().changed == 1
    assert twin.check().compared_all == ""


def test_what_could_not_be_rescued_is_compared_again(twin: Twin) -> None:
    """Packs went, and states were out of scope: the snapshot lacks agents that nobody changes."""
    first = twin.check()
    (pack,) = twin.objects.list_objects("packs/")
    sha256 = pack.key.rpartition("/")[2].removesuffix(".pack")
    del twin.objects.objects[pack.key]
    lost = frozenset({sha256})
    twin.declare(AGENTS[4], "net")
    twin.write(AGENTS[4])
    second = twin.check()
    assert (second.compared_all, second.base_id) == ("", first.snapshot_id)
    scope = BackupScope(kinds=frozenset({"file"}))
    without = back_up(twin.vault(), twin.source, scope=scope, distrusted=lost)
    assert list(twin.rows(without)) == [AGENTS[4]]
    result = twin.check()
    assert (result.changed, result.compared_all) == (3, "no earlier cut is known")
    rescued = back_up(twin.vault(), twin.source, distrusted=frozenset(_packs(twin)))
    assert rescued.rescued == 4
    assert twin.rows(rescued) == twin.expected()
    assert twin.check().compared_all == "no earlier cut is known"
    assert twin.check().compared_all == ""


def _packs(twin: Twin) -> Iterator[str]:
    for one in twin.objects.list_objects("packs/"):
        yield one.key.rpartition("/")[2].removesuffix(".pack")


def test_states_out_of_scope_keep_their_place_in_the_change_log(twin: Twin) -> None:
    """A snapshot of artefacts alone carries states and cursor over."""
    twin.check()
    twin.write(AGENTS[1])
    back_up(twin.vault(), twin.source, scope=BackupScope(kinds=frozenset({"file"})))
    result = twin.check()
    assert (result.changed, result.compared_all) == (1, "")


def test_a_full_backup_finds_what_no_change_log_names(twin: Twin) -> None:
    """Somebody has edited rows by hand: an increment cannot know, the nightly comparison does."""
    twin.check()
    store = twin.store
    assert isinstance(store, InMemoryControlStore)
    digest = hashlib.sha256(b"by hand").hexdigest()
    store._states[AGENTS[0]] = store._states[AGENTS[0]]._replace(body=b"by hand", digest=digest)
    twin.write(AGENTS[1])
    increment = back_up(twin.vault(), twin.source)
    assert (increment.changed, increment.unlogged) == (1, 0)
    twin.write(AGENTS[2])
    full = twin.check(full=True)
    assert (full.changed, full.unlogged) == (2, 1)
    assert full.compared_all == "a full snapshot compares every state"
    assert twin.check(full=True).unlogged == 0
