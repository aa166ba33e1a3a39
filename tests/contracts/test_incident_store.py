"""What every control store promises of incidents, people's orders and the history of placements."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from fleet.agents import Placement, StatePut
from fleet.errors import (
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    StateroomError,
    VersionConflictError,
)
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    Severity,
)
from fleet.operator_orders import UNTOUCHED, select_live_maintenances
from fleet.placement_history import find_double_placements, find_missing_epochs, find_stale_epochs
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from tests.contracts.store_harness import StoreHarness

AT = datetime(2026, 3, 1, 3, 12, 4, 512345, tzinfo=UTC)
NODE_3 = IncidentOpening(IncidentKind.NODE, "node-3", "eu", "silent for 9 s", AT, term=4)


def opened(store: ControlStore, subject: str = "node-3", later_s: float = 0.0) -> IncidentHeader:
    """An incident of a node."""
    at = AT + timedelta(seconds=later_s)
    return store.open_incident(NODE_3._replace(subject=subject, opened_at=at))


def ended(header: IncidentHeader) -> IncidentHeader:
    """The change that ends it."""
    return header._replace(
        state=IncidentState.ENDED, ended_at=AT + timedelta(seconds=8), outcome="24 agents moved"
    )


def now_of(harness: StoreHarness) -> datetime:
    """The store's clock, nearly."""
    return harness.clock.now() if harness.exact_times else datetime.now(UTC)


class TestOpening:
    """One failure is one incident, however often it is opened."""

    def test_an_opened_incident_is_read_back_as_it_was_opened(self, store: ControlStore) -> None:
        """Every field, to the microsecond; the id says kind, subject and moment."""
        header = opened(store)
        assert header.incident_id == "node-node-3-20260301T031204"
        assert header == IncidentHeader(
            header.incident_id,
            IncidentKind.NODE,
            "node-3",
            "eu",
            Severity.ERROR,
            IncidentState.OPEN,
            "silent for 9 s",
            AT,
            4,
            1,
        )
        assert store.incident(header.incident_id) == header
        assert store.incidents() == store.incidents(open_only=True) == [header]
        assert store.incident("other") is None

    def test_a_second_opening_of_the_same_failure_finds_the_first(
        self, store: ControlStore
    ) -> None:
        """Another controller, a second later, with a higher term: it continues this incident."""
        first = opened(store)
        again = NODE_3._replace(opened_at=AT + timedelta(seconds=1), term=5, reason="other words")
        assert store.open_incident(again) == first
        assert store.open_incident(NODE_3._replace(subject="node-4")) != first
        assert store.open_incident(NODE_3._replace(kind=IncidentKind.REGION)) != first
        assert len(store.incidents()) == 3

    def test_an_incident_bears_the_id_that_the_decision_gave_it(self, store: ControlStore) -> None:
        """The id is what makes the opening idempotent, whatever its moment."""
        named = NODE_3._replace(incident_id="node-node-3-again")
        header = store.open_incident(named)
        assert header.incident_id == "node-node-3-again"
        store.update_incident(ended(header))
        later = named._replace(opened_at=AT + timedelta(seconds=9))
        assert store.open_incident(later).state == IncidentState.ENDED

    def test_an_opening_repeated_after_the_end_opens_nothing(self, store: ControlStore) -> None:
        """A run that is repeated late finds its own, ended; a new failure is a new incident."""
        over = store.update_incident(ended(opened(store)))
        assert opened(store) == over
        assert store.incidents(open_only=True) == []
        fresh = opened(store, later_s=60)
        assert fresh.state == IncidentState.OPEN
        assert [one.incident_id for one in store.incidents()] == [
            fresh.incident_id,
            over.incident_id,
        ]

    def test_openers_at_the_same_moment_get_the_same_incident(self, harness: StoreHarness) -> None:
        """Eight threads, each with a moment of its own: one incident."""
        harness.clear()
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda n: opened(harness.store, later_s=n), range(8)))
        assert len({one.incident_id for one in found}) == 1
        assert len(harness.store.incidents()) == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            {"subject": ""},
            {"subject": "../x"},
            {"region": "a b"},
            {"reason": " "},
            {"reason": "x" * 2001},
            {"reason": "nul \x00"},
            {"opened_at": datetime(2026, 3, 1)},  # noqa: DTZ001
            {"term": -1},
            {"incident_id": "a/b"},
            {"incident_id": "x" * 161},
        ],
    )
    def test_an_opening_that_cannot_be_told_is_refused(
        self, store: ControlStore, wrong: dict[str, object]
    ) -> None:
        """Nothing is stored."""
        with pytest.raises(InvalidInputError):
            store.open_incident(NODE_3._replace(**wrong))  # type: ignore[arg-type]
        assert store.incidents() == []


class TestChanging:
    """Compare-and-swap: of two who read the same revision, one wins."""

    def test_a_change_is_stored_with_the_next_revision(self, store: ControlStore) -> None:
        """What waits for a person is part of the header."""
        header = opened(store)
        acting = header._replace(state=IncidentState.ACTING, waits_for="evacuate/eu", term=6)
        stored = store.update_incident(acting)
        assert stored == acting._replace(revision=2) == store.incident(header.incident_id)
        over = store.update_incident(ended(stored)._replace(waits_for=""))
        assert store.incident(header.incident_id) == over
        assert over.revision == 3

    def test_of_two_changes_on_one_revision_one_wins(self, harness: StoreHarness) -> None:
        """Also at the same moment; the others read again."""
        harness.clear()
        header = opened(harness.store)

        def change(number: int) -> str:
            try:
                harness.store.update_incident(header._replace(waits_for=f"plan-{number}"))
            except VersionConflictError:
                return ""
            return f"plan-{number}"

        with ThreadPoolExecutor(6) as threads:
            won = [name for name in threads.map(change, range(6)) if name]
        stored = harness.store.incident(header.incident_id)
        assert stored is not None
        assert won == [stored.waits_for]
        assert stored.revision == 2

    def test_a_controller_that_was_replaced_changes_nothing(self, store: ControlStore) -> None:
        """Its term is lower; the term is judged before the revision."""
        header = store.update_incident(opened(store)._replace(term=7))
        for revision in (1, 2, 9):
            with pytest.raises(LeaseLostError, match="term 6 is lower than 7"):
                store.update_incident(header._replace(term=6, revision=revision))
        assert store.incident(header.incident_id) == header

    @pytest.mark.parametrize(
        "wrong",
        [
            {"subject": "node-4"},
            {"opened_at": AT + timedelta(seconds=1)},
            {"acknowledged_by": "me"},
            {"state": IncidentState.ENDED},
            {"outcome": "fine"},
            {"ended_at": AT},
            {"waits_for": "x" * 601},
            {"state": IncidentState.ENDED, "ended_at": AT, "outcome": "o", "waits_for": "w"},
        ],
    )
    def test_a_change_that_contradicts_itself_is_refused(
        self, store: ControlStore, wrong: dict[str, object]
    ) -> None:
        """An end has a moment and an outcome; who, what and when stay; nothing is stored."""
        header = opened(store)
        with pytest.raises(InvalidInputError):
            store.update_incident(header._replace(**wrong))  # type: ignore[arg-type]
        assert store.incident(header.incident_id) == header

    def test_what_has_ended_stays_ended_and_acting_never_goes_back(
        self, store: ControlStore
    ) -> None:
        """A late step of an old run cannot revive it."""
        acting = store.update_incident(opened(store)._replace(state=IncidentState.ACTING))
        with pytest.raises(InvalidInputError, match="once acting"):
            store.update_incident(acting._replace(state=IncidentState.OPEN))
        over = store.update_incident(ended(acting))
        with pytest.raises(InvalidInputError, match="has ended"):
            store.update_incident(over._replace(outcome="otherwise"))
        with pytest.raises(NotFoundError, match="does not exist"):
            store.update_incident(over._replace(incident_id="node-x"))

    def test_newest_come_first_and_the_limit_keeps_them(self, store: ControlStore) -> None:
        """Of one moment the higher id first."""
        for number in (2, 0, 1):
            opened(store, f"node-{number}", later_s=number)
        opened(store, "node-9", later_s=2)
        subjects = [one.subject for one in store.incidents(limit=3)]
        assert subjects == ["node-9", "node-2", "node-1"]

    def test_what_ended_lately_is_listed_with_what_has_not(self, store: ControlStore) -> None:
        """An incident that was open for days is found by its end, not by its beginning."""
        old = store.update_incident(ended(opened(store, "node-1", later_s=-9e5)))
        still = opened(store, "node-2", later_s=-8e5)
        assert old.ended_at is not None
        assert store.incidents(ended_since=old.ended_at) == [still, old]
        later = old.ended_at + timedelta(microseconds=1)
        assert store.incidents(ended_since=later) == [still]
        assert store.incidents(ended_since=old.ended_at, open_only=True) == [still]


class TestAcknowledging:
    """Somebody has it."""

    def test_the_first_to_acknowledge_stays_and_it_is_journaled(
        self, harness: StoreHarness
    ) -> None:
        """A second one changes nothing; an ended incident may still be acknowledged."""
        harness.clear()
        store = harness.store
        header = opened(store)
        before = now_of(harness)
        said = store.acknowledge(header.incident_id, "kim", "I am on it")
        assert (said.acknowledged_by, said.note, said.revision) == ("kim", "I am on it", 2)
        assert said.acknowledged_at is not None
        assert before <= said.acknowledged_at <= now_of(harness)
        assert store.acknowledge(header.incident_id, "lee") == said
        assert store.incident(header.incident_id) == said
        (entry,) = store.journal(header.incident_id)
        assert (entry.step, entry.reason) == ("acknowledged", "kim: I am on it")
        other = store.update_incident(ended(opened(store, "node-4")))
        assert store.acknowledge(other.incident_id, "kim").state == IncidentState.ENDED

    def test_an_acknowledgement_moves_the_revision_on(self, store: ControlStore) -> None:
        """A controller that read before it must read again, and then keeps it."""
        header = opened(store)
        store.acknowledge(header.incident_id, "kim")
        with pytest.raises(VersionConflictError):
            store.update_incident(ended(header))

    @pytest.mark.parametrize(("by", "note"), [("", "x"), (" ", ""), ("k" * 129, ""), ("k", "\x00")])
    def test_nobody_cannot_acknowledge(self, store: ControlStore, by: str, note: str) -> None:
        """A name is needed, and a note that can be kept."""
        header = opened(store)
        with pytest.raises(InvalidInputError):
            store.acknowledge(header.incident_id, by, note)
        with pytest.raises(NotFoundError):
            store.acknowledge("nothing", "kim")
        assert store.incident(header.incident_id) == header


class TestOrders:
    """Pause, maintenance, approvals: who, why, when; each in the journal."""

    def test_the_switch_remembers_who_set_it_and_why(self, harness: StoreHarness) -> None:
        """Nobody has touched it at first; each setting counts and is journaled."""
        harness.clear()
        store = harness.store
        assert store.automation() == UNTOUCHED
        paused = store.set_automation(paused=True, by="kim", reason="network work")
        assert store.automation() == paused
        assert (paused.paused, paused.changed_by, paused.revision) == (True, "kim", 1)
        resumed = store.set_automation(paused=False, by="lee", reason="done")
        assert store.automation() == resumed
        assert (resumed.paused, resumed.revision) == (False, 2)
        steps = [(entry.step, entry.reason) for entry in store.journal("automation")]
        assert steps == [("paused/1", "kim: network work"), ("resumed/2", "lee: done")]
        for by, reason in (("", "x"), ("kim", " ")):
            with pytest.raises(InvalidInputError):
                store.set_automation(paused=True, by=by, reason=reason)
        assert store.automation() == resumed

    def test_settings_at_the_same_moment_are_all_counted(self, harness: StoreHarness) -> None:
        """No update is lost: the journal has every one."""
        harness.clear()
        store = harness.store
        with ThreadPoolExecutor(6) as threads:
            list(
                threads.map(
                    lambda n: store.set_automation(paused=n % 2 == 0, by=f"p{n}", reason="r"),
                    range(12),
                )
            )
        assert store.automation().revision == 12
        assert len(store.journal("automation")) == 12

    def test_a_mark_lasts_until_its_moment_or_its_end(self, harness: StoreHarness) -> None:
        """Replacing keeps the beginning; a mark whose time is over is listed, and means nothing."""
        harness.clear()
        store, now = harness.store, now_of(harness)
        until = now + timedelta(hours=1)
        mark = store.start_maintenance("node/node-3", until, "kim", "new disk")
        longer = store.start_maintenance("node/node-3", until + timedelta(hours=1), "lee", "late")
        assert longer.started_at == mark.started_at
        store.start_maintenance("region/eu", until, "kim", "power")
        assert store.maintenances() == [longer, store.maintenances()[1]]
        assert [mark.subject for mark in store.maintenances()] == ["node/node-3", "region/eu"]
        assert select_live_maintenances(store.maintenances(), until) == [longer]
        assert store.end_maintenance("node/node-3", "kim", "done") is True
        assert store.end_maintenance("node/node-3", "kim", "done") is False
        assert [mark.subject for mark in store.maintenances()] == ["region/eu"]
        reasons = [entry.reason for entry in store.journal("maintenance/node/node-3")]
        assert reasons[0] == f"kim, until {until.isoformat()}: new disk"
        assert reasons[-1] == "kim: done"
        assert len(reasons) == (2 if harness.exact_times else 3)

    @pytest.mark.parametrize(
        ("subject", "later"),
        [
            ("node-3", timedelta(hours=1)),
            ("rack/r1", timedelta(hours=1)),
            ("node/", timedelta(hours=1)),
            ("node/a b", timedelta(hours=1)),
            ("node/n", timedelta(days=91)),
            ("node/n", timedelta(0)),
        ],
    )
    def test_a_mark_without_a_sensible_end_is_refused(
        self, harness: StoreHarness, subject: str, later: timedelta
    ) -> None:
        """It would hide a dead node for ever."""
        harness.clear()
        with pytest.raises(InvalidInputError):
            harness.store.start_maintenance(subject, now_of(harness) + later, "kim", "why")
        with pytest.raises(InvalidInputError):
            harness.store.start_maintenance("node/n", datetime(2027, 1, 1), "k", "w")  # noqa: DTZ001
        assert harness.store.maintenances() == []

    def test_an_approval_counts_until_its_incident_ends(self, store: ControlStore) -> None:
        """The first one stays; none is taken for what is over."""
        header = opened(store)
        given = store.approve_action(header.incident_id, "evacuate/eu", "kim", "seen it myself")
        again = store.approve_action(header.incident_id, "evacuate/eu", "lee", "me too")
        assert again == given
        more = store.approve_action(header.incident_id, "exceed-blast-radius", "kim", "yes")
        assert store.approvals() == [given, more]
        steps = [entry.step for entry in store.journal(header.incident_id)]
        assert steps == ["approved/evacuate/eu", "approved/exceed-blast-radius"]
        store.update_incident(ended(header))
        assert store.approvals() == []
        with pytest.raises(InvalidInputError, match="has not ended"):
            store.approve_action(header.incident_id, "evacuate/eu", "kim", "again")
        with pytest.raises(NotFoundError):
            store.approve_action("nothing", "evacuate/eu", "kim", "again")

    @pytest.mark.parametrize(
        ("action", "by", "reason"), [("", "k", "r"), ("a", "", "r"), ("a", "k", "")]
    )
    def test_an_approval_needs_action_person_and_reason(
        self, store: ControlStore, action: str, by: str, reason: str
    ) -> None:
        """A word of nobody about nothing is no approval."""
        header = opened(store)
        with pytest.raises(InvalidInputError):
            store.approve_action(header.incident_id, action, by, reason)
        assert store.approvals() == []


def place(agent_id: str, node_id: str, epoch: int, term: int = 1) -> Placement:
    """A placement planned on `epoch`."""
    return Placement(
        agent_id, "net", "w", node_id, "eu", epoch, term, "running", f"to {node_id}", AT
    )


def declared(store: ControlStore, *agent_ids: str) -> None:
    """Agents without a placement."""
    store.declare_agents([AgentDeclaration(name, "net", "w", "eu", 1, 1) for name in agent_ids])


def moves(store: ControlStore) -> list[tuple[str, str, int, int]]:
    """What the history says: agent, node, epoch, term."""
    rows = store.placement_history(0, 1000)
    return [(row.agent_id, row.node_id, row.epoch, row.term) for row in rows]


class TestHistory:
    """Every epoch that was stored, and none that was refused."""

    def test_each_stored_epoch_is_one_row_and_a_refused_one_is_none(
        self, harness: StoreHarness
    ) -> None:
        """Stale epoch, lower term, not declared: no row; two moves of one agent in a batch: two."""
        harness.clear()
        store = harness.store
        declared(store, "a", "b")
        before = now_of(harness)
        store.place_agents([place("a", "n1", 0), place("b", "n1", 0), place("ghost", "n1", 0)])
        store.place_agents([place("a", "n2", 0), place("b", "n2", 1, term=0)])
        store.place_agents([place("a", "n3", 1, term=5), place("a", "n4", 2, term=5)])
        assert moves(store) == [
            ("a", "n1", 1, 1),
            ("b", "n1", 1, 1),
            ("a", "n3", 2, 5),
            ("a", "n4", 3, 5),
        ]
        row = store.agent_placements("a")[0]
        assert (row.region, row.desired, row.reason) == ("eu", "running", "to n4")
        assert before <= row.placed_at <= now_of(harness)
        assert [found.epoch for found in store.agent_placements("a", 2)] == [3, 2]
        assert store.agent_placements("nobody") == []

    def test_an_agent_declared_again_goes_on_in_its_history(self, store: ControlStore) -> None:
        """Its epoch is not the planned one plus one; what was stored is what is recorded."""
        declared(store, "a", "b")
        store.place_agents([place("a", "n1", 0), place("b", "n1", 0)])
        store.retire_agents(["a"])
        declared(store, "a")
        stored = store.place_agents([place("a", "n2", 0), place("b", "n2", 1)])
        assert [placed.epoch for placed in stored] == [2, 2]
        assert sorted(moves(store)[2:]) == [("a", "n2", 2, 1), ("b", "n2", 2, 1)]

    def test_a_cursor_reads_on_where_it_stopped_also_after_a_trim(
        self, harness: StoreHarness
    ) -> None:
        """Numbers are never used again."""
        harness.clear()
        store = harness.store
        declared(store, "a", "b", "c")
        store.place_agents([place(name, "n1", 0) for name in "abc"])
        first = store.placement_history(0, 2)
        rest = store.placement_history(first[-1].history_id, 10)
        assert [row.agent_id for row in first + rest] == ["a", "b", "c"]
        assert store.trim_placement_history(now_of(harness) - timedelta(days=1)) == 0
        assert store.trim_placement_history(now_of(harness) + timedelta(days=1)) == 3
        assert store.placement_history(0, 10) == []
        store.place_agents([place("a", "n2", 1)])
        (row,) = store.placement_history(0, 10)
        assert row.history_id > rest[-1].history_id
        assert row.epoch == 2

    def test_a_move_knows_which_states_came_before_it(self, store: ControlStore) -> None:
        """Its change number separates the old epoch's states from the new one's."""
        declared(store, "a")
        store.place_agents([place("a", "n1", 0)])
        store.put_states([StatePut("a", 1, 0, b"1"), StatePut("a", 1, 1, b"2")])
        store.place_agents([place("a", "n2", 1)])
        refused, taken = store.put_states([StatePut("a", 1, 2, b"x"), StatePut("a", 2, 2, b"3")])
        assert refused.error is not None
        assert taken.error is None
        changes = store.state_changes(0, 10)
        rows = store.placement_history(0, 10)
        assert [row.change_id for row in rows] == [0, changes[1].change_id]
        assert find_stale_epochs(rows, changes) == []
        forged = changes[2]._replace(epoch=1)
        (breach,) = find_stale_epochs(rows, [*changes[:2], forged])
        assert "after the move to epoch 2" in breach.problem
        store.trim_state_changes(changes[-1].change_id)
        store.place_agents([place("a", "n3", 2)])
        assert store.agent_placements("a")[0].change_id == changes[-1].change_id

    def test_movers_and_writers_at_once_leave_a_history_without_a_breach(
        self, harness: StoreHarness
    ) -> None:
        """Six threads move and write the same agents: every claim holds over what was stored."""
        harness.clear()
        store = harness.store
        names = [f"a{number}" for number in range(5)]
        declared(store, *names)

        def work(worker: int) -> None:
            for turn in range(12):
                seen = {placed.agent_id: placed.epoch for placed in store.placements()}
                wanted = [place(name, f"n{worker}", seen.get(name, 0), turn) for name in names]
                store.place_agents(wanted[worker % 2 :])
                versions = {info.agent_id: info.version for info in store.state_infos()}
                puts = [
                    StatePut(name, seen.get(name, 0) + worker % 2, versions.get(name, 0), b"s")
                    for name in names
                ]
                store.put_states(puts)

        with ThreadPoolExecutor(6) as threads:
            list(threads.map(work, range(6)))
        placements, rows = store.placements(), store.placement_history(0, 10_000)
        changes = store.state_changes(0, 10_000)
        assert len(rows) > len(names)
        assert find_double_placements(rows) == []
        assert find_stale_epochs(rows, changes) == []
        assert find_missing_epochs(rows, placements) == []
        assert {row.agent_id: row.epoch for row in rows} == {
            placed.agent_id: placed.epoch for placed in placements
        }


def test_an_error_says_what_to_do_next(store: ControlStore) -> None:
    """Every refusal of this port has a message that names the value, and most a next step."""
    with pytest.raises(StateroomError, match="incident nothing does not exist") as caught:
        store.acknowledge("nothing", "kim")
    assert "stateroom incidents" in caught.value.hint
