"""Random histories: whatever happens to nodes, observers, store and controllers, promises hold.

Evidence is drawn here without a world behind it, so that also impossible combinations are met. Each
history ends with everything repaired: then every incident must end, and nothing may be remembered.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from fleet.failover.columns import Infrastructure
from fleet.failover.policy import FailBackMode, FailoverPolicy, RegionMode
from fleet.failover.profiles import EMBEDDED, PRODUCTION
from fleet.failover.records import AgentCrashes, Directives
from tests.fleet.failover.watched_fleet import LEADING, WatchedFleet, WatchedNode

POLICIES = (
    PRODUCTION,
    replace(PRODUCTION, region_mode=RegionMode.AUTO, fail_back_mode=FailBackMode.AUTO),
    EMBEDDED,
)


def _strike_node(random: Random, fleet: WatchedFleet, node: WatchedNode) -> None:
    """Change one thing of one node."""
    observers = fleet.observers
    dead = random.randint(0, observers)
    strikes = [
        node.die,
        node.live,
        node.live,
        lambda: node.terminate(fleet.now_s),
        lambda: setattr(node, "beats", random.random() < 0.5),
        lambda: setattr(node, "renews", random.random() < 0.5),
        lambda: setattr(node, "works", random.random() < 0.5),
        lambda: setattr(node, "maintenance", random.random() < 0.3),
        lambda: setattr(node, "stop_acknowledged", random.random() < 0.3),
        lambda: setattr(node, "infrastructure", random.choice(list(Infrastructure)[:4])),
        lambda: setattr(node, "agents", node.stateless + random.randint(0, 20)),
        lambda: setattr(node, "stateless", random.randint(0, node.agents)),
        lambda: setattr(node, "lease_ttl_s", random.choice((0.0, 20.0, 300.0))),
        lambda: node.vote_dead(
            dead, random.randint(0, observers - dead), random.randint(0, 3), random.randint(0, dead)
        ),
    ]
    random.choice(strikes)()


def _strike_controller(random: Random, fleet: WatchedFleet) -> None:
    """Change one thing of the controller or of what people ordered."""
    node_id = random.choice(sorted(fleet.nodes))
    keys = frozenset(
        missed.action.key for missed in fleet.history[-1][1].non_actions if random.random() < 0.5
    )
    strikes = [
        lambda: setattr(fleet, "store_reachable", random.random() < 0.7),
        lambda: setattr(fleet, "observers_reporting", random.randint(3, 9)),
        lambda: setattr(fleet, "leader", LEADING._replace(held=random.random() < 0.6)),
        lambda: setattr(fleet, "leader", LEADING),
        lambda: setattr(fleet, "obeys", random.random() < 0.7),
        lambda: setattr(fleet, "directives", Directives()),
        lambda: setattr(fleet, "directives", Directives(approved=keys)),
        lambda: setattr(fleet, "directives", Directives(paused="somebody")),
        lambda: setattr(fleet, "directives", Directives(forced=frozenset({f"node/{node_id}"}))),
        lambda: setattr(
            fleet, "directives", Directives(acknowledged=frozenset({f"node/{node_id}"}))
        ),
        lambda: setattr(
            fleet, "directives", Directives(rehearsed=frozenset(fleet.regions), approved=keys)
        ),
        lambda: setattr(fleet, "crashes", (AgentCrashes("a-1", node_id, 3, random.randint(0, 5)),)),
        lambda: setattr(fleet, "clock_id", f"boot-{random.random()}"),
        lambda: fleet.tick(fleet.policy.tick_interval_s * random.uniform(2, 8)),
    ]
    random.choice(strikes)()


def _repair(fleet: WatchedFleet) -> None:
    """Everything works again, and nobody has ordered anything."""
    for node in fleet.nodes.values():
        node.live()
        node.maintenance, node.works, node.stale = False, False, 0
    fleet.leader, fleet.store_reachable, fleet.observers_reporting = LEADING, True, 9
    fleet.obeys, fleet.directives, fleet.crashes = True, Directives(), ()
    fleet.pending.clear()


def _search(seed: int) -> None:
    random = Random(seed)
    policy: FailoverPolicy = random.choice(POLICIES)
    fleet = WatchedFleet(policy=policy, nodes_per_region=random.randint(1, 5))
    fleet.observers = random.randint(2, 5)
    for _ in range(150):
        for _ in range(random.choice((0, 0, 1, 3))):
            if random.random() < 0.8:
                node = fleet.nodes[random.choice(sorted(fleet.nodes))]
                struck = fleet.region(node.region) if random.random() < 0.15 else [node]
                for one in struck:
                    _strike_node(random, fleet, one)
            else:
                _strike_controller(random, fleet)
        fleet.tick(policy.tick_interval_s * random.uniform(0.1, 2.0))
    _repair(fleet)
    fleet.run(4 * policy.confirm_s + 3 * policy.tick_interval_s)
    assert fleet.checker.open_incidents() == {}
    assert fleet.incidents == {}


@pytest.mark.parametrize("seed", range(20))
def test_promises_hold_in_random_histories(seed: int) -> None:
    """150 ticks with strikes, checked after each; every incident ends after the repair."""
    _search(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_promises_hold_in_many_random_histories(first: int) -> None:
    """The same, 2,000 times."""
    for seed in range(first, first + 100):
        _search(seed)
