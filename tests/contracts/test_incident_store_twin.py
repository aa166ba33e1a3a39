"""Random histories of incidents and orders: the SQL stores answer exactly as the fake does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import StateroomError
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from fleet.ports.control_store import ControlStore
from tests.contracts.store_harness import MemoryHarness, StoreHarness
from tests.examples import examples

AT = datetime(2026, 3, 1, tzinfo=UTC)
SUBJECTS = st.sampled_from(["n1", "n2"])
SMALL = st.integers(0, 3)
PEOPLE = st.sampled_from(["kim", "lee", ""])
MARKED = st.sampled_from(["node/n1", "region/eu", "rack/x"])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(["node", "region"]), SUBJECTS, SMALL, SMALL),
        st.tuples(
            st.just("change"),
            SUBJECTS,
            st.sampled_from(IncidentState),
            SMALL,
            st.integers(-1, 1),
            st.sampled_from(["", "plan"]),
        ),
        st.tuples(st.just("acknowledge"), SUBJECTS, PEOPLE),
        st.tuples(st.just("switch"), st.booleans(), PEOPLE),
        st.tuples(st.just("mark"), MARKED, st.integers(1, 9), PEOPLE),
        st.tuples(st.just("unmark"), MARKED, PEOPLE),
        st.tuples(st.just("approve"), SUBJECTS, st.sampled_from(["a", "b"]), PEOPLE),
    ),
    min_size=3,
    max_size=25,
)


class Orders:
    """One store under a history; times that are the store's own are left out of what is seen."""

    def __init__(self, harness: StoreHarness) -> None:
        """Start empty."""
        harness.clear()
        self.store: ControlStore = harness.store
        self.now = harness.clock.now() if harness.exact_times else datetime.now(UTC)

    def do(self, step: tuple[Any, ...]) -> Any:
        """Take one step; a refusal is its type."""
        name, *arguments = step
        try:
            return getattr(self, f"_{name}")(*arguments)
        except StateroomError as error:
            return type(error)

    def _newest(self, subject: str) -> IncidentHeader | None:
        return next((one for one in self.store.incidents() if one.subject == subject), None)

    def _open(self, kind: str, subject: str, second: int, term: int) -> Any:
        at = AT + timedelta(seconds=second)
        opening = IncidentOpening(IncidentKind(kind), subject, "eu", "why", at, term)
        return _seen(self.store.open_incident(opening))

    def _change(self, subject: str, state: IncidentState, term: int, old: int, wait: str) -> Any:
        header = self._newest(subject)
        if header is None:
            return None
        ended = state == IncidentState.ENDED
        wanted = header._replace(
            state=state,
            term=term,
            revision=header.revision + old,
            waits_for=wait,
            ended_at=AT if ended else None,
            outcome="over" if ended else "",
        )
        return _seen(self.store.update_incident(wanted))

    def _acknowledge(self, subject: str, by: str) -> Any:
        header = self._newest(subject)
        return _seen(self.store.acknowledge(header.incident_id if header else "x", by, "note"))

    def _switch(self, paused: bool, by: str) -> Any:
        set_to = self.store.set_automation(paused=paused, by=by, reason="r")
        return set_to._replace(changed_at=None)

    def _mark(self, subject: str, hours: int, by: str) -> Any:
        mark = self.store.start_maintenance(subject, self.now + timedelta(hours=hours), by, "r")
        return mark.subject, mark.until - self.now, mark.started_by

    def _unmark(self, subject: str, by: str) -> Any:
        return self.store.end_maintenance(subject, by, "r")

    def _approve(self, subject: str, action: str, by: str) -> Any:
        header = self._newest(subject)
        given = self.store.approve_action(header.incident_id if header else "x", action, by, "r")
        return given[:4]

    def look(self) -> Any:
        """Everything, without the store's own times."""
        store = self.store
        found = store.incidents()
        return (
            [_seen(header) for header in found],
            [_seen(header) for header in store.incidents(open_only=True)],
            [
                [(entry.step, entry.reason) for entry in store.journal(header.incident_id)]
                for header in found
            ],
            store.automation()._replace(changed_at=None),
            [(mark.subject, mark.until - self.now) for mark in store.maintenances()],
            [given[:4] for given in store.approvals()],
        )


def _seen(header: IncidentHeader) -> IncidentHeader:
    return header._replace(acknowledged_at=AT if header.acknowledged_at else None)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS)
def test_every_history_of_incidents_has_the_same_answers_and_the_same_end(
    harness: StoreHarness, steps: list[tuple[Any, ...]]
) -> None:
    """Openings, changes, acknowledgements, orders in any order, against the twin."""
    if isinstance(harness, MemoryHarness):
        pytest.skip("the twin itself")
    ours, twin = Orders(harness), Orders(MemoryHarness())
    for step in steps:
        assert ours.do(step) == twin.do(step), step
    assert ours.look() == twin.look()


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps=STEPS)
def test_at_most_one_incident_of_a_key_is_open_and_what_has_ended_stays_ended(
    harness: StoreHarness, steps: list[tuple[Any, ...]]
) -> None:
    """After every step; revisions and terms only rise."""
    history = Orders(harness)
    before: dict[str, IncidentHeader] = {}
    for step in steps:
        history.do(step)
        found = {one.incident_id: one for one in history.store.incidents()}
        keys = [one.key for one in found.values() if one.state != IncidentState.ENDED]
        assert len(keys) == len(set(keys))
        for identity, old in before.items():
            new = found[identity]
            assert (new.revision, new.term) >= (old.revision, old.term)
            assert new.term >= old.term
            if old.state == IncidentState.ENDED:
                assert (new.state, new.outcome) == (old.state, old.outcome)
        before = found
