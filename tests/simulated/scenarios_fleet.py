"""Scenarios of regions, of the controller's own trouble, of runs that die, and of the way home."""

from __future__ import annotations

from dataclasses import replace

from fleet.failover.policy import FailBackMode, RegionMode
from fleet.failover.profiles import PRODUCTION
from tests.simulated.failover_drive import FleetShape
from tests.simulated.scenario import AUTO, Scenario
from tests.simulated.scenarios_nodes import KILL, NOTHING_MOVES, VANISH

DEAD_EU = "fault crash region/eu silent=yes"
GONE_EU = "fault crash region/eu"
BACK = replace(AUTO, fail_back_mode=FailBackMode.AUTO, fail_back_calm_s=300.0)
FOUR = FleetShape(regions=("ap", "eu", "sa", "us"), nodes=3)
TWELVE = FleetShape(nodes=4)
BIG = FleetShape(regions=("ap", "eu", "sa", "us"), nodes=4)

_REGIONS = (
    Scenario(
        "region_auto",
        "A whole region falls silent, and the policy lets it go by itself.",
        ((10, DEAD_EU),),
        400,
        policy=AUTO,
        not_before={"full:eu": 35, "left:eu-1": 155},
        at_latest={"full:eu": 45, "left:eu-1": 175, "left:eu-3": 175, "end_incident:eu": 200},
        never=("move_node:", "into:eu"),
    ),
    Scenario(
        "region_terminated",
        "The infrastructure says that a whole region is gone.",
        ((10, GONE_EU),),
        300,
        policy=AUTO,
        not_before={"left:eu-1": 130},
        at_latest={"full:eu": 20, "left:eu-1": 145, "end_incident:eu": 165},
        never=("move_node:",),
    ),
    Scenario(
        "region_by_approval",
        "A whole region falls silent; a person lets it go after five minutes.",
        ((10, DEAD_EU), (310, "approve region/eu")),
        500,
        not_before={"left:eu-1": 310},
        at_latest={"not:region_mode:eu": 175, "left:eu-1": 320, "end_incident:eu": 345},
        never=("move_node:",),
    ),
    Scenario(
        "region_off",
        "A whole region falls silent; the policy never lets one go.",
        ((10, DEAD_EU),),
        600,
        policy=replace(PRODUCTION, region_mode=RegionMode.OFF),
        at_latest={"alert:region_suspect:eu": 50, "not:region_mode:eu": 175},
        never=NOTHING_MOVES,
        stays_open=("region-eu",),
        strands=6,
    ),
    Scenario(
        "half_a_region",
        "Two of four nodes of a region die: each is moved for itself, within its region.",
        ((10, "fault crash node/eu-1 silent=yes"), (10, "fault crash node/eu-2 silent=yes")),
        300,
        shape=TWELVE,
        not_before={"left:eu-1": 70, "left:eu-2": 70},
        at_latest={"left:eu-1": 85, "left:eu-2": 95},
        never=("into:ap", "into:us"),
    ),
    Scenario(
        "three_quarters_of_a_region",
        "Three of four nodes die at once: the cause may be shared, so a person decides each move.",
        tuple((10, f"fault crash node/eu-{n} silent=yes") for n in (1, 2, 3)),
        300,
        shape=TWELVE,
        at_latest={"partial:eu": 45, "not:region_partial:eu-1": 85},
        never=NOTHING_MOVES,
        stays_open=("node-eu",),
        strands=6,
    ),
    Scenario(
        "region_dies_slowly",
        "A region's nodes vanish one by one, a minute apart: the first are moved within it, then "
        "a person is asked, then it is judged as a whole.",
        tuple((10 + 60 * n, f"fault crash node/eu-{n + 1}") for n in range(4)),
        600,
        policy=AUTO,
        shape=BIG,
        not_before={"full:eu": 190, "evacuate_region:eu": 310},
        at_latest={"left:eu-1": 20, "left:eu-2": 80, "full:eu": 200, "evacuate_region:eu": 330},
    ),
    Scenario(
        "partition_heals_early",
        "A region is cut off from everything for 100 s: suspect, then back; nothing was moved.",
        ((10, "fault for 100 partition region/eu peer=all"),),
        400,
        policy=AUTO,
        at_latest={"full:eu": 50, "normal:eu": 130},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "partition_heals_late",
        "A region is cut off for ten minutes: its agents stop themselves, run elsewhere, and its "
        "old copies are gone when it is back.",
        ((10, "fault for 600 partition region/eu peer=all"),),
        900,
        policy=AUTO,
        not_before={"left:eu-1": 155, "probation:eu-1": 610},
        at_latest={"left:eu-1": 185, "end_incident:eu": 210, "probation:eu-1": 625},
        never=("into:eu",),
    ),
    Scenario(
        "second_region",
        "A second region is lost after the first was evacuated: only a person lets it go.",
        ((10, "fault crash region/eu"), (300, "fault crash region/us")),
        600,
        policy=AUTO,
        shape=FOUR,
        at_latest={"left:eu-1": 145, "not:second_region:us": 445},
        never=("left:us",),
        stays_open=("region-us",),
        strands=6,
    ),
    Scenario(
        "second_region_approved",
        "The same; a person lets it go.",
        (
            (10, "fault crash region/eu"),
            (300, "fault crash region/us"),
            (500, "approve region/us"),
        ),
        700,
        policy=AUTO,
        shape=FOUR,
        not_before={"left:us-1": 500},
        at_latest={"left:us-1": 510, "end_incident:us": 530},
    ),
    Scenario(
        "second_region_without_observers",
        "Two of three regions fall silent: with them the majority of observers. Frozen.",
        ((10, DEAD_EU), (10, "fault crash region/us silent=yes")),
        600,
        policy=AUTO,
        at_latest={"frozen:c1": 60},
        never=NOTHING_MOVES,
        stays_open=("controller", "region"),
        strands=12,
    ),
    Scenario(
        "blackout_with_one_region_left",
        "Three of four regions vanish, and the infrastructure says so: what is left of the "
        "observers is no majority. A person decides.",
        tuple((10, f"fault crash region/{one}") for one in ("eu", "sa", "us")),
        400,
        policy=AUTO,
        shape=FOUR,
        at_latest={"frozen:c1": 60},
        never=NOTHING_MOVES,
        stays_open=("controller", "region"),
        strands=18,
    ),
    Scenario(
        "everything_silent",
        "All nodes fall silent at once: that is rather us. Nothing is moved.",
        tuple((10, f"fault for 300 partition region/{one} peer=all") for one in ("ap", "eu", "us")),
        600,
        policy=AUTO,
        at_latest={"frozen:c1": 50, "active:c1": 330},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "eleven_of_twelve",
        "Eleven of twelve nodes fall silent: 90 % is as good as all.",
        tuple(
            (10, f"fault for 300 partition node/{r}-{n} peer=all")
            for r in ("ap", "eu", "us")
            for n in (1, 2, 3, 4)
            if (r, n) != ("us", 4)
        ),
        600,
        policy=AUTO,
        shape=TWELVE,
        at_latest={"frozen:c1": 50, "active:c1": 330},
        never=NOTHING_MOVES,
    ),
)

_CONTROLLER = (
    Scenario(
        "dead_ingest",
        "No heartbeat arrives any more while all leases are renewed: the channel is at fault.",
        (
            (10, "deaf ap-1 ap-2 ap-3 eu-1 eu-2 eu-3 us-1 us-2 us-3"),
            (200, "hear ap-1 ap-2 ap-3 eu-1 eu-2 eu-3 us-1 us-2 us-3"),
        ),
        400,
        at_latest={"frozen:c1": 50, "active:c1": 215},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "controller_cut_from_nodes",
        "The controller's own probes reach nobody; the observers' reports arrive all the same.",
        ((10, "link cut controller *"), (20, KILL)),
        300,
        not_before={"left:eu-1": 80},
        at_latest={"left:eu-1": 95},
        never=("left:ap", "left:us", "frozen:"),
    ),
    Scenario(
        "controller_cut_from_the_store",
        "The controller alone loses the store for two minutes while a node dies: frozen, then "
        "everything is waited for anew.",
        ((10, KILL), (30, "away c1"), (150, "back c1")),
        400,
        not_before={"left:eu-1": 210},
        at_latest={"frozen:c1": 40, "active:c1": 185, "left:eu-1": 275},
    ),
    Scenario(
        "controller_cut_from_everything",
        "The controller's site is cut off; a standby elsewhere takes over and moves the dead node.",
        (
            (0, "controller c2 join"),
            (60, "away c1"),
            (60, "link cut controller *"),
            (70, KILL),
        ),
        400,
        not_before={"left:eu-1": 130},
        at_latest={"frozen:c1": 70, "active:c2": 95, "left:eu-1": 150},
    ),
    Scenario(
        "own_pause",
        "The controller sleeps for ten minutes; a node died shortly before. All ages restart.",
        ((10, KILL), (50, "controller c1 sleep 600")),
        900,
        not_before={"left:eu-1": 710},
        at_latest={"frozen:c1": 665, "left:eu-1": 790},
    ),
    Scenario(
        "controller_restarts",
        "The controller's process dies when it was about to move a node; the next one waits "
        "in full.",
        ((10, KILL), (60, "controller c1 crash"), (90, "controller c1 start")),
        400,
        not_before={"left:eu-1": 150},
        at_latest={"left:eu-1": 200, "end_incident:eu-1": 220},
    ),
    Scenario(
        "takeover",
        "The leader dies in the middle of an incident; the standby goes on with its own ages.",
        ((0, "controller c2 join"), (60, KILL), (100, "controller c1 crash")),
        400,
        not_before={"active:c2": 100, "left:eu-1": 120},
        at_latest={"active:c2": 130, "left:eu-1": 145, "end_incident:eu-1": 165},
    ),
    Scenario(
        "blast_radius_of_two_leaders",
        "A leader moves two nodes' agents and dies; its successor holds back the third until the "
        "first has left the window.",
        (
            (0, "controller c2 join"),
            (10, VANISH),
            (40, "fault crash node/ap-1"),
            (60, "controller c1 crash"),
            (100, "fault crash node/us-1"),
        ),
        800,
        not_before={"left:us-1": 610},
        at_latest={
            "left:eu-1": 20,
            "left:ap-1": 50,
            "active:c2": 85,
            "not:blast_radius:us-1": 110,
            "left:us-1": 630,
            "end_incident:us-1": 650,
        },
        never=("frozen:c1", "parked:"),
    ),
    Scenario(
        "blast_radius_of_what_was_never_ordered",
        "A move is admitted, but cannot be written down and so is not ordered; then a person gives "
        "up two nodes. Asked for again it waits until the first of these has left the window.",
        (
            (8, "away c1/writes"),
            (10, VANISH),
            (20, "back c1/writes"),
            (25, "force node/ap-1"),
            (30, "force node/ap-2"),
        ),
        800,
        not_before={"left:eu-1": 625},
        at_latest={
            "left:ap-1": 45,
            "left:ap-2": 50,
            "not:blast_radius:eu-1": 145,
            "left:eu-1": 645,
            "end_incident:eu-1": 665,
        },
        never=("frozen:c1", "parked:"),
    ),
    Scenario(
        "sleeping_leader",
        "The leader sleeps with an order in its head; its successor acts, the sleeper wakes up.",
        ((0, "controller c2 join"), (60, KILL), (100, "controller c1 sleep 200")),
        600,
        not_before={"left:eu-1": 120},
        at_latest={"left:eu-1": 145, "end_incident:eu-1": 165},
    ),
    Scenario(
        "store_down",
        "The store is away for everybody for two minutes: nothing is decided, agents stop "
        "themselves, and nobody is declared dead for it afterwards.",
        ((10, "away *"), (130, "back *")),
        500,
        at_latest={"frozen:c1": 20, "active:c1": 165},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "observers_down",
        "Most observers do not report any more: no majority, frozen.",
        (
            *tuple(
                (10, f"fault for 200 pause node/{one}") for one in ("ap-1", "ap-2", "ap-3", "us-1")
            ),
            (10, "fault for 200 pause node/us-2"),
        ),
        500,
        at_latest={"frozen:c1": 50, "active:c1": 250},
        never=NOTHING_MOVES,
    ),
    Scenario(
        "observers_blind",
        "The probe network fails: everybody calls everybody dead, and all of them beat.",
        ((10, "blind all"), (200, "blind none")),
        400,
        at_latest={"frozen:c1": 70, "active:c1": 240},
        never=(*NOTHING_MOVES, "unregister_node:"),
    ),
    Scenario(
        "freeze_within_an_incident",
        "The store goes away when a death is confirmed and not yet fenced: the verdict is taken "
        "back and made again.",
        ((10, KILL), (60, "away *"), (90, "back *")),
        500,
        not_before={"left:eu-1": 150},
        at_latest={"left:eu-1": 220},
    ),
)

_RUNS = (
    *(
        Scenario(
            f"run_dies_{name}",
            f"The run is killed {when}, and started again after ten seconds: nothing is done "
            "twice, nothing is left out.",
            ((5, f"crash-run {call} {side}"), (10, VANISH)),
            200,
            at_latest={"left:eu-1": 45, "end_incident:eu-1": 60},
        )
        for name, when, call, side in (
            ("in_recheck", "before it has looked again", 1, "before"),
            ("in_fence", "after the lease was ended", 4, "after"),
            ("in_plan", "after the plan was written down", 6, "after"),
            ("before_move", "before the placements are switched", 10, "before"),
            ("after_move", "after the placements were switched", 10, "after"),
            ("in_ready", "while it waits for the agents", 14, "before"),
        )
    ),
    Scenario(
        "run_dies_for_good",
        "The run is killed before the placements are switched, and nobody starts it again: the "
        "controller asks for the move a second time.",
        ((5, "crash-run 10 before"), (5, "crash-run 1 before"), (5, "lone-runs"), (10, VANISH)),
        500,
        not_before={"left:eu-1": 130},
        at_latest={"left:eu-1": 275, "end_incident:eu-1": 290},
    ),
    Scenario(
        "store_goes_within_a_run",
        "The run alone loses the store: it is tried again until it is back.",
        ((5, "away ops"), (10, VANISH), (60, "back ops")),
        300,
        not_before={"left:eu-1": 60},
        at_latest={"left:eu-1": 80, "end_incident:eu-1": 100},
    ),
    Scenario(
        "target_dies_meanwhile",
        "A node that takes agents in dies while they are on their way.",
        ((10, VANISH), (16, "fault crash node/eu-2"), (16, "fault crash node/eu-3")),
        400,
        shape=FleetShape(nodes=7),
        at_latest={"left:eu-1": 20, "left:eu-2": 60, "left:eu-3": 60},
    ),
)

_HOME = (
    Scenario(
        "fail_back_manual",
        "An evacuated region is back: its agents stay where they are until a person lets them go.",
        (
            (10, GONE_EU),
            (300, "fault crash agent/ap-1-a1"),
            (300, "boot eu-1 eu-2 eu-3"),
            (3000, "go-home eu"),
        ),
        3400,
        policy=AUTO,
        not_before={"fail_back:eu": 3000, "into:eu-1": 3000},
        at_latest={"left:eu-1": 145, "fail_back:eu": 3010, "into:eu-1": 3020},
    ),
    Scenario(
        "fail_back_auto",
        "The policy lets a region's agents go home after a calm and a rehearsal, step by step.",
        ((10, GONE_EU), (300, "boot eu-1 eu-2 eu-3"), (800, "go-home eu rehearsed")),
        1200,
        policy=replace(BACK, fail_back_step_agents=2),
        not_before={"rehearse_fail_back:eu": 720, "fail_back:eu": 800, "into:eu-1": 800},
        at_latest={"rehearse_fail_back:eu": 750, "fail_back:eu": 810, "into:eu-1": 815},
    ),
    Scenario(
        "fail_back_relapse",
        "A node of the region dies on the way home: the rest stays away.",
        (
            (10, GONE_EU),
            (300, "boot eu-1 eu-2 eu-3"),
            (500, "go-home eu rehearsed"),
            (790, "fault crash node/eu-2"),
        ),
        1000,
        policy=replace(BACK, fail_back_step_agents=2),
        not_before={"abort_fail_back:eu": 790},
        at_latest={"fail_back:eu": 760, "abort_fail_back:eu": 800},
    ),
)

SCENARIOS = (*_REGIONS, *_CONTROLLER, *_RUNS, *_HOME)
