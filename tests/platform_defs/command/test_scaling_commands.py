"""`stateroom scale` and `stateroom scaling`: what is ordered, what is told."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.leases import RESCALING_LEASE
from fleet.ports.control_store import ControlStore
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.standing import LoggedDecision, Pending, ScalingStanding
from platform_defs.command import exit_codes
from tests.platform_defs.command.conftest import Run

DETAIL = json.dumps(
    {
        "proposals": [
            {"metric": "queue", "replicas": 5, "value": 45.0, "target": 10.0, "unit": "",
             "ratio": 2.25, "fault": None, "note": ""}
        ],
        "rules": [{"rule": "rate-up", "before": 5, "after": 4, "reason": "at most 4 in 15 s"}],
    }
)  # fmt: skip


@pytest.fixture
def decided(store: ControlStore) -> ControlStore:
    """A store in which a change of cpu in us-west-2 waits for a person."""
    now = datetime.now(UTC)
    term = store.acquire_lease(RESCALING_LEASE, "host/1/ab", 600.0).term
    pending = Pending(3, 4, now - timedelta(seconds=30), AutoscalerState(), "queue asks for 5")
    standing = ScalingStanding("cpu", "us-west-2", AutoscalerState(), 0, pending, now, term)
    decision = LoggedDecision(
        "cpu", "us-west-2", ScalingMode.APPROVE, now, now, 2, 3, 4, 1, 9, 2, 2.25, "rate-up",
        "scale-up", "3 to 4: queue asks for 5", DETAIL,
    )  # fmt: skip
    store.keep_scaling([standing], [decision], term=term)
    return store


def test_a_number_is_held_until_it_is_handed_back(run: Run, store: ControlStore) -> None:
    """In each region, or in one; journaled with person and reason."""
    done = run("scale", "cpu", "--replicas", "7", "--by", "ann", "--reason", "a launch")
    assert done.exit_code == exit_codes.OK, done.stderr
    assert "cpu is to have 7 agents in us-west-2, eu" in done.stdout
    assert [(one.region, one.replicas, one.until) for one in store.scaling_orders()] == [
        ("eu", 7, None),
        ("us-west-2", 7, None),
    ]
    (told,) = store.journal("scaling/cpu/eu")
    assert told.reason == "ann, 7 replicas: a launch"
    run("scale", "cpu", "--replicas", "2", "--region", "eu", "--for", "2 hours", "--by", "ann")
    (eu, _) = store.scaling_orders()
    assert eu.replicas == 2
    assert eu.until is not None
    assert eu.until - eu.ordered_at == timedelta(hours=2)
    back = run("scale", "cpu", "--auto", "--json")
    assert json.loads(back.stdout) == {"workload": "cpu", "lifted": 2, "damaged": []}
    assert store.scaling_orders() == []
    assert "nothing was changed" in run("scale", "cpu", "--auto").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cpu",), "give --replicas N or --auto"),
        (("cpu", "--replicas", "1", "--auto"), "give --replicas N or --auto"),
        (("cpu", "--auto", "--for", "1 day"), "--for belongs to --replicas"),
        (("cpu", "--replicas", "1", "--for", "100 days"), "at most 90 days"),
        (("cpu", "--replicas", "-1"), "-1"),
        (("cpus", "--replicas", "1"), "did you mean 'cpu'?"),
        (("cpu", "--replicas", "1", "--region", "us"), "no region 'us'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_orders_nothing(
    run: Run, store: ControlStore, words: tuple[str, ...], said: str
) -> None:
    """One clear error, exit code 2."""
    refused = run("scale", *words)
    assert refused.exit_code == exit_codes.USAGE
    assert said in refused.stderr
    assert store.scaling_orders() == []


def test_a_decision_is_explained_in_sentences_and_as_a_table(
    run: Run, decided: ControlStore
) -> None:
    """What was measured, what it asks for, which rule changed it, what waits."""
    (standing,) = decided.scaling_standings()
    assert isinstance(standing, ScalingStanding)
    assert standing.pending is not None
    text = run("scaling", "explain", "cpu").stdout
    for part in (
        "cpu in us-west-2, newest last:",
        "scale-up (approve, 2 looks): 3 to 4: queue asks for 5",
        "queue: measured 45, target 10, asks for 5",
        "rate-up: 5 to 4, at most 4 in 15 s",
        ": 3 to 4",
        "limited by",
    ):
        assert part in text
    document = json.loads(run("scaling", "explain", "cpu", "--json").stdout)
    assert document["pending"]["us-west-2"]["desired"] == 4
    assert document["decisions"][0]["limited_by"] == "rate-up"
    assert "nothing was ever decided" in run("scaling", "explain", "cpu", "--region", "eu").stdout


def test_a_person_allows_exactly_the_number_that_waits(run: Run, decided: ControlStore) -> None:
    """Where nothing waits there is nothing to allow."""
    done = run("scaling", "approve", "cpu", "--by", "ann")
    assert "cpu may have 4 agents in us-west-2 (ann)" in done.stdout
    (order,) = decided.scaling_orders()
    assert (order.kind, order.replicas, order.region) == ("approval", 4, "us-west-2")
    refused = run("scaling", "approve", "cpu", "--region", "eu")
    assert refused.exit_code == exit_codes.USAGE
    assert "no change of cpu waits" in refused.stderr


def test_the_status_lists_what_is_scaled_or_held(run: Run, decided: ControlStore) -> None:
    """Nothing of workloads that nobody scales; who leads stands above."""
    assert "no workload is scaled" in run("scaling", "status").stdout
    run("scale", "cpu", "--replicas", "7", "--region", "us-west-2", "--by", "ann")
    text = run("scaling", "status").stdout
    assert "host/1/ab leads, term 1" in text
    assert "ann holds 7" in text
    assert "by hand" in text
    document = json.loads(run("scaling", "status", "--json").stdout)
    (row,) = document["workloads"]
    assert (row["wanted"], row["hold"]["replicas"]) == (3, 7)
    assert row["decision"]["verdict"] == "scale-up"
    decided.lift_scaling([("cpu", "us-west-2")], "hold", "ann", "over")
    assert "no workload is scaled" in run("scaling", "status").stdout


HELP = "-> `stateroom scaling forget cpu --region us-west-2` lets it begin anew"


@pytest.fixture
def damaged(decided: ControlStore, fleet_dir: Path) -> ControlStore:
    """The same store; what waits in us-west-2 cannot be read, what waits in eu can."""
    term = decided.acquire_lease(RESCALING_LEASE, "host/1/ab", 600.0).term
    now = datetime.now(UTC)
    pending = Pending(1, 2, now, AutoscalerState(), "queue asks for 2")
    sound = ScalingStanding("cpu", "eu", AutoscalerState(), 0, pending, now, term)
    decided.keep_scaling([sound], [], term=term)
    (path,) = fleet_dir.rglob("control.db")
    with closing(sqlite3.connect(path)) as side, side:
        side.execute("UPDATE scaling_standings SET pending_json = '{' WHERE region = 'us-west-2'")
    return decided


def test_a_damaged_standing_is_told_by_every_command_with_what_helps(
    run: Run, damaged: ControlStore
) -> None:
    """The status finds something wrong; the others do for the sound ones what they are asked."""
    said = "! the standing of cpu in us-west-2 is damaged: its pending change cannot be read"
    run("scale", "cpu", "--replicas", "7", "--region", "us-west-2", "--by", "ann")
    status = run("scaling", "status")
    assert status.exit_code == exit_codes.FINDING
    explained = run("scaling", "explain", "cpu")
    assert "3 to 4: queue asks for 5" in explained.stdout
    approved = run("scaling", "approve", "cpu", "--by", "ann")
    assert "cpu may have 2 agents in eu (ann)" in approved.stdout
    ordered = run("scale", "cpu", "--auto")
    for done in (status, explained, approved, ordered):
        assert said in done.stdout
        assert HELP in done.stdout
    assert [one.exit_code for one in (explained, approved, ordered)] == [exit_codes.OK] * 3
    assert "damaged" in next(line for line in status.stdout.splitlines() if "by hand" in line)
    for words in (("scaling", "status"), ("scaling", "explain", "cpu"), ("scale", "cpu", "--auto")):
        (one,) = json.loads(run(*words, "--json").stdout)["damaged"]
        assert (one["workload"], one["region"]) == ("cpu", "us-west-2")
        assert "scaling forget cpu" in one["hint"]
    assert "damaged" not in run("scaling", "explain", "cpu", "--region", "eu").stdout
    refused = run("scaling", "approve", "cpu", "--region", "us-west-2")
    assert refused.exit_code == exit_codes.USAGE
    assert "the standing of cpu in us-west-2 is damaged" in refused.stderr
    assert "scaling forget cpu --region us-west-2" in refused.stderr


def test_the_next_step_that_is_told_lets_the_workload_begin_anew(
    run: Run, damaged: ControlStore
) -> None:
    """In that region alone; the number of its agents stays, and what stood there is journaled."""
    done = run("scaling", "forget", "cpu", "--region", "us-west-2", "--by", "ann")
    assert done.exit_code == exit_codes.OK, done.stderr
    assert done.stdout == "cpu in us-west-2 begins anew with the next look (ann)\n"
    eu, us = damaged.scaling_standings()
    assert isinstance(eu, ScalingStanding)
    assert eu.pending is not None
    assert us == ScalingStanding("cpu", "us-west-2", AutoscalerState(), 1)
    assert run("scaling", "status").exit_code == exit_codes.OK
    told = damaged.journal("scaling/cpu/us-west-2")[-1]
    assert told.reason == "ann: ordered by hand"
    assert json.loads(told.detail)["pending_json"] == "{"
    both = run("scaling", "forget", "cpu", "--json")
    assert [one["region"] for one in json.loads(both.stdout)["forgotten"]] == ["eu", "us-west-2"]


def test_what_is_scaled_no_more_can_be_forgotten_too(run: Run, decided: ControlStore) -> None:
    """Its row is looked at by the check, so there must be a way to have it emptied."""
    term = decided.acquire_lease(RESCALING_LEASE, "host/1/ab", 600.0).term
    decided.keep_scaling(
        [ScalingStanding("gone", "mars", AutoscalerState(seen=True))], [], term=term
    )
    done = run("scaling", "forget", "gone", "--region", "mars", "--by", "ann")
    assert done.exit_code == exit_codes.OK, done.stderr
    assert ScalingStanding("gone", "mars", AutoscalerState(), 1) in decided.scaling_standings()


def test_who_sleeps_and_is_forgotten_is_told_to_need_a_number(
    run: Run, damaged: ControlStore
) -> None:
    """That the autoscaler itself had brought it to 0 is forgotten with all else."""
    damaged.place_agents(
        [one._replace(desired="stopped") for one in damaged.placements() if one.workload == "cpu"]
    )
    text = run("scaling", "forget", "cpu", "--region", "us-west-2").stdout
    assert "! it has 0 agents in us-west-2" in text
    assert "-> stateroom scale cpu --replicas N --region us-west-2" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cpus",), "did you mean 'cpu'?"),
        (("cpu", "--region", "us"), "no region 'us'"),
        (("cpu", "--region", "eu"), "nothing is remembered of cpu in eu"),
        (("cpu", "--reason", " "), "--reason is needed"),
    ],
    ids=str,
)
def test_what_nobody_remembers_cannot_be_forgotten(
    run: Run, decided: ControlStore, words: tuple[str, ...], said: str
) -> None:
    """One clear error; what is remembered elsewhere stays."""
    refused = run("scaling", "forget", *words)
    assert refused.exit_code == exit_codes.USAGE
    assert said in refused.stderr
    (kept,) = decided.scaling_standings()
    assert isinstance(kept, ScalingStanding)
    assert kept.pending is not None
