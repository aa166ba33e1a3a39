"""Scenarios in each of which one rule is what stands before a broken promise.

With every rule in force they are as harmless as all others; `test_failover_search` plays them with
that rule switched off, and expects the broken promise to be named.
"""

from __future__ import annotations

from dataclasses import replace

from fleet.failover.profiles import EMBEDDED, PRODUCTION
from tests.simulated.failover_drive import FleetShape
from tests.simulated.scenario import AUTO, Scenario
from tests.simulated.scenarios_fleet import BACK, GONE_EU, TWELVE
from tests.simulated.scenarios_nodes import NOTHING_MOVES, VANISH

_ELEVEN = tuple(
    f"{region}-{n}"
    for region in ("ap", "eu", "us")
    for n in (1, 2, 3, 4)
    if (region, n) != ("us", 4)
)
_ONE_LINE = FleetShape(regions=("ap", "eu"), sizes={"ap": 5, "eu": 2}, zones=1)
_ONE_OUTSIDE = FleetShape(regions=("ap", "eu"), sizes={"ap": 1, "eu": 5})
_PAIR = FleetShape(nodes=2)

_DOUBTS = (
    Scenario(
        "store_goes_before_a_move",
        "Two nodes vanish, and the store goes away when the second one's turn has come: what is "
        "due meanwhile is done when it is back.",
        (
            (10, "fault crash node/ap-1"),
            (10, "fault crash node/eu-1"),
            (22, "away *"),
            (60, "back *"),
        ),
        200,
        not_before={"left:eu-1": 60},
        at_latest={"left:ap-1": 20, "frozen:c1": 30, "active:c1": 85, "left:eu-1": 95},
    ),
    Scenario(
        "minority_of_observers",
        "Half of all observers are silent when the infrastructure says that a node is gone: who "
        "sees so little moves nobody, until they are back.",
        (
            *((10, f"fault for 200 pause node/{one}") for one in ("ap-1", "ap-2", "us-1", "us-2")),
            (10, "fault for 200 pause node/eu-3"),
            (100, VANISH),
        ),
        500,
        not_before={"left:eu-1": 210},
        at_latest={"frozen:c1": 60, "active:c1": 240, "left:eu-1": 260},
        never=("left:ap", "left:us", "left:eu-3"),
    ),
    Scenario(
        "eleven_of_twelve_terminated",
        "The infrastructure calls eleven of twelve nodes terminated: whoever says so is rather "
        "wrong, or a person is needed.",
        tuple((10, f"fault for 400 crash node/{one}") for one in _ELEVEN),
        700,
        policy=AUTO,
        shape=TWELVE,
        at_latest={"frozen:c1": 20, "active:c1": 440},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "standby_sees_the_same",
        "Two controllers see a node die, and the first run dies, too; only the controller that "
        "leads does anything about it.",
        ((0, "controller c2 join"), (5, "crash-run 1 before"), (60, VANISH)),
        200,
        not_before={"left:eu-1": 60},
        at_latest={"left:eu-1": 80, "end_incident:eu-1": 95},
        never=("active:c2", "frozen:c1"),
    ),
)

_VERDICTS = (
    Scenario(
        "short_lease",
        "Leases last ten seconds; a node freezes for 50 s: it has long stopped its agents when it "
        "becomes suspect, and is back before its death may be confirmed.",
        ((10, "fault for 50 pause node/eu-1"),),
        300,
        policy=replace(PRODUCTION, lease_ttl_s=10.0),
        not_before={"suspect:eu-1": 40, "healthy:eu-1": 60},
        at_latest={"suspect:eu-1": 50, "healthy:eu-1": 75},
        never=("confirmed:", *NOTHING_MOVES),
    ),
    Scenario(
        "supervisor_hangs",
        "A supervisor hangs: no heartbeat, no lease, no answer to anybody; but its agents go on "
        "storing work. They are not moved, a person is told.",
        ((10, "work eu-1"), (10, "hang eu-1"), (10, "isolate eu-1"), (300, "unhang eu-1")),
        400,
        at_latest={"alert:contrary_evidence:eu-1": 50},
        never=("confirmed:", *NOTHING_MOVES),
    ),
    Scenario(
        "accused_from_one_zone",
        "A line between two zones is broken while a node behind it loses the store: all who call "
        "it dead stand in one failure domain, and that is no verdict.",
        (
            *((10, f"link cut ap-{n} eu-{m}") for n in range(1, 6) for m in (1, 2)),
            (10, "fault for 250 partition node/eu-1 peer=store"),
        ),
        400,
        shape=_ONE_LINE,
        at_latest={"suspect:eu-1": 50, "alert:undecided:eu-1": 150, "healthy:eu-1": 280},
        never=("confirmed:", *NOTHING_MOVES),
    ),
    Scenario(
        "accused_by_its_own_region",
        "A region's own network fails while one of its nodes loses the store: its neighbours call "
        "it dead, from outside it is reached; neighbours alone condemn nobody.",
        (
            *((10, f"link cut eu-{n} {one}") for n in range(2, 6) for one in ("eu-1", "ap-1")),
            (10, "fault for 250 partition node/eu-1 peer=store"),
        ),
        400,
        shape=_ONE_OUTSIDE,
        at_latest={"suspect:eu-1": 50, "alert:undecided:eu-1": 150, "healthy:eu-1": 280},
        never=("confirmed:", *NOTHING_MOVES),
    ),
    Scenario(
        "only_the_infrastructure_knows",
        "So few observers are configured that votes confirm nothing; the infrastructure's "
        "word is enough.",
        ((10, VANISH),),
        300,
        policy=replace(PRODUCTION, observers_min=9),
        not_before={"left:eu-1": 10},
        at_latest={"left:eu-1": 20, "end_incident:eu-1": 35},
    ),
    Scenario(
        "terminated_but_alive",
        "The infrastructure calls a node terminated that lives on: the run that is asked for at "
        "once finds it alive, and from its next heartbeat on it is an alert.",
        ((10, "infrastructure buries eu-1"), (200, "infrastructure unburies eu-1")),
        400,
        not_before={"probation:eu-1": 200},
        at_latest={"alert:contrary_evidence:eu-1": 40, "probation:eu-1": 215},
        never=("left:", "parked:"),
    ),
    Scenario(
        "gray_no_more",
        "A node freezes while the controller does not reach the store; what it stored last is new "
        "to the controller, so it seems to beat while nobody can use it. When the controller leads "
        "again that is over: it is silent, and silence alone takes nobody out of discovery.",
        (
            (10, "away c1"),
            (11, "fault for 8 pause node/eu-1"),
            (13, "back c1"),
        ),
        60,
        policy=EMBEDDED,
        not_before={"gray:eu-1": 16},
        at_latest={"gray:eu-1": 18, "active:c1": 19, "healthy:eu-1": 25},
        never=("alert:gray:", "unregister_node:", *NOTHING_MOVES),
    ),
)

_RETURNS = (
    Scenario(
        "moves_cannot_be_read",
        "A leader dies, and its successor cannot read what was moved before: it is frozen until "
        "it can, because nobody knows what is left of the budget.",
        (
            (0, "controller c2 join"),
            (5, "away moves"),
            (10, "controller c1 crash"),
            (60, VANISH),
            (200, "back moves"),
        ),
        400,
        not_before={"active:c2": 200, "left:eu-1": 200},
        at_latest={
            "alert:earlier_moves:controller": 60,
            "active:c2": 230,
            "left:eu-1": 240,
            "end_incident:eu-1": 260,
        },
    ),
    Scenario(
        "copies_that_cannot_be_stopped",
        "A node comes back after its agents were moved, with copies that nobody can end: however "
        "long its probation has lasted, it gets no agents before they are gone.",
        (
            (9, "stick eu-1"),
            (10, "fault for 200 pause node/eu-1"),
            (500, "unstick eu-1"),
        ),
        600,
        not_before={"alert:stale_epochs:eu-1": 330, "healthy:eu-1": 500},
        at_latest={"left:eu-1": 85, "alert:stale_epochs:eu-1": 345, "healthy:eu-1": 515},
        never=("into:eu-1",),
    ),
    Scenario(
        "moved_twice",
        "A node vanishes, comes back, gets agents, and vanishes again two minutes later: between "
        "two moves of one node lie five minutes.",
        (
            (10, VANISH),
            (40, "boot eu-1"),
            (80, "force node/eu-2"),
            (140, VANISH),
        ),
        500,
        policy=replace(PRODUCTION, probation_s=10.0, blast_fraction=1.0),
        shape=_PAIR,
        not_before={"not:cool_down:eu-1": 140},
        at_latest={"into:eu-1": 100, "not:cool_down:eu-1": 150},
    ),
    Scenario(
        "probation_doubles",
        "A node vanishes and comes back twice within the hour, the second time while it has no "
        "agents: its second probation is twice as long.",
        (
            (10, VANISH),
            (40, "boot eu-1"),
            (400, VANISH),
            (430, "boot eu-1"),
        ),
        800,
        not_before={"healthy:eu-1": 180},
        at_latest={"probation:eu-1": 75, "healthy:eu-1": 200},
    ),
)

_HOME = (
    Scenario(
        "rehearsed_is_not_approved",
        "An evacuated region is back, calm, and the way home was rehearsed: in the manual mode "
        "nobody goes before a person says so.",
        (
            (10, GONE_EU),
            (300, "boot eu-1 eu-2 eu-3"),
            (800, "go-home eu rehearsed"),
            (1000, "go-home eu"),
        ),
        1300,
        policy=replace(AUTO, fail_back_calm_s=300.0),
        not_before={"fail_back:eu": 1000, "into:eu-1": 1000},
        at_latest={"not:fail_back_mode:eu": 810, "fail_back:eu": 1010, "into:eu-1": 1020},
    ),
    Scenario(
        "fail_back_out_of_hours",
        "Everything is ready for the way home, but it is not the hour for it: at ten the window "
        "opens.",
        (
            (10, GONE_EU),
            (300, "boot eu-1 eu-2 eu-3"),
            (800, "go-home eu rehearsed"),
        ),
        3900,
        policy=replace(BACK, fail_back_hours_utc=(10, 12)),
        not_before={"fail_back:eu": 3500, "into:eu-1": 3500},
        at_latest={"not:fail_back_window:eu": 810, "fail_back:eu": 3605, "into:eu-1": 3620},
    ),
)

SCENARIOS = (*_DOUBTS, *_VERDICTS, *_RETURNS, *_HOME)
