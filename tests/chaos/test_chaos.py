"""Real processes under random SIGKILL, SIGSTOP and SIGCONT: nothing acknowledged is ever lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.failover.profiles import EMBEDDED
from fleet.placement.parking import lacks_room
from fleet.placement_history import (
    find_double_placements,
    find_missing_epochs,
    find_stale_epochs,
)
from tests.chaos.blows import WEIGHTS, Blow, BlowKind, Victims, plan_blows
from tests.chaos.chaotic_fleet import ChaoticFleet, chaotic_fleet
from tests.chaos.parkings import bounds_of, find_needless_parkings, read_parkings
from tests.chaos.write_ledger import find_broken_order, find_lost_states, find_lost_writes

SEED = int(os.environ.get("CHAOS_SEED", "1"))
DURATION_S = float(os.environ.get("CHAOS_SECONDS", "120"))


def check(chaotic: ChaoticFleet) -> int:
    """Let it come to rest, stop it, compare; returns how many writes were acknowledged.

    Who was parked although a node in reach had been there for long (`parkings.bounds_of`) is a
    fault of the fleet. All others were parked rightly: the operator's `stateroom up` places them,
    and then everybody runs.
    """
    began_s = time.monotonic()
    chaotic.settle()
    if chaotic.place_parked():
        chaotic.settle()
    placed = chaotic.fleet.store.placements()
    assert [one for one in placed if one.desired != "running" and lacks_room(one)] == []
    print(f"at rest after {time.monotonic() - began_s:.1f} s")  # noqa: T201
    assert chaotic.orphans() == []
    chaotic.stop()
    assert chaotic.orphans() == []
    assert chaotic.lives() == {}
    assert chaotic.faults() == ""
    ledger, changes, history = chaotic.acknowledged(), chaotic.changes(), chaotic.history()
    assert find_lost_writes(ledger, changes) == []
    assert find_broken_order(changes) == []
    assert find_lost_states(chaotic.states(), changes) == []
    assert find_stale_epochs(history, changes) == []
    assert find_double_placements(history) == []
    assert find_missing_epochs(history, chaotic.fleet.store.placements()) == []
    parkings, odd = read_parkings(history, chaotic.journals(), chaotic.nodes)
    assert odd == []
    assert find_needless_parkings(parkings, chaotic.looks(), bounds_of(EMBEDDED)) == []
    assert {one.agent_id for one in ledger} == set(chaotic.agents)
    return len(ledger)


@contextmanager
def explained(chaotic: ChaoticFleet) -> Iterator[None]:
    """Let a failure tell what the controllers have said."""
    try:
        yield
    except BaseException:
        for name in chaotic.controllers:
            log = (chaotic.fleet.state_dir / f"{name}.log").read_text().splitlines()
            print(f"-- {name}\n" + "\n".join(log[-200:]))  # noqa: T201
        raise


def test_a_plan_follows_from_its_seed() -> None:
    """So that a failure can be had again; two minutes hold every kind of damage."""
    with_fleet = {f"{region}-{n}": region for region in ("a", "b") for n in (1, 2)}
    victims = Victims(with_fleet, ["x", "y"], ["c"])
    plans = [plan_blows(seed, 600.0, victims) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {one.kind for one in plans[0]} == set(WEIGHTS)


def test_a_killed_and_a_frozen_node_lose_nothing() -> None:
    """One node dies, another is frozen until its agents run elsewhere, and wakes as a zombie."""
    killed = Blow(0.0, BlowKind.KILL_NODE, "us-1", 1.0)
    frozen = Blow(0.0, BlowKind.FREEZE_NODE, "ap-2", 1.0)
    with chaotic_fleet(agents_per_node=1, controllers=1) as chaotic, explained(chaotic):
        assert {chaotic.strike(killed), chaotic.strike(frozen)} == {"us-1", "ap-2"}
        for node_id in ("us-1", "ap-2"):
            chaotic.wait_left(node_id)
        chaotic.heal(frozen)
        chaotic.heal(killed)
        assert check(chaotic) > 0


@pytest.mark.long
def test_two_minutes_of_chaos_lose_nothing() -> None:
    """Nodes, agents and controllers, at random; `CHAOS_SEED` and `CHAOS_SECONDS` change it."""
    with chaotic_fleet() as chaotic, explained(chaotic):
        blows = plan_blows(SEED, DURATION_S, chaotic.victims())
        print("\n".join(chaotic.suffer(blows)))  # noqa: T201 - pytest shows it with a failure
        acknowledged = check(chaotic)
        moves = sum(one.epoch > 1 for one in chaotic.history())
        parked = [one for one in chaotic.history() if one.desired == "parked"]
        print("\n".join(sorted({one.reason for one in parked})))  # noqa: T201
        assert moves > 0
        print(  # noqa: T201
            f"seed {SEED}: {len(blows)} blows, {acknowledged} acknowledged writes, {moves} moves, "
            f"{len(parked)} parked on the way"
        )
