"""One tick after another: what is evaluated, told and kept, and what a crash costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.alerts.grouping import GroupingPolicy
from fleet.alerts.rules import AlertingRule, RecordingRule, RuleGroup
from fleet.alerts.sending import SentAlert
from fleet.alerts.silences import encode_silences, new_silence, parse_matcher
from fleet.alerts.state_json import decode_states
from fleet.errors import (
    CircuitOpenError,
    CorruptObjectError,
    InvalidInputError,
    ReceiverUnavailableError,
    StoreUnavailableError,
)
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries
from fleet.ports.alert_store import GROUPS, SILENCES, STATES
from fleet.ports.notifier import Alert, Delivery
from fleet.promql.engine import PromqlEngine
from ops.alert_evaluator import AlertEvaluator, AlertTick
from ops.alert_grouping import GroupedReceiver
from resources.alerts.alertmanager_receiver import AlertmanagerReceiver
from resources.alerts.directory_store import DirectoryAlertStore
from resources.circuit_breakers import CircuitBreakers
from tests.fakes.clock import ManualClock
from tests.fleet.alerts.alerts import sent
from tests.servers.alertmanager import Alertmanager, running_alertmanager
from tests.servers.http_receiver import HttpReceiver, receiving

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
MINUTE = timedelta(minutes=1)
DOWN = AlertingRule(
    "Down",
    "up == 0",
    60_000,
    labels=(("severity", "critical"),),
    annotations=(("summary", "{{ $labels.job }} is down"),),
)
LONG = AlertingRule("Long", "up == 0", 20 * 60_000)
BROKEN = AlertingRule("Broken", "up", labels=(("job", "same"),))
COUNT = RecordingRule("down:count", "count(up == 0)")


class Taker:
    """A receiver of alerts that remembers, or refuses."""

    def __init__(self) -> None:
        """Nothing was taken."""
        self.taken: list[list[SentAlert]] = []
        self.fails = False

    def take(self, alerts: Sequence[SentAlert], now_ms: int) -> str:
        """See the port."""
        if self.fails:
            raise ReceiverUnavailableError("nobody there")
        self.taken.append(list(alerts))
        return f"{len(alerts)} at {now_ms}"


class People:
    """Whoever is told."""

    def __init__(self) -> None:
        """Nobody was told anything."""
        self.told: list[Alert] = []

    def deliver(self, alert: Alert, only: Sequence[str] = ()) -> Delivery:
        """See the port."""
        self.told.append(alert)
        return Delivery(("people",))


class World:
    """Samples, a clock and a folder; evaluators come and go over them."""

    def __init__(self, folder: Path, *rules: AlertingRule | RecordingRule) -> None:
        """Begin at START with two jobs that are up."""
        self.series = MemorySeries()
        self.clock = ManualClock(START)
        self.store = DirectoryAlertStore(folder)
        self.taker = Taker()
        self.group = RuleGroup("g", rules, "f.yml", 60_000)
        self.up = {"a": 1.0, "b": 1.0}
        self.evaluator = self.start()

    def start(self) -> AlertEvaluator:
        """As after a restart of the process."""
        self.evaluator = AlertEvaluator(
            [self.group],
            PromqlEngine(self.series),
            self.series,
            self.taker,
            self.store,
            self.clock,
        )
        return self.evaluator

    def minutes(self, count: int) -> list[AlertTick]:
        """Let minutes pass: each has a scrape and a tick."""
        ticks = []
        for _ in range(count):
            at_ms = int(self.clock.now().timestamp() * 1000)
            for job, value in self.up.items():
                self.series.put(labels_of("up", {"job": job}), at_ms, value)
            ticks.append(self.evaluator.tick())
            self.clock.advance(60)
        return ticks

    def value(self, expr: str) -> list[float]:
        """What a query has now."""
        at_ms = int(self.clock.now().timestamp() * 1000)
        values: list[float] = PromqlEngine(self.series).instant(expr, at_ms).values.tolist()
        return values


def test_alerts_of_a_rule_that_is_removed_end_at_the_next_start(tmp_path: Path) -> None:
    """Their series get a stale marker; those of rules that stay go on."""
    world = World(tmp_path, DOWN, LONG)
    world.minutes(1)
    world.up["a"] = 0.0
    world.minutes(3)
    assert world.value("count(ALERTS) by (alertname)") == [1.0, 1.0]
    world.group = world.group._replace(rules=(LONG,))
    world.start()
    world.minutes(1)
    assert world.value('count({__name__=~"ALERTS.*",alertname="Down"}) or vector(0)') == [0.0]
    assert world.value('ALERTS_FOR_STATE{alertname="Long"}') == [START_MS // 1000 + 60.0]


def test_a_group_is_evaluated_once_in_its_interval_and_its_alerts_are_passed_on(
    tmp_path: Path,
) -> None:
    """Pending, then firing, then resolved; each change is taken at once."""
    world = World(tmp_path, DOWN, COUNT)
    assert world.evaluator.tick().evaluated == ("f.yml;g",)
    world.clock.advance(30)
    assert world.evaluator.tick().evaluated == ()
    world.clock.advance(30)
    world.minutes(1)
    world.up["a"] = 0.0
    pending, firing = world.minutes(2)
    assert (pending.alerts, pending.firing, pending.passed_on) == (1, 0, 0)
    assert (firing.alerts, firing.firing, firing.passed_on) == (1, 1, 1)
    (alert,) = world.taker.taken[-1]
    assert dict(alert.labels) == {"alertname": "Down", "job": "a", "severity": "critical"}
    assert dict(alert.annotations) == {"summary": "a is down"}
    assert alert.ends_at_ms - alert.starts_at_ms == 4 * 60_000
    assert world.value("down:count") == [1.0]
    assert world.value('ALERTS{alertstate="firing"}') == [1.0]
    world.up["a"] = 1.0
    (ended,) = world.minutes(1)
    assert (ended.alerts, ended.passed_on) == (0, 1)
    assert world.taker.taken[-1][0].is_resolved(int(world.clock.now().timestamp() * 1000))
    assert world.value("down:count") == []
    assert world.value("ALERTS") == []


def test_missed_slots_are_skipped_and_never_made_up_for(tmp_path: Path) -> None:
    """After a pause the newest slot is evaluated, once."""
    world = World(tmp_path, DOWN)
    world.minutes(1)
    world.clock.advance(600)
    (tick,) = world.minutes(1)
    assert tick.evaluated == ("f.yml;g",)
    state = decode_states(world.store.read(STATES))
    (group,) = state.groups
    assert group.evaluated_at_ms is not None
    assert group.evaluated_at_ms == START_MS + 11 * 60_000


def test_what_nobody_takes_is_due_again_with_the_next_tick(tmp_path: Path) -> None:
    """A receiver that is down costs time, and no alert; the tick says so."""
    world = World(tmp_path, DOWN)
    world.up["a"] = 0.0
    world.taker.fails = True
    ticks = world.minutes(4)
    assert [one.passed_on for one in ticks] == [0, 0, 0, 0]
    assert "1 alerts were not passed on: nobody there" in ticks[-1].problems
    world.taker.fails = False
    (tick,) = world.minutes(1)
    assert tick.passed_on == 1
    assert world.taker.taken[-1][0].starts_at_ms == START_MS + 60_000


def test_a_rule_that_fails_is_named_and_stops_no_other(tmp_path: Path) -> None:
    """Its error is in the tick and in the document."""
    world = World(tmp_path, BROKEN, DOWN)
    world.up["a"] = 0.0
    tick = world.minutes(2)[-1]
    (problem,) = tick.problems
    assert problem.startswith("rule Broken: ")
    assert tick.firing == 1
    (group,) = decode_states(world.store.read(STATES)).groups
    assert [rule for rule, _ in group.errors] == ["Broken"]


def test_waiting_goes_on_after_a_restart(tmp_path: Path) -> None:
    """12 of 20 minutes waited: fires 10 minutes (the grace period) after the second evaluation."""
    world = World(tmp_path, LONG)
    world.up["a"] = 0.0
    world.minutes(13)
    world.start()
    ticks = world.minutes(14)
    assert [one.firing for one in ticks].index(1) == 11
    fresh = World(tmp_path / "other", LONG)
    fresh.up["a"] = 0.0
    assert fresh.minutes(21)[-1].firing == 1


def test_series_of_alerts_begin_again_only_when_waiting_was_restored(tmp_path: Path) -> None:
    """A fresh ALERTS_FOR_STATE would overwrite what had been waited."""
    world = World(tmp_path, LONG)
    world.up["a"] = 0.0
    world.minutes(3)
    world.start()
    world.minutes(1)
    assert world.value("ALERTS_FOR_STATE") == [START_MS / 1000]
    world.minutes(2)
    (since,) = world.value("ALERTS_FOR_STATE")
    assert since == START_MS / 1000 + 120


def test_a_crash_before_the_states_are_kept_passes_alerts_on_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told twice rather than not at all; the document is the old one, whole."""
    world = World(tmp_path, DOWN)
    world.up["a"] = 0.0
    world.minutes(1)
    before = world.store.read(STATES)

    def broken(name: str, text: str) -> None:
        raise StoreUnavailableError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "write", broken)
        (tick,) = world.minutes(1)
    assert tick.passed_on == 1
    assert "the states of alerts were not kept: disk full" in tick.problems
    assert world.store.read(STATES) == before
    world.start()
    assert [one.passed_on for one in world.minutes(2)] == [0, 1]


def test_a_damaged_document_is_set_aside_and_said_so(tmp_path: Path) -> None:
    """It keeps its bytes for whoever looks into it."""
    world = World(tmp_path, DOWN)
    world.minutes(1)
    (path,) = tmp_path.glob("states*")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptObjectError, match="checksum"):
        world.store.read(STATES)
    world.start()
    (tick,) = world.minutes(1)
    assert any("set aside as" in problem for problem in tick.problems)
    assert tick.evaluated
    assert len(list(tmp_path.glob("*.damaged"))) == 1
    assert world.store.read(STATES) is not None


def test_one_group_cannot_stand_twice(tmp_path: Path) -> None:
    """Their alerts would overwrite each other's."""
    world = World(tmp_path, DOWN)
    world.group = RuleGroup("g", (DOWN,), "f.yml")
    with pytest.raises(InvalidInputError, match="each group"):
        AlertEvaluator(
            [world.group, world.group],
            PromqlEngine(world.series),
            world.series,
            world.taker,
            world.store,
            world.clock,
        )


def grouped(world: World, people: People) -> None:
    """Let people be told, without waiting."""
    policy = GroupingPolicy(group_wait_ms=0, group_interval_ms=60_000)
    world.taker = GroupedReceiver(world.store, people, policy)  # type: ignore[assignment]
    world.start()


def test_people_are_told_once_and_of_the_end(tmp_path: Path) -> None:
    """Also over a restart in between: what was told is remembered."""
    world, people = World(tmp_path, DOWN), People()
    grouped(world, people)
    world.up.update(a=0.0, b=0.0)
    world.minutes(4)
    assert [(one.subject, one.severity) for one in people.told] == [("Down (2 alerts)", "error")]
    grouped(world, people)
    world.minutes(3)
    world.up.update(a=1.0, b=1.0)
    world.minutes(3)
    assert [one.severity for one in people.told] == ["error", "resolved"]
    assert people.told[0].key == people.told[1].key


def test_a_silence_of_another_process_holds_from_the_next_tick(tmp_path: Path) -> None:
    """The file is read anew; silences that are damaged tell nobody, and say so."""
    world, people = World(tmp_path, DOWN), People()
    grouped(world, people)
    silence = new_silence([parse_matcher("Down")], START, START + 10 * MINUTE, "ann", "work")
    DirectoryAlertStore(tmp_path).write(SILENCES, encode_silences([silence]))
    world.up["a"] = 0.0
    world.minutes(8)
    assert people.told == []
    world.minutes(6)
    assert len(people.told) == 1
    (path,) = tmp_path.glob("silences*")
    path.write_bytes(b"nonsense")
    (tick,) = world.minutes(1)
    assert any("silences" in problem for problem in tick.problems)


def test_damaged_groups_are_set_aside_and_told_anew(tmp_path: Path) -> None:
    """At worst somebody hears the same twice."""
    world, people = World(tmp_path, DOWN), People()
    grouped(world, people)
    world.up["a"] = 0.0
    world.minutes(3)
    DirectoryAlertStore(tmp_path).write(GROUPS, "{}")
    grouped(world, people)
    ticks = world.minutes(3)
    assert "set aside as" in ticks[0].told
    assert len(people.told) == 2


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    """Takes what Alertmanager passes on."""
    with receiving() as server:
        yield server


@pytest.fixture
def alertmanager(receiver: HttpReceiver, tmp_path: Path) -> Iterator[Alertmanager]:
    """The real one."""
    with running_alertmanager(tmp_path, f"{receiver.url}/page") as server:
        yield server


def test_a_real_alertmanager_fires_resolves_and_forgets_what_nobody_sends(
    alertmanager: Alertmanager, receiver: HttpReceiver, tmp_path: Path
) -> None:
    """Times are the wall clock's: Alertmanager judges by its own."""
    world = World(tmp_path / "alerts", DOWN)
    begin = datetime.now(UTC).replace(second=0, microsecond=0) - 2 * MINUTE
    world.clock = ManualClock(begin)
    breaker = CircuitBreakers(world.clock).breaker("alerts/alertmanager")
    world.taker = AlertmanagerReceiver(  # type: ignore[assignment]
        alertmanager.url, breaker, generator_url="http://stateroom/graph"
    )
    world.start()
    world.up["a"] = 0.0
    assert world.minutes(2)[-1].passed_on == 1
    (page,) = receiver.wait_for(1)
    (firing,) = page.json()["alerts"]
    assert firing["status"] == "firing"
    assert firing["labels"] == {"alertname": "Down", "job": "a", "severity": "critical"}
    assert firing["generatorURL"] == "http://stateroom/graph?expr=up%20%3D%3D%200"
    (posted,) = alertmanager.alerts()
    assert posted["annotations"] == {"summary": "a is down"}
    world.up["a"] = 1.0
    world.minutes(1)
    assert [one.json()["alerts"][0]["status"] for one in receiver.wait_for(2)] == [
        "firing",
        "resolved",
    ]
    assert alertmanager.alerts() == []


def test_an_alertmanager_that_is_down_is_not_asked_for_ever() -> None:
    """After five failures the circuit is open for a while; then one call finds it well."""
    clock = ManualClock(START)
    breaker = CircuitBreakers(clock).breaker("alerts/alertmanager")
    with receiving() as server:
        server.status = 503
        receiver = AlertmanagerReceiver(server.url, breaker)
        for _ in range(5):
            with pytest.raises(ReceiverUnavailableError, match="503"):
                receiver.take([sent("a", 0, 9)], 0)
        with pytest.raises(CircuitOpenError):
            receiver.take([sent("a", 0, 9)], 0)
        assert len(server.posted) == 5
        server.status = 200
        clock.advance(5)
        assert receiver.take([sent("a", 0, 9)], 0).startswith("1 alerts posted")
        assert receiver.take([], 0) == "nothing is due"
        assert receiver.take([sent(str(job), 0, 9) for job in range(2500)], 0)
        assert [len(one.json()) for one in server.posted[6:]] == [1000, 1000, 500]
