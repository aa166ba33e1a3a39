"""The blast radius is one for all leaders: what one has decided counts for the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from fleet.failover.profiles import EMBEDDED
from fleet.failover.records import ControllerState
from fleet.failover.rules import Rule
from fleet.failover_declaration import FailoverDeclaration
from fleet.probing import EMBEDDED_PROBING
from ops.failover_controller import FailoverController
from ops.failover_evidence import EvidenceReader, WatchPorts
from resources.leader_lease import LeaderLease
from tests.ops.test_failover_controller import TARGETS, WatchedWorld, _Prober, _ProcessTable

CAREFUL = replace(EMBEDDED, blast_fraction=0.25)
"""Four of sixteen agents: one node's."""


class SucceededWorld(WatchedWorld):
    """A world with a second controller, which takes over when it is told to."""

    def take_over(self) -> None:
        """The first one is gone; the second, in a process of its own, has looked for long."""
        self.lease.resign()
        self.lease = LeaderLease(self.store, "successor", now_s=self.clock.monotonic_s)
        ports = WatchPorts(self.store, self.clock, self.lease, _Prober(self), _ProcessTable(self))
        declaration = FailoverDeclaration(policy=CAREFUL, targets=TARGETS)
        reader = EvidenceReader(ports, CAREFUL, EMBEDDED_PROBING, "clock of the successor")
        self.controller = FailoverController(ports, reader, declaration, self.told)


def _moved_by_the_first() -> SucceededWorld:
    world = SucceededWorld(CAREFUL)
    world.kill("eu-1", terminated=True)
    assert [one.subject for one in world.look().orders] == ["eu-1"]
    return world


def test_a_decision_to_move_is_durable_before_its_order_is_handed_out() -> None:
    """With agents, region and age by the store's clock, which nobody's wall clock changes."""
    world = _moved_by_the_first()
    [move] = world.store.decided_moves(600.0)
    assert (move.subject, move.region, move.agents, move.age_s) == ("node/eu-1", "eu", 4, 0.0)
    assert [note.key for note in world.controller.state.moves] == [move.key]
    world.pass_time(10)
    assert [one.age_s for one in world.store.decided_moves(600.0)] == [10.0]


@pytest.mark.parametrize("carried_out", [True, False], ids=["carried out", "only decided"])
def test_a_successor_counts_what_its_predecessor_has_decided(*, carried_out: bool) -> None:
    """Its own first move is not free: it waits for the window, or for a person."""
    world = SucceededWorld(CAREFUL)
    world.kill("eu-1", terminated=True)
    tick = world.look()
    if carried_out:
        world.carry_out(tick)
    world.take_over()
    for _ in range(6):
        world.look()
    world.kill("us-1", terminated=True)
    missed = world.look().decision.non_actions
    assert Rule.BLAST_RADIUS in {one.rule for one in missed if one.action.subject == "node/us-1"}
    assert not any(one.subject == "us-1" for one in world.look().orders)


def test_a_successor_goes_on_with_a_move_that_was_only_decided() -> None:
    """It is the same move: the budget does not hold it back."""
    world = _moved_by_the_first()
    world.take_over()
    tick = world.look_until_ordered(60)
    assert [one.subject for one in tick.orders] == ["eu-1"]
    assert len(world.controller.state.moves) == 1


def _failing(call: Callable[..., Any], error: StateroomError, when: Callable[..., bool]) -> Any:
    def may_fail(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            raise error
        return call(*args, **kwargs)

    return may_fail


def test_a_move_that_could_not_be_written_down_is_not_ordered_and_asked_for_again() -> None:
    """A successor could not know of it."""
    world = WatchedWorld()
    away = StoreUnavailableError("gone", hint="")
    append = world.store.append_journal
    world.store.append_journal = _failing(  # type: ignore[method-assign]
        append, away, lambda entries: any("move_node" in one.step for one in entries)
    )
    world.kill("eu-1", terminated=True)
    tick = world.look()
    assert tick.orders == ()
    assert any("gone" in fault for fault in tick.faults)
    world.store.append_journal = append  # type: ignore[method-assign]
    again = world.look_until_ordered(round(EMBEDDED.move_retry_s) + 2)
    assert [(one.subject, one.attempt) for one in again.orders] == [("eu-1", 2)]
    assert len(world.store.decided_moves(60.0)) == 1


def test_a_move_whose_incident_could_not_be_opened_is_not_ordered() -> None:
    """Moves are looked for by incident."""
    world = WatchedWorld()
    opened = world.store.open_incident
    away = StoreUnavailableError("gone", hint="")
    world.store.open_incident = _failing(opened, away, lambda _: True)  # type: ignore[method-assign]
    world.kill("eu-1", terminated=True)
    assert world.look().orders == ()


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (CorruptObjectError("torn page"), Rule.EARLIER_MOVES),
        (StoreUnavailableError("gone", hint=""), Rule.STORE_REACHABLE),
    ],
)
def test_a_new_leader_that_cannot_read_earlier_moves_is_frozen_until_it_can(
    error: StateroomError, rule: Rule
) -> None:
    """With the reason; nothing is moved meanwhile, and nothing is forgotten."""
    world = _moved_by_the_first()
    read = world.store.decided_moves
    world.store.decided_moves = _failing(read, error, lambda _: True)  # type: ignore[method-assign]
    world.take_over()
    for _ in range(8):
        tick = world.look()
        assert (tick.orders, tick.decision.controller) == ((), ControllerState.FROZEN)
        assert rule in tick.decision.frozen_by
    world.store.decided_moves = read  # type: ignore[method-assign]
    assert world.look().decision.controller is ControllerState.ACTIVE
    assert [note.agents for note in world.controller.state.moves] == [4]


def test_earlier_moves_are_read_once_in_a_term() -> None:
    """A tick of a leader costs no such query."""
    world = _moved_by_the_first()
    asked: list[float] = []
    read = world.store.decided_moves

    def counted(window_s: float) -> Any:
        asked.append(window_s)
        return read(window_s)

    world.store.decided_moves = counted  # type: ignore[method-assign]
    world.take_over()
    for _ in range(20):
        world.look()
    assert asked == [CAREFUL.moves_window_s]
