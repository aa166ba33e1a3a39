"""The vault's protocol keeps every live snapshot whole under any interleaving; broken ones do not.

Writers, forgets, an undelete, a repack and two garbage collections run as generators that yield
before each store operation; a seeded scheduler chooses who moves, who crashes for ever and whose
acknowledgement is lost. They call the very decisions that the product calls.
"""

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.vault_log import (
    CommitVerdict,
    ForgetRecord,
    GcPlan,
    GcRecord,
    HoldRecord,
    ListedPack,
    LogRecord,
    MapRecord,
    ReleaseRecord,
    SnapshotRecord,
    UndeleteRecord,
    VaultState,
    decide_commit,
    held_snapshots,
    plan_gc,
    refuse_forget,
    refuse_map,
    refuse_undelete,
    replay,
    restorable_snapshots,
)
from tests.examples import examples

T0 = datetime(2026, 1, 1, tzinfo=UTC)
Steps = Generator[None, None, None]


@dataclass
class World:
    """An object store with create-only log slots, and the protocol's rules (or broken ones)."""

    chance: random.Random
    log: list[LogRecord] = field(default_factory=list)
    packs: dict[str, str] = field(default_factory=dict)
    decide_commit: Callable[[VaultState, str, frozenset[str]], CommitVerdict] = decide_commit
    refuse_forget: Callable[[VaultState, frozenset[str], datetime], str | None] = refuse_forget
    refuse_undelete: Callable[[VaultState, str], str | None] = refuse_undelete
    refuse_map: Callable[[VaultState, MapRecord], str | None] = refuse_map
    plan_gc: Callable[[VaultState, list[ListedPack]], GcPlan] = lambda state, listed: plan_gc(
        state, listed, timedelta(0)
    )
    slots_can_be_overwritten: bool = False
    appends_blindly: bool = False
    gc_writes_no_record: bool = False
    retries_after_a_lost_answer: bool = False

    def append(self, head: int, record: LogRecord) -> bool | None:
        """Create slot head + 1: True stored, False taken, None stored or not: answer lost."""
        if self.appends_blindly:
            head = len(self.log)
        if head < len(self.log) and self.slots_can_be_overwritten:
            self.log[head] = record
            return True
        if head < len(self.log):
            return False
        self.log.append(record)
        return None if self.chance.random() < 0.25 else True

    def broken_promise(self) -> str | None:
        """The first invariant that does not hold now."""
        state = replay(self.log)
        for one in state.live.values():
            if lost := one.packs - self.packs.keys():
                return f"{one.snapshot_id} lost {sorted(lost)}"
        if not state.live:
            return "no live snapshot is left"
        ids = [one.snapshot_id for one in self.log if isinstance(one, SnapshotRecord)]
        return None if len(ids) == len(set(ids)) else "committed twice"


def writer(world: World, sid: str) -> Steps:
    """A backup: choose a base, store a pack, validate at the head, append."""
    base = list(replay(world.log).live.values())[-1]
    reused = frozenset(pack for pack in base.packs if world.chance.random() < 0.6)
    yield
    new = {f"{sid}/new"}
    world.packs[f"{sid}/new"] = sid
    yield
    while True:
        state = replay(world.log)
        verdict = world.decide_commit(state, sid, reused)
        if verdict.action == "abort":
            return
        if verdict.action == "rescue":
            reused -= verdict.packs
            name = f"{sid}/again{len(new)}"
            new.add(name)
            world.packs[name] = sid
            yield
            continue
        yield
        record = SnapshotRecord(sid, T0, reused | new)
        stored = world.append(state.head, record)
        if stored is None and world.retries_after_a_lost_answer:
            stored = world.append(len(world.log), record)
        elif stored is None:
            yield
            stored = world.log[state.head] == record
        if stored:
            return
        yield


def forget(world: World, sid: str, *, newest: bool) -> Steps:
    """Forget the oldest (or, a person, the newest) live snapshot."""
    while True:
        state = replay(world.log)
        chosen = frozenset([list(state.live)[-1 if newest else 0]])
        if world.refuse_forget(state, chosen, T0):
            return
        yield
        if world.append(state.head, ForgetRecord(chosen)) is not False:
            return
        yield


def undelete(world: World, sid: str) -> Steps:
    """Bring one forgotten snapshot back."""
    for _ in range(3):
        state = replay(world.log)
        for one in sorted(state.forgotten):
            if world.refuse_undelete(state, one) is None:
                yield
                if world.append(state.head, UndeleteRecord(one)) is not False:
                    return
                break
        yield


def repack(world: World, sid: str) -> Steps:
    """Copy one live pack into a new one and map the old name to it."""
    state = replay(world.log)
    old = "B0/a"
    if not any(old in one.packs for one in state.live.values()) or old not in world.packs:
        return
    world.packs[f"{sid}/new"] = sid
    yield
    moved = MapRecord(old, f"{sid}/new", sid)
    while True:
        state = replay(world.log)
        if world.refuse_map(state, moved):
            return
        yield
        if world.append(state.head, moved) is not False:
            return
        yield


def collect(world: World, sid: str) -> Steps:
    """List, plan, append the gc record, and only then delete, one pack at a time."""
    while True:
        listed = [ListedPack(pack, owner, 1.0) for pack, owner in world.packs.items()]
        yield
        state = replay(world.log)
        record = world.plan_gc(state, listed).record
        yield
        if world.gc_writes_no_record or world.append(state.head, record) is not False:
            break
        yield
    known = {pack.pack: pack.owner for pack in listed}
    for pack, owner in sorted(known.items()):
        if pack in record.condemned or owner in record.aborted:
            world.packs.pop(pack, None)
            yield


def cast(world: World) -> list[Steps]:
    """Who takes part: always two writers, two forgets, two collections; often the others too."""
    parts = [
        writer(world, "W1"),
        writer(world, "W2"),
        forget(world, "F1", newest=False),
        forget(world, "F2", newest=True),
        collect(world, "G1"),
        collect(world, "G2"),
    ]
    if world.chance.random() < 0.5:
        parts.append(undelete(world, "U1"))
    if world.chance.random() < 0.5:
        parts.append(repack(world, "R1"))
    return parts


def run(world: World) -> str | None:
    """Play one schedule to its end; the first broken promise, or None."""
    world.log.append(SnapshotRecord("B0", T0, frozenset({"B0/a", "B0/b"})))
    world.packs.update({"B0/a": "B0", "B0/b": "B0"})
    parts = cast(world)
    while parts:
        moving = world.chance.choice(parts)
        if world.chance.random() < 0.02:
            parts.remove(moving)
            continue
        for _ in range(world.chance.choice((1, 1, 1, 2, 5))):
            if next(moving, parts) is parts:
                parts.remove(moving)
                break
            if broken := world.broken_promise():
                return broken
        if broken := world.broken_promise():
            return broken
    return None


@settings(max_examples=examples(2000))
@given(st.integers(0, 2**64 - 1))
def test_every_live_snapshot_stays_whole_under_any_interleaving(seed: int) -> None:
    """Crashes and lost acknowledgements break no promise (two thousand schedules in `test-all`)."""
    assert run(World(random.Random(seed))) is None, f"seed {seed}"


def _never_rescue(state: VaultState, sid: str, reused: frozenset[str]) -> CommitVerdict:
    verdict = decide_commit(state, sid, reused)
    return verdict if verdict.action != "rescue" else CommitVerdict("commit", frozenset(), "")


def _never_abort(state: VaultState, sid: str, reused: frozenset[str]) -> CommitVerdict:
    return decide_commit(replace(state, aborted=frozenset()), sid, reused)


def _commit_anything(state: VaultState, sid: str, reused: frozenset[str]) -> CommitVerdict:
    return CommitVerdict("commit", frozenset(), "")


def _gc_without_aborts(state: VaultState, listed: list[ListedPack]) -> GcPlan:
    plan = plan_gc(state, listed, timedelta(0))
    orphans = {one.pack for one in listed if one.owner in plan.record.aborted}
    return GcPlan(GcRecord(plan.record.condemned | orphans, frozenset()), {})


BROKEN: dict[str, dict[str, object]] = {
    "the writer does not validate again": {
        "decide_commit": _commit_anything,
        "appends_blindly": True,
    },
    "the writer ignores condemned packs": {"decide_commit": _never_rescue},
    "the writer ignores that it was given up": {"decide_commit": _never_abort},
    "gc condemns orphans without giving their owner up": {"plan_gc": _gc_without_aborts},
    "gc deletes without a record": {"gc_writes_no_record": True},
    "log slots can be overwritten": {"slots_can_be_overwritten": True},
    "forget leaves nothing": {"refuse_forget": lambda state, ids, now: None},
    "a lost answer is answered by a second record": {"retries_after_a_lost_answer": True},
    "undelete asks nobody": {"refuse_undelete": lambda state, sid: None},
}


@pytest.mark.parametrize("variant", BROKEN)
def test_a_broken_protocol_is_caught(variant: str) -> None:
    """Each rule is needed: without it the same search finds a lost snapshot."""
    found = (run(World(random.Random(seed), **BROKEN[variant])) for seed in range(20_000))
    assert next((broken for broken in found if broken), None), variant


def snapshots(*ids: str) -> Iterator[LogRecord]:
    """Snapshots with one pack of their own each."""
    return (SnapshotRecord(one, T0, frozenset({f"{one}/p"})) for one in ids)


def test_a_held_snapshot_cannot_be_forgotten_until_the_hold_ends() -> None:
    """A hold with an end lasts to that end; a released one is gone at once."""
    hold = HoldRecord("h", frozenset({"a"}), T0 + timedelta(hours=1), "restore")
    state = replay([*snapshots("a", "b"), hold])
    assert refuse_forget(state, frozenset({"a"}), T0) == "held: a"
    assert held_snapshots(state, T0 + timedelta(hours=1)) == frozenset()
    assert refuse_forget(replay([ReleaseRecord("h")], state), frozenset({"a"}), T0) is None


def test_the_packs_of_a_held_snapshot_survive_a_gc_even_when_it_was_forgotten_before() -> None:
    """A restore that began before the forget finds all it needs."""
    hold = HoldRecord("h", frozenset({"a"}), None, "restore")
    state = replay([*snapshots("a", "b"), ForgetRecord(frozenset({"a"})), hold])
    plan = plan_gc(state, [ListedPack("a/p", "a", 9.0)], timedelta(0))
    assert plan.record == GcRecord(frozenset(), frozenset())


def test_the_last_live_snapshots_are_never_forgotten_together() -> None:
    """Forgetting all is refused in words, and so is forgetting what does not exist."""
    state = replay(snapshots("a", "b"))
    assert refuse_forget(state, frozenset({"a", "b"}), T0) == "it would leave no live snapshot"
    assert refuse_forget(state, frozenset({"x"}), T0) == "not live: x"


def test_young_packs_without_an_owner_are_left_alone_and_old_ones_named() -> None:
    """The grace period is courtesy; the reason says how old the orphan is."""
    state = replay(snapshots("a"))
    listed = [ListedPack("y/p", "y", 10.0), ListedPack("o/p", "o", 7200.0)]
    plan = plan_gc(state, listed, timedelta(hours=1))
    assert plan.record == GcRecord(frozenset(), frozenset({"o"}))
    assert plan.reasons == {"o/p": "o never committed in 7200 s"}


def test_replaying_in_two_parts_equals_replaying_at_once() -> None:
    """A cached state plus the log's tail is the whole log."""
    world = World(random.Random(7))
    run(world)
    for cut in range(len(world.log)):
        assert replay(world.log[cut:], replay(world.log[:cut])) == replay(world.log)


def test_a_map_is_refused_when_a_gc_has_named_its_run_or_one_of_its_packs() -> None:
    """A condemned old pack would come back to a snapshot that nobody may undelete any more."""
    moved = MapRecord("a/p", "r/new", "r")
    assert refuse_map(replay(snapshots("a", "b")), moved) is None
    for condemned, aborted, why in (
        ({"a/p"}, set(), "condemned pack a/p"),
        ({"r/new"}, set(), "condemned pack r/new"),
        (set(), {"r"}, "gave up the repack run r"),
    ):
        record = GcRecord(frozenset(condemned), frozenset(aborted))
        assert why in (refuse_map(replay([*snapshots("a", "b"), record]), moved) or "")


def test_whatever_an_undelete_or_a_hold_may_ask_for_is_restorable() -> None:
    """A forgotten snapshot is, until a gc names one of its packs; a held one is for ever."""
    log: list[LogRecord] = [*snapshots("a", "b", "c", "d")]
    log += [
        ForgetRecord(frozenset({"a", "b", "c"})),
        HoldRecord("h", frozenset({"b"}), None, "drill"),
        GcRecord(frozenset({"a/p", "b/p"}), frozenset()),
    ]
    assert restorable_snapshots(replay(log)).keys() == {"d", "c", "b"}
