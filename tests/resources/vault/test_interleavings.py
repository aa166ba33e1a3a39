"""Writers, forget, two collections, restore, replication and repack may meet in any order.

The real code runs in threads; a scheduler lets one store operation happen at a time, in an order
that Hypothesis draws and shrinks. Nothing waits for readers: every deletion is immediate.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, note, seed, settings
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, FencedError, NotFoundError, PermanentError
from fleet.ports.object_store import ObjectStore
from fleet.vault_log import CommitVerdict
from resources.vault.replicas.replicate import replicate
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.retention.repack import repack
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.turns import play
from tests.resources.vault.test_repack import EAGER, NOW, Sparse

Wrap = Callable[[ObjectStore], ObjectStore]
CLEAN_ENDS = (FencedError, PermanentError, NotFoundError, CorruptObjectError)
"""Given up by a gc; a forget that was refused; something swept while it was being read."""


@cache
def sparse() -> Sparse:
    """Built once; each schedule works on a copy of its store."""
    world = Sparse(5)
    world.fleet.change("agent-0003")
    return world


class Stage:
    """One vault, its replica, and everybody who uses them at once."""

    def __init__(self, store: InMemoryObjectStore | None = None) -> None:
        """Copies of the template."""
        self.world = sparse()
        self.store = store or self.world.store.copy()
        self.replica = InMemoryObjectStore()
        self.bodies = dict(self.world.bodies)
        self.surprises: list[str] = []
        self.replicated = False

    def cast(self) -> list[Callable[[Wrap], object]]:
        """Two writers, a forget, two collections, a restore, a replication, a repack."""
        return [
            self.write,
            self.write,
            self.forget,
            self.collect,
            self.collect,
            self.restore,
            self.replicate,
            self.repack,
        ]

    def write(self, wrap: Wrap) -> None:
        """Back up; the states do not change meanwhile."""
        result = back_up(
            self.world.fleet.vault(wrap(self.store)), self.world.fleet.store, workers=1
        )
        self.bodies[result.snapshot_id] = self.world.fleet.bodies()

    def forget(self, wrap: Wrap) -> None:
        """Forget all but the newest snapshot."""
        vault = self.world.fleet.vault(wrap(self.store))
        forget(vault, list(vault.log.refresh().live)[:-1])

    def collect(self, wrap: Wrap) -> None:
        """Condemn and delete at once."""
        vault = self.world.fleet.vault(wrap(self.store))
        collect_garbage(vault, NOW)
        sweep(vault, NOW)

    def restore(self, wrap: Wrap) -> None:
        """Restore the newest snapshot into an empty control store."""
        fleet = self.world.fleet
        empty = InMemoryControlStore(fleet.clock)
        fleet.declare(empty, fleet.agent_ids)
        vault = fleet.vault(wrap(self.store))
        result = restore(vault, ControlStoreTarget(empty))
        found = {one.agent_id: one.body for one in empty.states(fleet.agent_ids)}
        if found != self.bodies.get(result.snapshot_id, fleet.bodies()):
            self.surprises.append(f"{result.snapshot_id} was restored wrongly")

    def replicate(self, wrap: Wrap) -> None:
        """Copy to the replica."""
        vault = self.world.fleet.vault
        replicate(vault(wrap(self.store)), vault(wrap(self.replica)))
        self.replicated = True

    def repack(self, wrap: Wrap) -> None:
        """Repack whatever is small."""
        repack(self.world.fleet.vault(wrap(self.store)), EAGER)

    def run(self, schedule: list[int]) -> None:
        """Play, and check every promise."""
        ends = play(self.cast(), schedule)
        unclean = [repr(one) for one in ends if one is not None and not isinstance(one, CLEAN_ENDS)]
        assert (unclean, self.surprises) == ([], [])
        self.check(self.store)
        if self.replicated:
            self.check(self.replica)
        vault = self.world.fleet.vault
        replicate(vault(self.store), vault(self.replica))
        assert vault(self.store).log.refresh() == vault(self.replica).log.refresh()
        self.check(self.replica)

    def check(self, store: ObjectStore) -> None:
        """There is a live snapshot, and each restores byte for byte."""
        vault = self.world.fleet.vault(store)
        live = list(vault.log.refresh().live)
        assert live
        assert verify_structure(vault).findings == ()
        assert verify_content(vault, live).findings == ()
        for snapshot_id in live:
            expected = self.bodies.get(snapshot_id, self.world.fleet.bodies())
            assert self.world.fleet.restored(store, snapshot_id) == expected


def drawn(start: int) -> list[int]:
    """A schedule in bursts: somebody does one operation, or many, while all others sleep."""
    chance = random.Random(start)
    length = chance.choice([2, 8, 30])
    bursts = ([chance.randrange(8)] * chance.randrange(1, length) for _ in range(400 // length))
    return [choice for burst in bursts for choice in burst]


schedules = st.integers(0, 2**64).map(drawn) | st.lists(st.integers(0, 7), max_size=120)


@pytest.mark.parametrize("start", range(2))
def test_whoever_meets_in_whatever_order_nothing_live_is_lost(start: int) -> None:
    """Forty schedules; a failure prints its seed and the shortest schedule."""
    search(start, 20)


@pytest.mark.long
@pytest.mark.parametrize("start", range(100, 110))
def test_whoever_meets_in_two_thousand_orders_nothing_live_is_lost(start: int) -> None:
    """The same, longer."""
    search(start, 250)


def search(start: int, examples: int) -> None:
    """Draw schedules from a seed."""

    @seed(start)
    @settings(max_examples=examples, deadline=None, database=None)
    @given(schedules)
    def any_schedule(schedule: list[int]) -> None:
        note(f"seed {start}")
        Stage().run(schedule)

    any_schedule()


class Overwriting(InMemoryObjectStore):
    """A store that ignores the condition of a conditional write."""

    def create(self, key: str, data: bytes) -> bool:
        """The last writer wins."""
        self.delete([key])
        return super().create(key, data)


def always_commit(state: object, snapshot_id: str, reused: frozenset[str]) -> CommitVerdict:
    """A writer that does not look at what happened meanwhile."""
    return CommitVerdict("commit", frozenset(), "blind")


@pytest.mark.parametrize("broken", ["no validation at commit", "log slots can be overwritten"])
def test_the_search_finds_what_a_broken_engine_loses(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the schedules above would prove nothing."""
    if broken == "no validation at commit":
        monkeypatch.setattr("resources.vault.snapshots.attempt.decide_commit", always_commit)
    caught = 0
    for start in range(200):
        stage = Stage()
        if broken == "log slots can be overwritten":
            stage.store = Overwriting()
            for listed in stage.world.store.list_objects(""):
                stage.store.create(listed.key, stage.world.store.get(listed.key))
        try:
            stage.run(drawn(start))
        except (AssertionError, CorruptObjectError, NotFoundError, PermanentError):
            caught += 1
            break
    assert caught
