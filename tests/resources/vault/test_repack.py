"""Repacking moves live bytes and never loses one: every restorable snapshot reads as before."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import NotFoundError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY
from fleet.vault_log import GcRecord, MapRecord
from fleet.vault_pack import PACK_TARGET_BYTES
from fleet.vault_repack import RepackPolicy, StoredPack, plan_repack
from resources.vault.replicas.replicate import replicate
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.retention.removal import collect_garbage, forget, sweep, undelete
from resources.vault.retention.repack import repack
from resources.vault.snapshots.attempt import Attempt
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import AT, VaultFleet

NOW = timedelta(0)
EAGER = RepackPolicy(small_age=timedelta(seconds=-1))
"""Small packs are repacked at once."""


class Sparse:
    """A vault in which one pack is mostly dead, and several are small."""

    def __init__(self, agents: int = 8) -> None:
        """Five snapshots, of which two were forgotten, condemned and swept."""
        self.fleet = VaultFleet(agents)
        self.store = InMemoryObjectStore()
        self.store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.bodies: dict[str, dict[str, bytes]] = {}
        for number in range(5):
            self.back_up(self.store)
            self.fleet.change(*self.fleet.agent_ids[number : number + 3])
        vault = self.fleet.vault(self.store)
        forget(vault, list(self.bodies)[:2])
        collect_garbage(vault, NOW)
        sweep(vault, NOW)

    def back_up(self, store: ObjectStore) -> str:
        """With one worker, so that operations come in one order."""
        self.fleet.clock.advance(60)
        result = back_up(self.fleet.vault(store), self.fleet.store, workers=1)
        self.bodies[result.snapshot_id] = self.fleet.bodies()
        return result.snapshot_id

    def check(self, store: ObjectStore) -> None:
        """Every live snapshot restores byte for byte, and the structure is whole."""
        live = list(self.fleet.vault(store).log.refresh().live)
        assert live
        for snapshot_id in live:
            expected = self.bodies.get(snapshot_id, self.fleet.bodies())
            assert self.fleet.restored(store, snapshot_id) == expected
        assert verify_structure(self.fleet.vault(store)).findings == ()
        assert verify_content(self.fleet.vault(store), live).findings == ()


packs = st.builds(
    StoredPack,
    st.text("abcdef", min_size=3, max_size=8),
    st.just("o"),
    st.integers(100, 2 * PACK_TARGET_BYTES),
    st.integers(0, PACK_TARGET_BYTES),
    st.floats(0, 10**7),
).map(lambda one: one._replace(live_bytes=min(one.live_bytes, one.size_bytes)))


@given(st.lists(packs, unique_by=lambda one: one.sha256, max_size=30), st.randoms())
def test_a_plan_is_bounded_reasoned_and_worth_it(
    listed: list[StoredPack], order: random.Random
) -> None:
    """Whatever the packs: no dead one, none twice, no full group, within a tenth of the vault."""
    plan = plan_repack(listed)
    by_name = {one.sha256: one for one in listed}
    chosen = [one for group in plan.groups for one in group]
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) == plan.reasons.keys()
    total = sum(one.size_bytes for one in listed)
    assert sum(by_name[one].live_bytes for one in chosen) <= max(PACK_TARGET_BYTES, total * 0.1)
    for group in plan.groups:
        assert sum(by_name[one].live_bytes for one in group) <= PACK_TARGET_BYTES
        sparse = [one for one in group if by_name[one].live_bytes * 2 < by_name[one].size_bytes]
        assert len(group) > 1 or sparse
        assert all(by_name[one].live_bytes > 0 for one in group)
    order.shuffle(listed)
    assert plan_repack(listed) == plan


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (StoredPack("p", "o", 1000, 499, 0), "499 of 1000 bytes are live"),
        (StoredPack("p", "o", 1000, 500, 0), None),
        (StoredPack("p", "o", 1000, 0, 9e9), None),
        (StoredPack("p", "o", 4 * 2**20 - 1, 4 * 2**20 - 1, 7 * 86400.0), None),
    ],
)
def test_the_edges_of_the_rule(pack: StoredPack, reason: str | None) -> None:
    """Half live is left alone; a dead pack is gc's; a week is not yet older than a week."""
    assert plan_repack([pack]).reasons.get("p") == reason


def test_small_packs_are_joined_but_one_alone_is_left() -> None:
    """Else one small pack would be written anew every week for ever."""
    small = [StoredPack(name, "o", 1000, 900, 8 * 86400.0) for name in "abc"]
    assert plan_repack(small).groups == (("a", "b", "c"),)
    assert plan_repack(small[:1]).groups == ()


def test_a_repack_frees_space_and_every_snapshot_reads_as_before() -> None:
    """Old packs go by ordinary gc; the next backup names the new ones and costs no state read."""
    world = Sparse()
    vault = world.fleet.vault(world.store)
    before = sum(one.size_bytes for one in world.store.list_objects("packs/"))
    result = repack(vault, EAGER)
    assert result.packs_old > 1
    assert (len(result.reasons), result.packs_new, result.left) == (result.packs_old, 1, {})
    world.check(world.store)
    idle = back_up(world.fleet.vault(world.store), world.fleet.store)
    world.bodies[idle.snapshot_id] = world.fleet.bodies()
    collect_garbage(vault, NOW)
    sweep(vault, NOW)
    world.check(world.store)
    after = sum(one.size_bytes for one in world.store.list_objects("packs/"))
    assert after < before
    assert verify_bytes(vault).findings == ()
    assert repack(world.fleet.vault(world.store), EAGER).packs_old in {0, 2}


def test_unchanged_agents_stay_free_after_a_repack() -> None:
    """The next backup writes its rows in full once, and then nothing again."""
    world = Sparse()
    world.back_up(world.store)
    repack(world.fleet.vault(world.store), EAGER)
    first = back_up(world.fleet.vault(world.store), world.fleet.store)
    assert (first.changed, first.packs, first.manifest) == (0, 0, "full")
    second = back_up(world.fleet.vault(world.store), world.fleet.store)
    assert (second.changed, second.packs, second.manifest) == (0, 0, "same")
    state = world.fleet.vault(world.store).log.refresh()
    maps = {one.old for one in map_records(world, world.store)}
    assert not state.live[second.snapshot_id].packs & maps


def map_records(world: Sparse, store: ObjectStore) -> list[MapRecord]:
    """The map records of the log."""
    vault = world.fleet.vault(store)
    vault.log.refresh()
    return [one.record for one in vault.log.records if isinstance(one.record, MapRecord)]


def remove_dead(world: Sparse, store: ObjectStore) -> None:
    """Condemn and delete, without any delay."""
    collect_garbage(world.fleet.vault(store), NOW)
    sweep(world.fleet.vault(store), NOW)


def test_one_repacked_agent_takes_at_most_five_requests() -> None:
    """List, record, manifest, the new pack's table, one range; for a reader that knew the log."""
    world = Sparse()
    snapshot_id = world.back_up(world.store)
    repack(world.fleet.vault(world.store), EAGER)
    counting = CrashingStore(world.store)
    vault = world.fleet.vault(counting)
    vault.log.refresh()
    counting.calls = 0
    target = ControlStoreTarget(world.fleet.store)
    world.fleet.change("agent-0000")
    restore(vault, target, agent_ids=["agent-0000"], snapshot_id=snapshot_id, newer="overwrite")
    assert counting.calls <= 5, counting.counts
    assert world.fleet.bodies()["agent-0000"] == world.bodies[snapshot_id]["agent-0000"]


def test_a_forgotten_snapshot_can_be_undeleted_after_a_repack() -> None:
    """What an undelete may ask for counts as needed."""
    world = Sparse()
    oldest = next(iter(world.fleet.vault(world.store).log.refresh().live))
    forget(world.fleet.vault(world.store), [oldest])
    repack(world.fleet.vault(world.store), EAGER)
    undelete(world.fleet.vault(world.store), oldest)
    world.check(world.store)


def test_packs_are_repacked_again_and_maps_are_followed_to_the_end() -> None:
    """Old to new to newer, with snapshots of every age still live."""
    world = Sparse()
    for number in range(4):
        repack(world.fleet.vault(world.store), EAGER)
        world.check(world.store)
        collect_garbage(world.fleet.vault(world.store), NOW)
        sweep(world.fleet.vault(world.store), NOW)
        world.fleet.change(world.fleet.agent_ids[number])
        world.back_up(world.store)
        world.check(world.store)
    assert len({one.old for one in map_records(world, world.store)}) >= 6  # type: ignore[attr-defined]


class Meanwhile(CrashingStore):
    """Before its `number`-th operation something else happens."""

    def __init__(self, inner: ObjectStore, number: int, meanwhile) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Run `meanwhile` once."""
        super().__init__(inner)
        self._at, self._meanwhile = number, meanwhile

    def _run(self, name, work):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        self.calls += 1
        if self.calls == self._at:
            self._meanwhile()
        return work()


EVENTS = ("backup", "collection", "undelete", "repack")


@pytest.mark.parametrize("event", EVENTS)
def test_whatever_happens_between_two_operations_of_a_repack_loses_nothing(event: str) -> None:
    """What others commit in between either finds all it needs or makes the map void."""
    world = Sparse()
    oldest = next(iter(world.fleet.vault(world.store).log.refresh().live))
    if event == "undelete":
        forget(world.fleet.vault(world.store), [oldest])
    vault = world.fleet.vault
    happenings = {
        "backup": world.back_up,
        "undelete": lambda store: undelete(vault(store), oldest),
        "repack": lambda store: repack(vault(store), EAGER),
        "collection": lambda store: (forget(vault(store), [oldest]), remove_dead(world, store)),
    }
    total = count_operations(world.store.copy(), lambda one: repack(vault(one), EAGER))
    outcomes: Counter[str] = Counter()
    for number in range(1, total + 1):
        store = world.store.copy()
        sleepy = Meanwhile(store, number, lambda: happenings[event](store))  # noqa: B023
        try:
            result = repack(vault(sleepy), EAGER)
        except NotFoundError:
            # Its manifest was swept without any delay: a clean end.
            outcomes["stopped"] += 1
        else:
            outcomes["switched"] += bool(result.packs_old)
            outcomes["left"] += bool(result.left)
        remove_dead(world, store)
        world.check(store)
    assert outcomes["switched"]
    assert bool(outcomes["stopped"]) == (event == "collection")
    assert outcomes["left"] or event in {"backup", "undelete"}


def test_a_snapshot_that_needs_a_frame_which_was_not_copied_makes_the_map_void() -> None:
    """A writer with an old base commits between the copy and the map; then the old pack stays."""
    world = Sparse(3)
    vault = world.fleet.vault
    world.fleet.change(*world.fleet.agent_ids)
    base = world.back_up(world.store)
    others = [one for one in vault(world.store).log.refresh().live if one != base]
    forget(vault(world.store), others)
    remove_dead(world, world.store)
    # A writer reads its base now: all three states in one pack. It will change one of them.
    late = vault(world.store)
    attempt = Attempt(late, 1, frozenset())
    attempt.read_base(late.log.refresh())
    kept = world.fleet.bodies()
    # Meanwhile two agents move on, and the base is forgotten for good.
    world.fleet.change("agent-0000", "agent-0001")
    world.back_up(world.store)
    forget(vault(world.store), [base])
    (manifest,) = (one for one in world.store.objects if f"manifests/net/{base}" in one)
    condemned = frozenset({manifest.split("/")[-1].removesuffix(".manifest")})
    other = vault(world.store)
    other.log.refresh()
    assert other.log.append(GcRecord(condemned, frozenset()), AT)

    total = count_operations(world.store.copy(), lambda one: repack(vault(one), EAGER))
    outcomes: Counter[str] = Counter()
    for number in range(1, total + 1):
        store = world.store.copy()
        fresh = vault(store)
        again = Attempt(fresh, 1, frozenset())
        again.snapshot_id, again.current = attempt.snapshot_id, attempt.current

        def commit(again: Attempt = again) -> None:
            again.create_manifest(again.current.table, ())
            extra = {"manifests": [list(one) for one in again.chain], "agents": 3, "changed": 0}
            again.commit(AT, lambda: extra, lambda: pytest.fail("no pack of it was condemned"))
            world.bodies[again.snapshot_id] = kept

        result = repack(vault(Meanwhile(store, number, commit)), EAGER)
        outcomes["void"] += any("needs more of it" in one for one in result.left.values())
        outcomes["switched"] += bool(result.packs_old)
        remove_dead(world, store)
        world.check(store)
    assert outcomes["void"]
    assert outcomes["switched"]


@pytest.mark.parametrize("mode", CRASHES)
def test_a_repack_killed_at_any_operation_loses_nothing_and_runs_again(mode: str) -> None:
    """Afterwards no map stands twice, and gc and sweep leave nothing that is not committed."""
    world = Sparse()
    vault = world.fleet.vault
    total = count_operations(world.store.copy(), lambda one: repack(vault(one), EAGER))
    assert total >= 10
    for number in range(1, total + 1):
        store = world.store.copy()
        try:
            repack(vault(CrashingStore(store, number, mode)), EAGER)
        except (Crashed, StoreUnavailableError):
            pass
        else:
            assert mode == "lost"
        world.check(store)
        repack(vault(store), EAGER)
        remove_dead(world, store)
        world.check(store)
        olds = [one.old for one in map_records(world, store)]
        assert len(set(olds)) == len(olds)
        named = {one.key.split("/")[2] for one in store.list_objects("packs/net/")}
        assert named <= vault(store).log.refresh().committed


def test_a_damaged_pack_is_left_alone_and_named() -> None:
    """The others are repacked; no damaged byte gets a fresh seal."""
    world = Sparse()
    victim = world.store.list_objects("packs/")[0]
    name = victim.key.split("/")[-1].removesuffix(".pack")
    content = world.store.objects[victim.key]
    world.store.objects[victim.key] = content[:60] + bytes(len(content) - 60)
    result = repack(world.fleet.vault(world.store), EAGER)
    assert list(result.left) == [name]
    assert "damaged" in result.left[name]
    world.store.objects[victim.key] = content
    world.check(world.store)


def test_a_replica_follows_a_repack() -> None:
    """The new pack arrives before the map record that names it."""
    world = Sparse()
    replica = InMemoryObjectStore()
    vault = world.fleet.vault
    replicate(vault(world.store), vault(replica))
    repack(vault(world.store), EAGER)
    collect_garbage(vault(world.store), NOW)
    sweep(vault(world.store), NOW)
    replicate(vault(world.store), vault(replica))
    world.check(replica)
