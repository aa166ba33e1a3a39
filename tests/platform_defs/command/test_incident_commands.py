"""`stateroom incidents`, `incident`, `ack`, `pause`, `resume`, `maintenance` on a real store."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.controller_view import ControllerView
from fleet.errors import InvalidInputError
from fleet.failover.records import ControllerState
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.journal import JournalEntry
from fleet.leases import LEADER_LEASE
from fleet.ports.control_store import ControlStore
from platform_defs.command import exit_codes
from platform_defs.command.maintenance import read_end
from platform_defs.command.moments import parse_span
from platform_defs.failover_health import check_failover
from platform_defs.health_finding import Context
from platform_defs.settings import load_settings
from platform_defs.state_folder import UpRun
from tests.platform_defs.command.conftest import Run

AT = datetime(2026, 11, 21, 3, 12, 4, tzinfo=UTC)
ID = "node-us-west-2-1-20261121T031204"
KEY = f"move_node:node/us-west-2-1:{ID}"


def opened(store: ControlStore, **changes: Any) -> IncidentHeader:
    """An incident of us-west-2-1 as the controller opens it."""
    opening = IncidentOpening(
        IncidentKind.NODE, "us-west-2-1", "us-west-2", "a majority must agree (votes_dead 3)", AT, 4
    )
    return store.open_incident(opening._replace(**changes))


def ended(store: ControlStore, header: IncidentHeader) -> IncidentHeader:
    """The same, over after eight seconds."""
    return store.update_incident(
        header._replace(
            state=IncidentState.ENDED,
            ended_at=AT + timedelta(seconds=8),
            outcome="its agents run elsewhere or are parked",
        )
    )


def test_an_incident_is_told_in_sentences_with_times(run: Run, store: ControlStore) -> None:
    """What failed, how it stands, what is wanted, what is lost, what happened when."""
    header = store.update_incident(opened(store)._replace(waits_for=KEY))
    later = AT + timedelta(seconds=1.5)
    store.append_journal(
        [
            fact_entry(ID, EntryKind.SEEN, "silent", "us-west-2-1", "silent for 12 s", AT),
            JournalEntry(ID, "move/1-0000", "started", "us-west-2-1", "2 agents are placed", AT),
            JournalEntry(
                ID, "move/1-0000", "done", "us-west-2-1", "2 agents belong elsewhere", later, 1.5,
                '{"moved": 2}',
            ),
        ]
    )  # fmt: skip
    done = run("incident", header.incident_id)
    assert done.exit_code == exit_codes.OK, done.output
    text = re.sub(r", [0-9.]+ (s|min|h|d) ago", ", AGE ago", done.stdout)
    assert text == (
        f"{ID}\n"
        "Node us-west-2-1 in us-west-2: a majority must agree (votes_dead 3).\n"
        "It began at 03:12:04 UTC on 2026-11-21, AGE ago; nothing has been done yet.\n"
        f"It waits for a person to allow `{KEY}`: "
        "`stateroom failover node us-west-2-1 --approve`.\n"
        f"Nobody has acknowledged it: `stateroom ack {ID}` stops the paging.\n"
        "2 agents run elsewhere.\n"
        "Each of them has its last acknowledged state: nothing is lost.\n"
        "03:12:04.0  Seen: silent for 12 s.\n"
        "03:12:04.0  Move: 2 agents belong elsewhere; done in 1.5 s.\n"
    )
    document = json.loads(run("incident", ID[:20], "--json").stdout)
    assert (document["losses"]["moved"], len(document["timeline"])) == (2, 2)
    assert document["story"][0] == text.splitlines()[1]


@pytest.mark.parametrize("wanted", ["us-west-2-1", "node/us-west-2-1", ID, ID[:12]])
def test_an_incident_is_found_by_subject_or_by_the_beginning_of_its_id(
    run: Run, store: ControlStore, wanted: str
) -> None:
    """At 3 a.m. nobody types ids."""
    opened(store)
    assert run("incident", wanted).stdout.startswith(f"{ID}\n")


def test_a_wrong_name_names_the_nearest_incident(run: Run, store: ControlStore) -> None:
    """A beginning that several ids share is refused with their names."""
    opened(store)
    done = run("incident", "us-west-21")
    assert done.exit_code == exit_codes.USAGE
    assert done.stderr == (
        "stateroom: no incident 'us-west-21'; did you mean 'us-west-2-1'?\n"
        "  -> `stateroom incidents --all` lists them.\n"
    )
    opened(store, subject="us-west-2-2")
    assert "ids that begin so: node-us-west-2-2-2026" in run("incident", "node-us").stderr


def test_open_incidents_are_listed_and_ended_ones_on_demand(run: Run, store: ControlStore) -> None:
    """Newest first; what it waits for stands in the row."""
    assert run("incidents").stdout == "no open incident; --all lists ended ones\n"
    first = ended(store, opened(store))
    second = opened(store, subject="us-west-2-2", opened_at=AT + timedelta(hours=1))
    assert [one["incident_id"] for one in json.loads(run("incidents", "--json").stdout)] == [
        second.incident_id
    ]
    rows = run("incidents", "--all").stdout.splitlines()
    assert rows[0].split()[:3] == ["incident", "subject", "state"]
    assert [row.split()[0] for row in rows[1:]] == [second.incident_id, first.incident_id]
    assert rows[2].split()[2:6] == ["ended", "2026-11-21T03:12:04Z", "8.0", "s"]


def test_the_first_acknowledgement_stays(run: Run, store: ControlStore) -> None:
    """The second one is told who has it."""
    opened(store)
    first = run("ack", "us-west-2-1", "--by", "ann", "--note", "rack 7").stdout
    assert re.fullmatch(rf"ann has acknowledged {ID} at \S+Z: rack 7\n", first)
    second = run("ack", ID, "--by", "bob").stdout
    assert second == first.replace("has", "had", 1)
    assert "ann has acknowledged it" in run("incident", ID).stdout


def test_what_has_ended_cannot_be_acknowledged(run: Run, store: ControlStore) -> None:
    """The error says what it must be."""
    ended(store, opened(store))
    done = run("ack", "us-west-2-1")
    assert done.exit_code == exit_codes.USAGE
    assert done.stderr == (
        f"stateroom: incident: '{ID}' is not valid; allowed: an incident that has not ended\n"
        "  -> `stateroom incidents`\n"
    )


def test_status_says_who_leads_and_what_is_open(run: Run, store: ControlStore) -> None:
    """Leader and term, pause, freeze, maintenance, each incident with age and wish."""
    assert store.acquire_lease(LEADER_LEASE, "host/1/ab", 600.0).term == 1
    store.update_incident(opened(store, opened_at=datetime.now(UTC))._replace(waits_for="x:y"))
    store.open_incident(
        IncidentOpening(
            IncidentKind.CONTROLLER, "controller", "", "failover is frozen", datetime.now(UTC),
            incident_id="controller-1",
        )
    )  # fmt: skip
    assert run("pause", "--reason", "upgrade", "--by", "ann").exit_code == exit_codes.OK
    run("maintenance", "start", "region", "eu", "--for", "1 hour", "--reason", "dig", "--by", "bob")
    text = re.sub(r"\d+\.\d s", "AGE", run("status").stdout)
    text = re.sub(r"\d{4}-[-0-9T:]+Z|\d{8}T\d{6}", "TIME", text)
    assert text.split("backup platform: none yet\n")[1].split("  ! eu: ")[0] == (
        "index watch: none yet, 1 note waits (AGE)\n"
        "controller: host/1/ab leads, term 1\n"
        "  ! frozen for AGE: failover is frozen\n"
        "  ! paused for AGE by ann: upgrade\n"
        "  under maintenance until TIME: region/eu (bob: dig)\n"
        "open incidents: 2\n"
        "  controller-1: open for AGE, nobody has it (`stateroom ack`)\n"
        "  node-us-west-2-1-TIME: open for AGE, waits for a person to allow x:y, "
        "nobody has it (`stateroom ack`)\n"
    )
    document = json.loads(run("status", "--json").stdout)
    assert document["failover"]["leader"]["leads"] is True
    assert document["failover"]["frozen"] == "failover is frozen"
    assert any(said.startswith("incident controller-1: The contr") for said in document["findings"])


def test_a_freeze_shows_at_once_by_the_view_of_who_leads(run: Run, store: ControlStore) -> None:
    """Before it has lasted for long enough to be an incident; an older leader's view is none."""
    lease = store.acquire_lease(LEADER_LEASE, "host/1/ab", 600.0)
    view = ControllerView(
        "host/1/ab", lease.term, datetime.now(UTC), ControllerState.FROZEN, ("observer_majority",)
    )
    store.keep_controller_view(view)
    assert (
        ": failover is frozen, nothing is moved: no majority of the configured observers reports\n"
    ) in run("status").stdout
    found = {one["said"]: one["verdict"] for one in doctor(run)}
    assert found["host/1/ab leads, term 1"] == "ok"
    assert "wrong" in [found[said] for said in found if said.startswith("failover is frozen")]
    store.release_lease(lease)
    store.acquire_lease(LEADER_LEASE, "host/2/cd", 600.0)
    assert "frozen" not in run("status").stdout


def test_the_doctor_says_whether_anybody_would_act(run: Run, store: ControlStore) -> None:
    """A pause is doubtful, whoever leads; a switched-off failover is, too."""
    assert [one["verdict"] for one in doctor(run)] == ["skipped"]
    store.set_automation(paused=True, by="ann", reason="upgrade")
    assert next(one["said"] for one in doctor(run)) == "paused by ann: upgrade"
    off = doctor(run, STATEROOM_FAILOVER__ENABLED="false")
    assert off[-1]["said"].startswith("switched off (failover.enabled)")
    assert {one["verdict"] for one in off} == {"warn"}


def test_the_doctor_of_a_running_fleet_that_nobody_leads_is_wrong(store: ControlStore) -> None:
    """The remedy names the sensors; a fleet that was started without Dagster is only doubtful."""
    running = UpRun(1, "", "http://127.0.0.1:1", ready=True)
    context = Context(load_settings(), running, Path())
    (finding,) = check_failover(context)
    assert (finding.verdict, finding.said) == (
        "wrong",
        "nobody leads, nobody ever has; no agent is moved",
    )
    assert "node_failover_sensor" in finding.remedy
    (without,) = check_failover(context._replace(running=UpRun(1, "", "", ready=True)))
    assert without.verdict == "warn"


def doctor(run: Run, **extra: str) -> list[dict[str, Any]]:
    """What the doctor says of failover."""
    found = json.loads(run("doctor", "--json", STATEROOM_WEB__PORT="0", **extra).stdout)
    return [one for one in found if one["check"] == "failover"]


def test_a_pause_needs_a_reason_and_lasts_until_it_is_lifted(run: Run, store: ControlStore) -> None:
    """Lifting what is not paused changes nothing."""
    refused = run("pause", "--reason", " ")
    assert refused.exit_code == exit_codes.USAGE
    assert "--reason is needed: who is woken meanwhile must know why" in refused.stderr
    assert not store.automation().paused
    assert run("resume").stdout == "automatic failover was not paused; nothing was changed\n"
    assert store.automation().revision == 0
    said = run("pause", "--reason", "upgrade", "--by", "ann").stdout
    assert re.fullmatch(r"automatic failover is paused: ann at \S+Z: upgrade\n", said)
    assert json.loads(run("resume", "--by", "bob", "--json").stdout)["paused"] is False
    assert (store.automation().changed_by, store.automation().revision) == ("bob", 2)


def test_a_maintenance_begins_is_listed_and_ends(run: Run, store: ControlStore) -> None:
    """The mark is the one that the controller reads."""
    done = run("maintenance", "start", "node", "us-west-2-1", "--for", "2 hours", "--reason",
               "disks", "--by", "ann")  # fmt: skip
    said = r"node/us-west-2-1 is under maintenance until \S+Z \(ann: disks\); it is not watched\n"
    assert re.fullmatch(said, done.stdout), done.output
    (mark,) = store.maintenances()
    assert mark.subject == "node/us-west-2-1"
    assert timedelta(hours=1.9) < mark.until - datetime.now(UTC) <= timedelta(hours=2)
    assert run("maintenance", "list").stdout.splitlines()[1].startswith("node/us-west-2-1  ")
    assert json.loads(run("maintenance", "list", "--json").stdout)[0]["counts"] is True
    assert run("maintenance", "end", "node", "us-west-2-1").stdout == (
        "node/us-west-2-1 is watched again\n"
    )
    again = run("maintenance", "end", "node", "us-west-2-1")
    assert again.exit_code == exit_codes.USAGE
    assert again.stderr == (
        "stateroom: node/us-west-2-1 is not under maintenance\n"
        "  -> `stateroom maintenance list` lists the marks.\n"
    )
    assert run("maintenance", "list").stdout == "nothing is under maintenance\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("node", "us-west-2-9", "--for", "1 hour", "--reason", "x"),
            "no node 'us-west-2-9'; did you mean 'us-west-2-2'?",
        ),
        (("region", "europa", "--for", "1 hour", "--reason", "x"), "no region 'europa'"),
        (("region", "eu", "--for", "1 hour"), "--reason is needed"),
        (("region", "eu", "--reason", "x"), "one of --until and --for is needed"),
        (
            ("region", "eu", "--until", "2020-01-01T00:00:00Z", "--reason", "x"),
            (
                "--until: '2020-01-01T00:00:00Z' is not valid; allowed: a moment that is still to "
                "come; it is "
            ),
        ),
        (
            ("region", "eu", "--until", "2027-01-01T00:00:00", "--reason", "x"),
            "Say in which zone",
        ),
        (("region", "eu", "--for", "91 days", "--reason", "x"), "less than 90 days from now"),
        (("region", "eu", "--for", "soon", "--reason", "x"), "N seconds|minutes|hours|days"),
    ],
)
def test_a_maintenance_that_means_nothing_is_refused(
    run: Run, store: ControlStore, words: tuple[str, ...], said: str
) -> None:
    """Nothing is marked then."""
    done = run("maintenance", "start", *words)
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr
    assert store.maintenances() == []


def test_lengths_of_time_are_read_or_refused() -> None:
    """Units in full; no length is endless."""
    assert parse_span("--for", " 90 Minutes ") == timedelta(minutes=90)
    assert parse_span("--for", "1.5 hours") == timedelta(minutes=90)
    for text in ("", "1", "1 week", "-1 hours", "9" * 400 + " days"):
        with pytest.raises(InvalidInputError):
            parse_span("--for", text)
    assert read_end("2026-11-21T05:00:00Z", None, AT) == datetime(2026, 11, 21, 5, tzinfo=UTC)
