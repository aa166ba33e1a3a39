"""Real processes under random SIGKILL, SIGSTOP and SIGCONT: nothing acknowledged is ever lost."""

from __future__ import annotations

import os

import pytest

from fleet.placement_history import (
    find_double_placements,
    find_missing_epochs,
    find_stale_epochs,
)
from tests.chaos.blows import WEIGHTS, Blow, BlowKind, plan_blows
from tests.chaos.chaotic_fleet import ChaoticFleet, chaotic_fleet
from tests.chaos.write_ledger import find_broken_order, find_lost_states, find_lost_writes

SEED = int(os.environ.get("CHAOS_SEED", "1"))
DURATION_S = float(os.environ.get("CHAOS_SECONDS", "120"))


def check(chaotic: ChaoticFleet) -> int:
    """Let it come to rest, stop it, compare; returns how many writes were acknowledged."""
    chaotic.settle()
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
    assert {one.agent_id for one in ledger} == set(chaotic.agents)
    return len(ledger)


def live_through(chaotic: ChaoticFleet, blows: list[Blow]) -> None:
    """Suffer a plan and be judged; a failure tells what was done, and what controllers said."""
    told = chaotic.suffer(blows)
    print("\n".join(told))  # noqa: T201 - pytest shows it with a failure
    try:
        acknowledged = check(chaotic)
    except BaseException:
        for name in chaotic.controllers:
            log = (chaotic.fleet.state_dir / f"{name}.log").read_text().splitlines()
            print(f"-- {name}\n" + "\n".join(log[-200:]))  # noqa: T201
        raise
    epochs = max(one.epoch for one in chaotic.history())
    print(f"{len(blows)} blows, {acknowledged} acknowledged, epochs up to {epochs}")  # noqa: T201


def test_a_plan_follows_from_its_seed() -> None:
    """So that a failure can be had again; two minutes hold every kind of damage."""
    with_fleet = {f"{region}-{n}": region for region in ("a", "b") for n in (1, 2)}
    from tests.chaos.blows import Victims

    victims = Victims(with_fleet, ["x", "y"], ["c"])
    plans = [plan_blows(seed, 600.0, victims) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert {one.kind for one in plans[0]} == set(WEIGHTS)


def test_a_killed_and_a_frozen_node_lose_nothing() -> None:
    """One node dies, another is frozen past its lease and comes back as a zombie."""
    blows = [
        Blow(0.0, BlowKind.KILL_NODE, "us-1", 6.0),
        Blow(0.5, BlowKind.KILL_AGENT, "eu-counter-0", 0.0),
        Blow(1.0, BlowKind.FREEZE_NODE, "ap-2", 12.0),
    ]
    with chaotic_fleet(agents_per_node=1, controllers=1) as chaotic:
        live_through(chaotic, blows)


@pytest.mark.long
def test_two_minutes_of_chaos_lose_nothing() -> None:
    """Nodes, agents and controllers, at random; `CHAOS_SEED` and `CHAOS_SECONDS` change it."""
    with chaotic_fleet() as chaotic:
        live_through(chaotic, plan_blows(SEED, DURATION_S, chaotic.victims()))
