"""Killed, unanswered and interleaved at every store operation: nothing live is ever lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import product
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import pytest

from fleet.errors import FencedError, PermanentError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY
from fleet.vault_log import VaultState
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import (
    collect_garbage,
    forget,
    hold,
    release,
    sweep,
    undelete,
)
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet

NOW = timedelta(0)
Verb = Callable[[ObjectStore], Any]


class History:
    """A vault with three snapshots, one forgotten, one orphan pack; and what each must restore."""

    def __init__(self, root: Path) -> None:
        """Build it in `root`."""
        self.root = root
        self.fleet = VaultFleet(5)
        self.bodies: dict[str, dict[str, bytes]] = {}
        store = DirectoryObjectStore(root)
        store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        for _ in range(3):
            self.fleet.clock.advance(60)
            self.fleet.change("agent-0001", "agent-0002")
            self.back_up(store)
        self.first, self.second, self.third = self.bodies
        forget(self.fleet.vault(store), [self.first])
        with pytest.raises(Crashed):
            back_up(self.fleet.vault(CrashingStore(store, 4, "before")), self._changed())
        self.fleet.change("agent-0003")

    def _changed(self) -> Any:
        self.fleet.change("agent-0004")
        return self.fleet.store

    def back_up(self, store: ObjectStore) -> None:
        """With one worker, so that operations come in one order."""
        result = back_up(self.fleet.vault(store), self.fleet.store, workers=1)
        self.bodies[result.snapshot_id] = self.fleet.bodies()

    def forget(self, store: ObjectStore) -> None:
        """Forget the second snapshot."""
        forget(self.fleet.vault(store), [self.second])

    def gc(self, store: ObjectStore) -> None:
        """Condemn, without a grace period."""
        collect_garbage(self.fleet.vault(store), NOW)

    def sweep(self, store: ObjectStore) -> None:
        """Condemn and delete at once."""
        collect_garbage(self.fleet.vault(store), NOW)
        sweep(self.fleet.vault(store), NOW)

    def copy(self, name: str) -> DirectoryObjectStore:
        """The same vault in another folder."""
        target = self.root.parent / name
        shutil.copytree(self.root, target)
        return DirectoryObjectStore(target)

    def check(self, store: ObjectStore) -> None:
        """Every live snapshot restores byte for byte, and there is one."""
        live = self.fleet.vault(store).log.refresh().live
        assert live
        for snapshot_id in live:
            expected = self.bodies.get(snapshot_id, self.fleet.bodies())
            assert self.fleet.restored(store, snapshot_id) == expected


QUICK = {("back_up", "after"), ("back_up", "lost"), ("forget", "after"), ("gc", "lost")}
KILLED = [
    pytest.param(verb, mode, marks=() if (verb, mode) in QUICK else pytest.mark.long)
    for verb in ("back_up", "forget", "gc", "sweep")
    for mode in ("before", "after", "lost")
]


@pytest.mark.parametrize(("verb", "mode"), KILLED)
def test_a_verb_killed_at_any_operation_loses_nothing_and_runs_again(
    tmp_path: Path, verb: str, mode: str
) -> None:
    """For every operation k; with a lost answer the verb may go on by itself."""
    history = History(tmp_path / "vault")
    run: Verb = getattr(history, verb)
    total = count_operations(history.copy("count"), run)
    assert total >= 4
    for number in range(1, total + 1):
        store = history.copy(f"{number}")
        failing = CrashingStore(store, number, mode)
        try:
            run(failing)
        except Crashed:
            assert mode != "lost"
        except StoreUnavailableError:
            assert mode == "lost"
        else:
            assert mode == "lost"
        history.check(store)
        run(store)
        history.check(store)
        # No second commit of the same: the log holds the verb's effect.
        assert verify_structure(history.fleet.vault(store)).findings == ()
        history.sweep(store)
        assert verify_content(history.fleet.vault(store)).findings == ()
        named = {one.key.split("/")[2] for one in store.list_objects("packs/net/")}
        assert named <= history.fleet.vault(store).log.refresh().committed


def test_undelete_hold_and_release_killed_at_any_operation_run_again(tmp_path: Path) -> None:
    """Before, after, with a lost answer: the record is there or not, and running again is done."""
    history = History(tmp_path / "vault")
    vault = history.fleet.vault
    on_disk = DirectoryObjectStore(tmp_path / "vault")
    held = hold(vault(on_disk), [history.third], "legal")
    origin = InMemoryObjectStore(history.fleet.clock.now)
    for one in on_disk.list_objects(""):
        origin.create(one.key, on_disk.get(one.key))
    verbs: list[tuple[Verb, Callable[[VaultState], bool]]] = [
        (lambda s: undelete(vault(s), history.first), lambda state: history.first in state.live),
        (
            lambda s: hold(vault(s), [history.second], "audit"),
            lambda state: "audit" in {one.reason for one in state.holds.values()},
        ),
        (lambda s: release(vault(s), held), lambda state: held not in state.holds),
    ]
    for run, is_done in verbs:
        total = count_operations(origin.copy(), run)
        for number, mode in product(range(1, total + 1), ("after", "lost")):
            store = origin.copy()
            with suppress(Crashed, StoreUnavailableError):
                run(CrashingStore(store, number, mode))
            history.check(store)
            run(store)
            assert is_done(vault(store).log.refresh())
            assert verify_structure(vault(store)).ok


@pytest.mark.parametrize("mode", CRASHES)
def test_a_replica_is_a_valid_prefix_at_every_moment(tmp_path: Path, mode: str) -> None:
    """Killed at any of its operations; the next run completes it to the same bytes."""
    history = History(tmp_path / "vault")
    source = DirectoryObjectStore(tmp_path / "vault")
    vault = history.fleet.vault

    def run(target: ObjectStore) -> None:
        replicate(vault(source), vault(target))

    total = count_operations(DirectoryObjectStore(tmp_path / "count"), run)
    for number in range(1, total + 1):
        target = DirectoryObjectStore(tmp_path / f"replica-{number}")
        try:
            run(CrashingStore(target, number, mode))
        except (Crashed, StoreUnavailableError):
            findings = verify_structure(vault(target)).findings
            # Killed before the very first object there is no vault yet, and V1 says so.
            nothing = not target.list_objects("")
            assert [one.subject for one in findings] == ([VAULT_KEY] if nothing else [])
        for snapshot_id in vault(target).log.refresh().live:
            assert history.fleet.restored(target, snapshot_id) == history.bodies[snapshot_id]
        run(target)
        assert verify_bytes(vault(target)).findings == ()
        assert vault(target).log.refresh() == vault(source).log.refresh()


class Turns:
    """Lets one store operation of one actor happen at a time, in an order drawn by seed."""

    def __init__(self, seed: int, actors: int) -> None:
        """Wait until each of `actors` has an operation, then draw."""
        self._chance = random.Random(seed)
        self._changed = Condition()
        self._running = actors
        self._waiting: list[int] = []
        self._turn: int | None = None

    def take(self, actor: int) -> None:
        """Wait for one's turn."""
        with self._changed:
            self._waiting.append(actor)
            self._draw()
            assert self._changed.wait_for(lambda: self._turn == actor, timeout=30)
            self._turn = None
            self._waiting.remove(actor)

    def leave(self) -> None:
        """The actor is done."""
        with self._changed:
            self._running -= 1
            self._draw()

    def _draw(self) -> None:
        if self._turn is None and self._waiting and len(self._waiting) == self._running:
            self._turn = self._chance.choice(sorted(self._waiting))
            self._changed.notify_all()


class TurnStore(CrashingStore):
    """A store that waits for its actor's turn before each operation."""

    def __init__(self, inner: ObjectStore, turns: Turns, actor: int) -> None:
        """One for each actor."""
        super().__init__(inner)
        self._turns = turns
        self._actor = actor

    def _run(self, name: str, work: Callable[[], Any]) -> Any:
        self._turns.take(self._actor)
        return work()


@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(one, marks=pytest.mark.long) for one in range(20, 60))]
)
def test_writers_forget_and_gc_may_meet_in_any_order(tmp_path: Path, seed: int) -> None:
    """Two backups, a forget, and two collectors that delete at once, without any grace."""
    history = History(tmp_path / "vault")
    store = DirectoryObjectStore(tmp_path / "vault")
    verbs = [history.back_up, history.back_up, history.forget, history.sweep, history.sweep]
    turns = Turns(seed, len(verbs))
    surprises: list[BaseException] = []

    def act(actor: int, verb: Verb) -> None:
        try:
            verb(TurnStore(store, turns, actor))
        except (FencedError, PermanentError):
            pass  # given up by a gc, or a forget refused: clean ends
        except BaseException as error:  # noqa: BLE001
            surprises.append(error)
        finally:
            turns.leave()

    threads = [Thread(target=act, args=pair) for pair in enumerate(verbs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert surprises == []
    history.check(store)
    assert verify_structure(history.fleet.vault(store)).findings == ()


class SleepingStore(CrashingStore):
    """Before operation `number` its user sleeps, and everybody else goes on."""

    def __init__(self, inner: ObjectStore, number: int, meanwhile: Callable[[], object]) -> None:
        """Run `meanwhile` once."""
        super().__init__(inner)
        self._wake_at = number
        self._meanwhile = meanwhile

    def _run(self, name: str, work: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls == self._wake_at:
            self._meanwhile()
        return work()


@pytest.mark.parametrize("grace", [NOW, timedelta(hours=24)])
def test_a_writer_that_sleeps_through_forget_gc_and_sweep_rescues_or_stops(
    tmp_path: Path, grace: timedelta
) -> None:
    """At any of its operations; what it then commits is whole, though nothing waits for readers.

    FencedError: a gc gave it up (without grace), or its snapshot was forgotten before the proof.
    """
    first = History(tmp_path / "vault")
    total = count_operations(first.copy("count"), first.back_up)
    outcomes = set()
    for number in range(1, total + 1):
        history = History(tmp_path / str(number))
        fleet, store = history.fleet, DirectoryObjectStore(tmp_path / str(number))
        sleepy = SleepingStore(store, number, lambda: supersede(fleet, store, grace))  # noqa: B023
        try:
            result = back_up(fleet.vault(sleepy), fleet.store, workers=1)
        except FencedError:
            outcomes.add("FencedError")
        else:
            outcomes.add("rescued" if result.rescued else "committed")
        assert verify_structure(fleet.vault(store)).findings == ()
        live = list(fleet.vault(store).log.refresh().live)
        assert verify_content(fleet.vault(store), live).findings == ()
        result = back_up(fleet.vault(store), fleet.store)
        history.sweep(store)
        assert fleet.restored(store, result.snapshot_id) == fleet.bodies()
    assert outcomes == {"FencedError", "committed", "rescued"}


def supersede(fleet: VaultFleet, store: ObjectStore, grace: timedelta) -> None:
    """Change everything, back it up, forget all else, condemn and delete."""
    vault = fleet.vault(store)
    fleet.change(*fleet.agent_ids)
    newest = back_up(vault, fleet.store).snapshot_id
    forget(vault, vault.log.refresh().live.keys() - {newest})
    collect_garbage(vault, grace)
    sweep(vault, NOW)
