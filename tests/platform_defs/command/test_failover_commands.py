"""`stateroom failover` and `fail-back`: what would be done, and how it is ordered."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.agents import Placement
from fleet.errors import NotFoundError, PermanentError
from fleet.failover.records import ActionKind
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.leases import LEADER_LEASE, node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import NodeReport
from ops.failover_directives import read_directives
from platform_defs.command import exit_codes
from platform_defs.command.fail_back import find_evacuation
from platform_defs.command.forced_orders import order_failover
from tests.platform_defs.command.conftest import Run, hide_ages

ID = "node-us-west-2-1-20260301T000000"

NOBODY = (
    "  -> `stateroom up`, without --no-ui, starts the sensors that decide; where it runs, start "
    "node_failover_sensor and region_failover_sensor in the UI (Automation), or set "
    "failover.enabled.\n"
)


@pytest.fixture(autouse=True)
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's word on nodes counts: no processes of theirs are here."""
    monkeypatch.setenv("STATEROOM_FLEET__CLUSTER", "simulated")


def lead(store: ControlStore) -> None:
    """A controller holds the lease."""
    store.acquire_lease(LEADER_LEASE, "host/1/ab", 600.0)


def opened(store: ControlStore, **changes: Any) -> IncidentHeader:
    """An incident of the silent node, as the controller opens it."""
    opening = IncidentOpening(
        IncidentKind.NODE, "us-west-2-2", "us-west-2", "it is silent", datetime.now(UTC), 1
    )
    return store.open_incident(opening._replace(**changes))


def beat(store: ControlStore, node_id: str) -> None:
    """A node reports, so that it may take agents in."""
    now = datetime.now(UTC)
    lease = store.acquire_lease(node_lease_name(node_id), f"boot-{node_id}", 600.0)
    report = NodeReport(node_id, f"boot-{node_id}", 9, "", now, now, None, None, None, (), ())
    store.report_node(report, lease)


def forced(store: ControlStore) -> frozenset[str]:
    """What the controller reads as ordered by force."""
    return read_directives(store, ()).forced


def test_a_dry_run_shows_where_each_agent_would_go(run: Run, store: ControlStore) -> None:
    """By the planner of the run; nothing is written, and nobody is needed."""
    lead(store)
    done = run("failover", "node", "us-west-2-2", "--dry-run")
    assert done.exit_code == exit_codes.OK, done.output
    assert hide_ages(done.stdout) == (
        "failover of node/us-west-2-2 would leave:\n"
        "  us-west-2-2 in us-west-2: stopped, last heartbeat AGE ago\n"
        "  1 agent to us-west-2-1 (us-west-2)\n"
        "controller: host/1/ab leads, term 1\n"
    )
    document = json.loads(run("failover", "node", "us-west-2-2", "--dry-run", "--json").stdout)
    assert (document["agents_placed"], document["agents_parked"]) == (1, 0)
    assert document["moves"][0]["agent_id"] == "cpu-3"
    assert store.incidents() == []
    assert {one.epoch for one in store.placements()} == {1}


def test_a_dry_run_without_room_or_controller_is_a_finding(run: Run, store: ControlStore) -> None:
    """Region eu has never reported, so nobody takes the agents of us-west-2 in."""
    done = run("failover", "region", "us-west-2", "--dry-run")
    assert done.exit_code == exit_codes.FINDING
    text = hide_ages(done.stdout)
    assert "  us-west-2-1 in us-west-2: running, last heartbeat AGE ago\n" in text
    assert "  ! 3 agents parked: eu has no node\n" in text
    assert "  ! 1 of these nodes show life: agents are stopped there first" in text
    assert text.endswith("controller: nobody leads, nobody ever has; no agent is moved\n" + NOBODY)


def test_without_a_controller_nothing_is_ordered(run: Run, store: ControlStore) -> None:
    """One clear error with the next step, and no incident that nobody ends."""
    done = run("failover", "node", "us-west-2-2", "--approve")
    assert done.exit_code == exit_codes.TRANSIENT
    assert done.stderr == (
        "stateroom: no controller leads, so nobody would fail over node us-west-2-2; "
        "nothing was recorded\n" + NOBODY
    )
    lease = store.acquire_lease(LEADER_LEASE, "host/1/ab", 600.0)
    store.release_lease(lease)
    again = run("failover", "node", "us-west-2-2", "--approve")
    assert again.exit_code == exit_codes.TRANSIENT
    assert "nobody leads (the last one had term 1)" in again.stdout
    assert store.incidents() == []


def test_an_order_opens_an_incident_and_forces_it(run: Run, store: ControlStore) -> None:
    """The controller reads it at its next look; ordered twice, it is ordered once."""
    lead(store)
    done = run("failover", "node", "us-west-2-1", "--approve", "--reason", "smoke", "--by", "ann")
    assert done.exit_code == exit_codes.OK, done.output
    (header,) = store.incidents(open_only=True)
    assert (header.key, header.region) == ("node/us-west-2-1", "us-west-2")
    assert header.reason == "ann orders its failover: smoke"
    assert forced(store) == {"node/us-west-2-1"}
    assert done.stdout.endswith(
        f"ordered: ann allows `forced:node/us-west-2-1` of {header.incident_id}\n"
        f"  -> stateroom incident {header.incident_id}\n"
    )
    again = run("failover", "node", "us-west-2-1", "--approve", "--by", "bob").stdout
    assert re.search(r"\nann ordered it at \S+Z already; nothing was changed\n", again)
    assert "approved by ann: smoke" in run("incident", "us-west-2-1").stdout


def test_what_an_incident_waits_for_is_approved_and_nothing_more(
    run: Run, store: ControlStore
) -> None:
    """Other rules go on holding; asked once more, it is forced."""
    lead(store)
    header = opened(store)
    key = f"move_node:node/us-west-2-2:{header.incident_id}"
    store.update_incident(header._replace(waits_for=key))
    said = run("failover", "node", "us-west-2-2", "--approve", "--by", "ann").stdout
    assert f"  an incident waits for a person to allow `{key}`\n" in said
    assert f"ordered: ann allows `{key}` of {header.incident_id}\n" in said
    assert read_directives(store, ()).approved == {key}
    run("failover", "node", "us-west-2-2", "--approve")
    assert forced(store) == {"node/us-west-2-2"}


def test_who_would_wait_for_a_node_in_doubt_is_shown_as_waiting_and_not_as_parked(
    run: Run, store: ControlStore
) -> None:
    """As the live plan does it: the only neighbour is down for now, nobody is parked for that."""
    lead(store)
    header = opened(store, subject="us-west-2-1")
    store.update_incident(header._replace(waits_for=f"move_node:node/us-west-2-1:{ID}"))
    done = run("failover", "node", "us-west-2-1", "--dry-run")
    assert done.exit_code == exit_codes.FINDING
    assert (
        "  ! 2 agents would wait where they are: the only places for them are on nodes that are "
        "down or in doubt (us-west-2-2)\n"
    ) in done.stdout
    assert "parked" not in done.stdout
    document = json.loads(run("failover", "node", "us-west-2-1", "--dry-run", "--json").stdout)
    assert (document["agents_waiting"], document["agents_parked"]) == (2, 0)
    assert document["waiting"] == ["cpu-1", "cpu-2"]
    assert document["nodes_in_doubt"] == ["us-west-2-2"]
    assert document["moves"] == []


def test_an_order_by_force_waits_for_nobody_and_says_who_would_wait_without_it(
    run: Run, store: ControlStore
) -> None:
    """Whoever uses force must have seen whom it parks."""
    lead(store)
    done = run("failover", "node", "us-west-2-1", "--dry-run")
    assert done.exit_code == exit_codes.FINDING
    assert "  ! 2 agents parked: " in done.stdout
    assert (
        "  ! 2 agents of these would wait, left to the automation: the only places for them are on "
        "nodes that are down or in doubt (us-west-2-2); an order by force parks them\n"
    ) in done.stdout
    document = json.loads(run("failover", "node", "us-west-2-1", "--dry-run", "--json").stdout)
    assert (document["agents_waiting"], document["agents_parked"]) == (0, 2)
    assert document["agents_hoping"] == 2


def test_while_paused_an_order_is_forced(run: Run, store: ControlStore) -> None:
    """An approval alone would wait for the end of the pause."""
    lead(store)
    header = opened(store)
    store.update_incident(header._replace(waits_for="move_node:x"))
    store.set_automation(paused=True, by="ann", reason="upgrade")
    said = run("failover", "node", "us-west-2-2", "--approve").stdout
    assert "paused (ann: upgrade); what a person orders is done all the same" in said
    assert forced(store) == {"node/us-west-2-2"}


def test_a_question_that_is_not_answered_with_yes_orders_nothing(
    run: Run, store: ControlStore
) -> None:
    """Exit code 130; the plan was shown before."""
    lead(store)
    done = run("failover", "region", "eu")
    assert done.exit_code == exit_codes.INTERRUPTED
    assert "Fail over region eu now? [y/N]" in done.output
    assert store.incidents() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node", "us-west-2-9"), "no node 'us-west-2-9'; did you mean 'us-west-2-2'?"),
        (("region", "us-west-1"), "no region 'us-west-1'; did you mean 'us-west-2'?"),
        (("region", "mars"), "no region 'mars'\n"),
        (("zone", "a"), "'zone' is not one of 'node', 'region'"),
        (("node", "us-west-2-1", "--approve", "--dry-run"), "exclude each other"),
        (("node", "us-west-2-1", "--approve", "--by", " "), "--by: ' ' is not"),
        (("node", "us-west-2-1", "--approve", "--reason", ""), "--reason is needed"),
    ],
)
def test_what_does_not_exist_cannot_be_given_up(
    run: Run, store: ControlStore, words: tuple[str, ...], said: str
) -> None:
    """Exit code 2; the nearest name is named, and nothing is opened."""
    lead(store)
    done = run("failover", *words)
    assert done.exit_code == exit_codes.USAGE
    assert said in done.stderr
    assert store.incidents() == []


def test_an_incident_that_ends_meanwhile_is_opened_again(store: ControlStore) -> None:
    """The controller ends what no rule speaks for: the order must not fall between two calls."""
    lead(store)
    racing = EndsOnce(store)
    order = order_failover(racing, "node", "us-west-2-1", "us-west-2", "ann", "smoke")  # type: ignore[arg-type]
    assert order.is_new
    assert forced(store) == {"node/us-west-2-1"}
    assert [one.state for one in store.incidents()].count(IncidentState.ENDED) == 1


class EndsOnce:
    """A store whose first incident ends right after it was opened."""

    def __init__(self, store: ControlStore) -> None:
        """Nothing has ended yet."""
        self._store, self._ended = store, False

    def __getattr__(self, name: str) -> Any:
        """All but one method are the store's own."""
        return getattr(self._store, name)

    def open_incident(self, opening: IncidentOpening) -> IncidentHeader:
        """Open it; the first one is ended by somebody else."""
        header = self._store.open_incident(opening)
        if not self._ended:
            self._ended = True
            end(self._store, header)
        return header


def end(store: ControlStore, header: IncidentHeader) -> None:
    """The controller ends an incident."""
    at = header.opened_at + timedelta(seconds=1)
    store.update_incident(
        header._replace(state=IncidentState.ENDED, ended_at=at, outcome="it has come back")
    )


# -- fail-back -----------------------------------------------------------------------------------


def evacuated(store: ControlStore) -> IncidentHeader:
    """Region eu was evacuated: its agent runs in us-west-2, and the incident has ended."""
    now = datetime.now(UTC)
    place = Placement(
        "eu-cpu-1", "other", "cpu", "us-west-2-1", "us-west-2", 0, 0, "running", "", now
    )
    store.place_agents([place])
    header = opened(store, kind=IncidentKind.REGION, subject="eu", region="eu")
    entry = fact_entry(
        header.incident_id, EntryKind.DECIDED, str(ActionKind.EVACUATE_REGION), "eu", "lost", now
    )
    store.append_journal([entry])
    end(store, header)
    return header


def test_a_fail_back_is_rehearsed_and_approved(run: Run, store: ControlStore) -> None:
    """Both words stand on an incident of their own, as the decision looks for them."""
    lead(store)
    header = evacuated(store)
    beat(store, "eu-1")
    done = run("fail-back", "eu", "--approve", "--by", "ann", "--reason", "power is back")
    assert done.exit_code == exit_codes.OK, done.output
    (carrier,) = store.incidents(open_only=True)
    assert (carrier.key, carrier.severity) == ("fail_back/eu", "warn")
    assert done.stdout == (
        "fail-back of region/eu:\n"
        "  1 agents run elsewhere; 1 have a place at home\n"
        "  1 agent to eu-1 (eu)\n"
        "  the rehearsal passes\n"
        "controller: host/1/ab leads, term 1\n"
        "recorded: ann for `rehearsed:eu`\n"
        f"recorded: ann for `fail_back:region/eu:{header.incident_id}`\n"
        f"  -> stateroom incident {carrier.incident_id}\n"
    )
    directives = read_directives(store, ())
    assert directives.rehearsed == {"eu"}
    assert f"fail_back:region/eu:{header.incident_id}" in directives.approved
    assert run("incident", "eu").stdout.splitlines()[1] == (
        "Fail-back eu: ann lets its agents go home: power is back."
    )
    assert "already" in run("fail-back", "eu", "--approve").stdout


def test_a_rehearsal_alone_approves_nothing(run: Run, store: ControlStore) -> None:
    """And a dry run records not even that."""
    lead(store)
    evacuated(store)
    beat(store, "eu-1")
    assert run("fail-back", "eu", "--dry-run").exit_code == exit_codes.OK
    assert store.incidents(open_only=True) == []
    document = json.loads(run("fail-back", "eu", "--rehearse", "--json").stdout)
    assert [one["action"] for one in document["orders"]] == ["rehearsed:eu"]
    assert read_directives(store, ()).approved == {"rehearsed:eu"}


def test_a_rehearsal_that_fails_records_nothing(run: Run, store: ControlStore) -> None:
    """The region's only node has never reported; exit code 1, whatever was approved."""
    lead(store)
    evacuated(store)
    done = run("fail-back", "eu", "--approve")
    assert done.exit_code == exit_codes.FINDING
    assert done.stdout.splitlines()[1:5] == [
        "  1 agents run elsewhere; 0 have a place at home",
        "  ! 1 agents have no place at home, and would stay",
        "  ! 1 of 1 nodes do not run (eu-1 pending)",
        "  the rehearsal fails: nothing is recorded",
    ]
    assert store.incidents(open_only=True) == []


def test_nobody_goes_home_who_is_there(run: Run, store: ControlStore) -> None:
    """No agent is away; or one is, and no evacuation put it there."""
    done = run("fail-back", "eu", "--approve")
    assert done.exit_code == exit_codes.USAGE
    assert done.stderr.startswith("stateroom: no agent of region 'eu' runs elsewhere")
    header = evacuated(store)
    assert find_evacuation(store, "eu").incident_id == header.incident_id
    with pytest.raises(NotFoundError):
        find_evacuation(store, "us-west-2")
    now = datetime.now(UTC)
    moved = [
        one._replace(node_id="eu-1", region="eu", updated_at=now)
        for one in store.placements("us-west-2-2")
    ]
    store.place_agents(moved)
    with pytest.raises(PermanentError, match="no incident has evacuated it"):
        find_evacuation(store, "us-west-2")


def test_without_a_controller_nobody_goes_home(run: Run, store: ControlStore) -> None:
    """The same error as for a failover."""
    evacuated(store)
    beat(store, "eu-1")
    done = run("fail-back", "eu", "--approve")
    assert done.exit_code == exit_codes.TRANSIENT
    assert "nobody would fail back region eu; nothing was recorded" in done.stderr
    assert store.incidents(open_only=True) == []
