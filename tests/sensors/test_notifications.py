"""People hear of an incident, of nothing twice, and of its end, across looks and processes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from fleet.incidents import IncidentKind, IncidentOpening, IncidentState
from fleet.notifications import NotificationPolicy
from fleet.ports.notifier import Alert, Delivery, FailedReceiver
from sensors.notifications import tell_incidents
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore


@dataclass
class Pager:
    """A receiver that can be away."""

    away: bool = False
    heard: list[Alert] = field(default_factory=list)

    def deliver(self, alert: Alert, only: Collection[str] = ()) -> Delivery:
        """Take it, unless away."""
        del only
        if self.away:
            return Delivery((), (FailedReceiver("pager", "away", again=True),))
        self.heard.append(alert)
        return Delivery(("pager",))


@dataclass
class Night:
    """A store with incidents, and what is remembered between looks."""

    clock: ManualClock = field(default_factory=ManualClock)
    pager: Pager = field(default_factory=Pager)
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Nothing has happened."""
        self.store = InMemoryControlStore(self.clock)

    def look(self, seconds: float = 5.0) -> list[str]:
        """What is heard in the next look."""
        self.clock.advance(seconds)
        before = len(self.pager.heard)
        _, self.cursor = tell_incidents(
            self.store, self.pager, self.cursor, self.now(), NotificationPolicy()
        )
        return [one.severity for one in self.pager.heard[before:]]

    def now(self) -> datetime:
        """Of the clock."""
        return self.clock.now()

    def open(self) -> str:
        """A node fails."""
        opening = IncidentOpening(IncidentKind.NODE, "n1", "eu", "it is silent", self.now())
        return self.store.open_incident(opening).incident_id

    def end(self, incident_id: str) -> None:
        """It is over."""
        header = self.store.incident(incident_id)
        assert header is not None
        self.store.update_incident(
            header._replace(state=IncidentState.ENDED, ended_at=self.now(), outcome="moved")
        )


def test_an_incident_is_told_once_and_its_end_once() -> None:
    """However often anybody looks."""
    night = Night()
    assert night.look() == []
    incident = night.open()
    assert [night.look() for _ in range(4)] == [["error"], [], [], []]
    night.end(incident)
    assert [night.look() for _ in range(3)] == [["resolved"], [], []]
    assert {one.facts for one in night.pager.heard} != set()


def test_who_was_not_reached_is_told_later() -> None:
    """Nothing is taken for told that nobody took."""
    night = Night()
    night.open()
    night.pager.away = True
    assert night.look() == []
    night.pager.away = False
    assert night.look(20.0) == ["error"]


def test_nobody_who_answers_is_asked_again_and_louder() -> None:
    """Until somebody acknowledges."""
    night = Night()
    incident = night.open()
    night.look()
    assert night.look(301.0) == ["error"]
    assert night.pager.heard[-1].escalation == 1
    night.store.acknowledge(incident, "ada")
    assert night.look(901.0) == []


def test_a_memory_that_cannot_be_read_tells_what_is_open_again() -> None:
    """Rather twice than never."""
    night = Night()
    night.open()
    night.look()
    night.cursor = "{broken"
    assert night.look() == ["error"]
