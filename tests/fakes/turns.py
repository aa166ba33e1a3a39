"""One store operation of one actor at a time, in an order that the test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Lock, RLock, Thread
from typing import Any

from fleet.ports.object_store import ObjectStore
from tests.fakes.crashing_store import CrashingStore

_PATIENCE_S = 60.0


class Turns:
    """Lets the waiting actors go on one by one.

    An actor is chosen only when every actor that still runs waits, so that a schedule is a list of
    numbers and nothing else: the n-th choice picks among those who wait, in the order of actors.
    """

    def __init__(self, schedule: Sequence[int], actors: int) -> None:
        """After the schedule's end the first who waits goes on."""
        self._schedule = list(reversed(schedule))
        self._lock = Lock()
        self._running = actors
        self._waiting: dict[int, Event] = {}
        self.taken: list[int] = []

    def take(self, actor: int) -> None:
        """Wait for one's turn."""
        mine = Event()
        with self._lock:
            self._waiting[actor] = mine
            self._choose()
        assert mine.wait(_PATIENCE_S), "the schedule stands still"

    def leave(self) -> None:
        """The actor is done."""
        with self._lock:
            self._running -= 1
            self._choose()

    def _choose(self) -> None:
        if not self._waiting or len(self._waiting) < self._running:
            return
        order = sorted(self._waiting)
        choice = self._schedule.pop() if self._schedule else 0
        actor = order[choice % len(order)]
        self.taken.append(actor)
        self._waiting.pop(actor).set()


class TurnStore(CrashingStore):
    """A store that waits for its actor's turn before each operation."""

    def __init__(self, inner: ObjectStore, turns: Turns, actor: int) -> None:
        """One for each actor and store; an actor's own threads go one after the other."""
        super().__init__(inner)
        self._turns = turns
        self._actor = actor
        self._one = RLock()

    def _run(self, name: str, work: Callable[[], Any]) -> Any:
        with self._one:
            self._turns.take(self._actor)
            return work()


def play(
    acts: Sequence[Callable[[Callable[[ObjectStore], ObjectStore]], object]],
    schedule: Sequence[int],
) -> list[BaseException | None]:
    """Play actors against each other; by actor, what ended it, or None.

    Args:
        acts: each is given a wrapper for the stores that it uses.
        schedule: see `Turns`.
    """
    turns = Turns(schedule, len(acts))
    ends: list[BaseException | None] = [None] * len(acts)

    def act(actor: int) -> None:
        try:
            acts[actor](lambda store: TurnStore(store, turns, actor))
        except BaseException as error:  # noqa: BLE001
            ends[actor] = error
        finally:
            turns.leave()

    threads = [Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends
