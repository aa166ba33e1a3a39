"""Everybody hears of everything that matters, once, and of its end, whatever fails in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState, Severity
from fleet.notification_json import decode_memory, encode_memory
from fleet.notifications import (
    NotificationMemory,
    NotificationPolicy,
    note_delivery,
    plan_notifications,
)
from fleet.ports.notifier import Alert, Delivery, FailedReceiver
from tests.examples import examples
from tests.fleet.incident_records import ended, header_of, later

POLICY = NotificationPolicy(group_wait_s=1.0, group_interval_s=30.0, remind_every_s=600.0)
PAGER, CHAT = "pager", "chat"


class Night:
    """Incidents, receivers and the memory between looks."""

    def __init__(self, policy: NotificationPolicy = POLICY) -> None:
        """Nothing has happened, and both receivers answer."""
        self.policy = policy
        self.now_s = 0.0
        self.memory = NotificationMemory()
        self.incidents: dict[str, IncidentHeader] = {}
        self.heard: dict[str, list[Alert]] = {PAGER: [], CHAT: []}
        self.away: set[str] = set()
        self.refusing: set[str] = set()

    def begin(self, *subjects: str, kind: str = "node", region: str = "eu", **extra: str) -> None:
        """Open incidents now."""
        for subject in subjects:
            header = header_of(subject, IncidentKind(kind), region, self.now_s)
            self.incidents[subject] = header._replace(**extra)  # type: ignore[arg-type]

    def change(self, subject: str, **changes: object) -> None:
        """Change an incident."""
        self.incidents[subject] = self.incidents[subject]._replace(**changes)  # type: ignore[arg-type]

    def end(self, subject: str) -> None:
        """End an incident now."""
        header = self.incidents[subject]
        after_s = (later(self.now_s) - header.opened_at).total_seconds()
        self.incidents[subject] = ended(header, after_s)

    def acknowledge(self, subject: str) -> None:
        """Somebody has it."""
        self.change(subject, acknowledged_at=later(self.now_s), acknowledged_by="kim")

    def look(self, after_s: float = 2.0) -> list[tuple[str, str, int]]:
        """Let time pass and look: severity, subject and level of what anybody heard."""
        self.now_s += after_s
        now = later(self.now_s)
        told = []
        self.memory = decode_memory(encode_memory(self.memory))  # as a cursor keeps it
        for one in plan_notifications(self.incidents.values(), self.memory, self.policy, now):
            delivery = self._deliver(one.alert, one.only)
            self.memory = note_delivery(self.memory, one, delivery, now)
            if delivery.reached:
                told.append((one.alert.severity, one.alert.subject, one.alert.escalation))
        return told

    def _deliver(self, alert: Alert, only: tuple[str, ...]) -> Delivery:
        reached, failed = [], []
        for name in only or (PAGER, CHAT):
            if name in self.away or name in self.refusing:
                failed.append(FailedReceiver(name, "no answer", name in self.away))
            else:
                self.heard[name].append(alert)
                reached.append(name)
        return Delivery(tuple(reached), tuple(failed))


NODE = "Node node-3 in eu"


def test_an_incident_is_told_once_and_its_end_once() -> None:
    """However often somebody looks; the wait for others like it comes first."""
    night = Night()
    night.begin("node-3")
    assert night.look(0.5) == []
    assert night.look() == [("error", NODE, 0)]
    assert night.look() == night.look() == []
    night.end("node-3")
    assert night.look() == [("resolved", NODE, 0)]
    assert night.look() == []
    first, last = night.heard[PAGER]
    assert first.identity == last.identity == night.incidents["node-3"].incident_id
    assert first.facts == last.facts
    assert "stateroom incident node-node-3-" in first.text
    assert last.text.startswith("Ended after ")


def test_an_incident_that_ended_before_anybody_heard_is_told_all_the_same() -> None:
    """A failover that took four seconds is still a node that died; it is told, and resolved."""
    night = Night()
    night.begin("node-3")
    night.end("node-3")
    assert night.look(60) == [("error", NODE, 0)]
    assert "Already ended after" in night.heard[PAGER][0].text
    assert night.look() == [("resolved", NODE, 0)]
    assert night.look() == []


def test_history_is_not_told() -> None:
    """A notifier that starts with an empty memory does not page for last week."""
    night = Night()
    night.begin("node-3")
    night.end("node-3")
    assert night.look(601) == []


def test_nobody_answers_and_the_alert_escalates_level_by_level() -> None:
    """At 300 s and 900 s after the first word, then it is repeated."""
    night = Night()
    night.begin("node-3")
    night.look()
    assert night.look(299) == []
    assert night.look(1) == [("error", NODE, 1)]
    assert night.look(599) == []
    assert night.look(1) == [("error", NODE, 2)]
    assert night.look(600) == [("error", NODE, 2)]
    assert "Nobody has acknowledged it for 25 min." in night.heard[PAGER][-1].text


def test_an_acknowledgement_ends_escalation_and_repetition() -> None:
    """Its end is told all the same, to every level that was woken."""
    night = Night()
    night.begin("node-3")
    night.look()
    night.look(300)
    night.acknowledge("node-3")
    assert night.look(5000) == []
    night.end("node-3")
    assert night.look() == [("resolved", NODE, 1)]


def test_what_waits_for_a_person_is_told_at_once_also_when_it_was_acknowledged() -> None:
    """Whoever has it must hear that it cannot go on alone; once for each wish."""
    night = Night()
    night.begin("node-3")
    night.look()
    night.acknowledge("node-3")
    night.change("node-3", waits_for="move_node:node/node-3")
    assert night.look() == [("error", NODE, 0)]
    assert "allow `move_node:node/node-3`" in night.heard[PAGER][-1].text
    assert night.look() == []
    night.change("node-3", waits_for="")
    assert night.look() == []


def test_a_warning_that_becomes_an_error_is_told_again() -> None:
    """The other way round it is not."""
    night = Night()
    night.begin("node-3", severity=Severity.WARN)
    assert night.look() == [("warn", NODE, 0)]
    night.change("node-3", severity=Severity.ERROR)
    assert night.look() == [("error", NODE, 0)]
    night.change("node-3", severity=Severity.WARN)
    assert night.look() == []


def test_many_of_one_region_are_one_alert_which_others_join() -> None:
    """Fifty nodes are one page; late ones are told together, the end when the last has ended."""
    night = Night()
    names = [f"node-{number:02d}" for number in range(50)]
    night.begin(*names[:48])
    many = "Several node incidents in eu"
    assert night.look() == [("error", many, 0)]
    assert "node-00, node-01" in night.heard[PAGER][0].text
    assert "and 38 more" in night.heard[PAGER][0].text
    night.begin(names[48])
    assert night.look() == []
    night.begin(names[49])
    assert night.look(30) == [("error", many, 0)]
    for name in names[:-1]:
        night.end(name)
    assert night.look(60) == []
    night.end(names[-1])
    assert night.look() == [("resolved", many, 0)]
    assert night.look() == []
    assert night.heard[PAGER][-1].text == "All of them have ended."


def test_one_acknowledgement_is_enough_for_a_group() -> None:
    """Somebody is on it."""
    night = Night()
    night.begin("a", "b", "c")
    night.look()
    night.acknowledge("b")
    assert night.look(5000) == []


def test_nodes_of_a_region_that_has_an_incident_are_not_told_singly() -> None:
    """The region's alert stands for them; those left when it has ended are told then."""
    night = Night()
    night.begin("eu", kind="region")
    night.begin("a", "b", "c", "d")
    night.begin("far", region="us")
    assert night.look() == [("error", "Node far in us", 0), ("error", "Region eu", 0)]
    for name in ("a", "b", "c", "eu"):
        night.end(name)
    assert night.look() == [("error", "Node d in eu", 0), ("resolved", "Region eu", 0)]


def test_an_alert_that_reached_nobody_is_raised_again_and_not_at_every_look() -> None:
    """Nothing is remembered as told that nobody heard."""
    night = Night()
    night.away = {PAGER, CHAT}
    night.begin("node-3")
    assert night.look() == night.look() == []
    night.away = set()
    assert night.look(5) == []
    assert night.look(15) == [("error", NODE, 0)]
    night.away = {PAGER, CHAT}
    night.end("node-3")
    night.look()
    night.away = set()
    assert night.look(20) == [("resolved", NODE, 0)]


def test_a_receiver_that_was_missed_gets_the_alert_alone() -> None:
    """The others do not hear it twice; it is tried every 15 s, for an hour."""
    night = Night()
    night.away = {CHAT}
    night.begin("node-3")
    assert night.look() == [("error", NODE, 0)]
    assert night.look(20) == []
    night.away = set()
    assert night.look(20) == [("error", NODE, 0)]
    assert [len(night.heard[name]) for name in (PAGER, CHAT)] == [1, 1]
    assert night.look(20) == []


def test_a_receiver_that_refuses_is_not_tried_again() -> None:
    """Only new settings can help; the others were reached."""
    night = Night()
    night.refusing = {CHAT}
    night.begin("node-3")
    night.look()
    night.refusing = set()
    assert night.look(60) == []
    assert night.heard[CHAT] == []


def test_a_receiver_that_missed_the_end_gets_it_alone_and_never_the_beginning_after_it() -> None:
    """What is owed is the last word."""
    night = Night()
    night.away = {CHAT}
    night.begin("node-3")
    night.look()
    night.end("node-3")
    assert night.look() == [("resolved", NODE, 0)]
    night.away = set()
    assert night.look(20) == [("resolved", NODE, 0)]
    assert [alert.severity for alert in night.heard[CHAT]] == ["resolved"]
    assert night.look(20) == []
    assert night.memory.told == {}


def test_what_is_owed_for_too_long_is_forgotten() -> None:
    """A receiver that comes back after an hour hears what is new."""
    night = Night(NotificationPolicy(escalate_after_s=(), remind_every_s=1e6))
    night.away = {CHAT}
    night.begin("node-3")
    night.look()
    night.away = set()
    assert night.look(3600) == []


@pytest.mark.parametrize("text", [None, "", "no", "[]", "{}", '{"format":2}', '{"format":1}',
    '{"format":1,"told":{"x":{}},"failed":{},"done":{}}',
    '{"format":1,"told":{},"failed":{"x":"2026-01-01"},"done":{}}'])  # fmt: skip
def test_a_memory_that_cannot_be_read_is_none(text: str | None) -> None:
    """At worst everything is told once more."""
    assert decode_memory(text) == NotificationMemory()


@pytest.mark.parametrize(
    "wrong",
    [
        {"escalate_after_s": (300.0, 300.0)},
        {"escalate_after_s": (0.0,)},
        {"remind_every_s": 0.0},
        {"owed_for_s": -1.0},
        {"ended_for_s": 50_000.0},
        {"group_wait_s": -1.0},
        {"group_interval_s": -1.0},
        {"group_min": 1},
    ],
)
def test_a_policy_that_would_page_for_ever_or_never_is_refused(wrong: dict[str, object]) -> None:
    """The message names the field."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        NotificationPolicy(**wrong)  # type: ignore[arg-type]


SUBJECTS = [f"n{number}" for number in range(6)]
EVENTS: dict[str, Callable[[Night, str], None]] = {
    "begin": lambda night, name: (
        None if name in night.incidents else night.begin(name, region="eu" if name < "n4" else "us")
    ),
    "region": lambda night, _: (
        None if "eu" in night.incidents else night.begin("eu", kind="region", region="eu")
    ),
    "end": lambda night, name: night.end(name) if _is_open(night, name) else None,
    "end_region": lambda night, _: night.end("eu") if _is_open(night, "eu") else None,
    "acknowledge": lambda night, name: night.acknowledge(name) if _is_open(night, name) else None,
    "chat_away": lambda night, _: night.away.add(CHAT),
    "pager_away": lambda night, _: night.away.add(PAGER),
    "all_back": lambda night, _: night.away.clear(),
}


def _is_open(night: Night, name: str) -> bool:
    return name in night.incidents and night.incidents[name].state != IncidentState.ENDED


@settings(max_examples=examples(150))
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(EVENTS)), st.sampled_from(SUBJECTS), st.floats(0, 50)),
        max_size=25,
    )
)
def test_after_every_night_everybody_has_heard_a_beginning_and_an_end_of_the_same_alerts(
    events: list[tuple[str, str, float]],
) -> None:
    """Whatever fails meanwhile, in any order: the last word of every alert is its end.

    Every incident is in an alert that was told, or belongs to a region's. Nobody hears an end
    twice, or of an alert whose beginning was not told to anybody.
    """
    night = Night()
    for name, subject, pause_s in events:
        EVENTS[name](night, subject)
        night.look(pause_s)
    night.away = set()
    for name in list(night.incidents):
        if _is_open(night, name):
            night.end(name)
    for _ in range(8):
        night.look(20)
    assert night.look(20) == []
    assert night.memory.told == {}
    for heard in night.heard.values():
        ends = Counter(alert.identity for alert in heard if alert.severity == "resolved")
        assert set(ends.values()) <= {1}
        last = {alert.identity: alert.severity for alert in heard}
        assert set(last.values()) <= {"resolved"}, "an alert that never ended"
    told = {member for alert in night.heard[PAGER] + night.heard[CHAT] for member in _named(alert)}
    regions = [one for one in night.incidents.values() if one.kind == IncidentKind.REGION]
    for header in night.incidents.values():
        covered = header.region in {one.region for one in regions}
        assert header.subject in told or covered


def _named(alert: Alert) -> set[str]:
    return {word.strip(",. ") for word in f"{alert.subject} {alert.text}".split()}


def test_an_alert_of_a_thousand_incidents_is_one_line() -> None:
    """It fits on a telephone."""
    night = Night()
    night.begin(*[f"node-{number:04d}" for number in range(1000)])
    night.look(timedelta(seconds=5).total_seconds())
    (alert,) = night.heard[PAGER]
    assert len(alert.text) < 400
    assert "\n" not in alert.text
