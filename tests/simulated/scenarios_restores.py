"""Scenarios of states that are lost, of backups that fail, and of runs that are taken up again.

An agent whose state cannot be had yet stays where it was placed and is asked for again with each
attempt of the move (every 120 s in production); the third that fails parks it with the reason.
"""

from __future__ import annotations

from fleet.failover.profiles import EMBEDDED
from tests.simulated.failover_drive import FleetShape
from tests.simulated.scenario import AUTO, Scenario
from tests.simulated.scenarios_fleet import GONE_EU
from tests.simulated.scenarios_nodes import VANISH

_COPIES = (0, "backup ap eu us")
_LOST = (5, "lose-state eu-1-a1")

_RESTORES = (
    Scenario(
        "restore_from_the_second_backup",
        "The control store has lost an agent's state, and the first backup does not answer: it "
        "comes back from the second, before its agent starts.",
        (_COPIES, _LOST, (5, "vault away ap"), (10, VANISH)),
        120,
        not_before={"restored:eu-1-a1": 10, "left:eu-1-a1": 10},
        at_latest={"restored:eu-1-a1": 20, "left:eu-1-a1": 20, "end_incident:eu-1": 35},
        never=("parked:",),
    ),
    Scenario(
        "restore_fails_once",
        "No backup answers at first: the agent waits where it was placed while its neighbour is "
        "moved, and comes back with the next attempt.",
        (_COPIES, _LOST, (5, "vault away ap eu us"), (10, VANISH), (60, "vault back us")),
        240,
        not_before={"restored:eu-1-a1": 130, "left:eu-1-a1": 130},
        at_latest={"left:eu-1-a2": 20, "left:eu-1-a1": 145, "end_incident:eu-1": 160},
        never=("parked:",),
    ),
    Scenario(
        "restore_fails_always",
        "The control store has lost an agent's state, and no backup ever answers: after the third "
        "attempt the agent is parked and says why; its neighbour has long been moved.",
        (_COPIES, _LOST, (5, "vault away ap eu us"), (10, VANISH)),
        400,
        not_before={"parked:eu-1-a1": 250},
        at_latest={"left:eu-1-a2": 20, "parked:eu-1-a1": 270, "end_incident:eu-1": 285},
        never=("left:eu-1-a1", "restored:"),
    ),
    Scenario(
        "restore_fails_and_the_node_returns",
        "No backup answers, and then the node itself comes back: the agent that waited runs there "
        "again, never twice; what it stores next is its state.",
        (
            _COPIES,
            _LOST,
            (5, "vault away ap eu us"),
            (10, VANISH),
            (60, "boot eu-1"),
        ),
        400,
        at_latest={"left:eu-1-a2": 20, "probation:eu-1": 75, "end_incident:eu-1": 80},
        never=("parked:", "left:eu-1-a1"),
    ),
    Scenario(
        "state_damaged_for_good",
        "A state is damaged in the control store and nothing was ever backed up: there is nothing "
        "to wait for, so its agent is parked at once.",
        ((5, "damage-state eu-1-a1"), (10, VANISH)),
        120,
        not_before={"parked:eu-1-a1": 10},
        at_latest={"left:eu-1-a2": 20, "parked:eu-1-a1": 20, "end_incident:eu-1": 35},
        never=("left:eu-1-a1",),
    ),
    Scenario(
        "region_lost_with_its_vault",
        "A region is lost with its vault and with states of its agents; another vault does not "
        "answer, the third has them.",
        (
            _COPIES,
            (5, "lose-state eu-1-a1 eu-3-a2"),
            (5, "vault away ap"),
            (10, GONE_EU),
        ),
        300,
        policy=AUTO,
        not_before={"restored:eu-1-a1": 130, "left:eu-1-a1": 130},
        at_latest={"restored:eu-3-a2": 145, "left:eu-3-a2": 145, "end_incident:eu": 165},
        never=("parked:",),
    ),
    Scenario(
        "run_dies_in_restore",
        "The run is killed just after a state came back, before the placements are switched: the "
        "next try finds the state whole.",
        (_COPIES, _LOST, (5, "crash-run 8 after"), (10, VANISH)),
        200,
        not_before={"left:eu-1-a1": 20},
        at_latest={"restore:done:eu-1": 35, "left:eu-1-a1": 45, "end_incident:eu-1": 60},
        never=("parked:",),
    ),
)

_TAKEN_UP_AGAIN = (
    Scenario(
        "incident_cannot_be_opened",
        "The controller can read the store but not write it when a node vanishes: the incident is "
        "opened as soon as that can be done, and nobody is moved before the move is written down.",
        ((10, VANISH), (12, "away c1/writes"), (28, "back c1/writes")),
        240,
        not_before={"left:eu-1": 130},
        at_latest={"left:eu-1": 140, "end_incident:eu-1": 155},
        never=("parked:",),
    ),
    Scenario(
        "run_taken_up_after_a_return",
        "The run dies with its plan written down; the node comes back before it is taken up "
        "again: nobody is moved off a node that acts.",
        ((5, "crash-run 10 before"), (10, VANISH), (18, "boot eu-1")),
        300,
        at_latest={"probation:eu-1": 25, "end_incident:eu-1": 30},
        never=("left:", "parked:"),
    ),
    Scenario(
        "run_taken_up_after_a_thaw",
        "The same with a node that was only frozen, until just before the run is taken up again.",
        ((5, "crash-run 10 before"), (10, "fault for 14 pause node/eu-1")),
        120,
        policy=EMBEDDED,
        at_latest={"move_node:eu-1": 24, "end_incident:eu-1": 32},
        never=("left:", "parked:"),
    ),
    Scenario(
        "forced_run_dies_for_good",
        "A person orders a healthy node away; the run dies before it has stopped anything, and "
        "nobody starts it again: the controller asks for it a second time.",
        ((5, "crash-run 1 before"), (5, "lone-runs"), (10, "force node/eu-1")),
        300,
        not_before={"left:eu-1": 130},
        at_latest={"fence_node:eu-1": 20, "left:eu-1": 145, "end_incident:eu-1": 160},
        never=("parked:",),
    ),
    Scenario(
        "forced_run_dies_after_the_stop",
        "The same, but its agents had been stopped already: they are moved with the second run.",
        ((5, "crash-run 5 before"), (5, "lone-runs"), (10, "force node/eu-1")),
        300,
        not_before={"left:eu-1": 130},
        at_latest={"left:eu-1": 145, "end_incident:eu-1": 160},
        never=("parked:",),
    ),
    Scenario(
        "forced_run_taken_up_after_its_end",
        "The run of an order by force dies right after the move; the node is back in service and "
        "takes in a neighbour's agents before the run is taken up again: these are left alone.",
        ((5, "crash-run 10 after"), (10, "force node/eu-1"), (18, "force node/eu-2")),
        60,
        policy=EMBEDDED,
        shape=FleetShape(nodes=2),
        at_latest={"end_incident:eu-1": 14, "healthy:eu-1": 18, "left:eu-2": 20, "into:eu-1": 20},
        never=("parked:",),
    ),
)

SCENARIOS = (*_RESTORES, *_TAKEN_UP_AGAIN)
