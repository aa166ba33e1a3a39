"""The built-in agents on this machine and on recorded texts: they count, remember and speak."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stateroom_agent import observers
from stateroom_agent.agent import Agent
from stateroom_agent.errors import InvalidSetupError
from stateroom_agent.observation import HISTORY_MAX, Observation
from stateroom_agent.observer_notes import (
    CPU,
    DISK,
    MEMORY,
    NETWORK,
    Wording,
    compose_note,
    data_rate,
    is_noteworthy,
    percent,
)
from stateroom_agent.warm_up import warm_up
from tests.fakes.agent_server import AgentServer

GOLDEN = Path(__file__).parents[1] / "golden"
AT_S = 1_772_373_780
"""2026-03-01 14:03 UTC, a Sunday."""
MAKERS: dict[str, Callable[[Agent], observers.Observer]] = {
    "cpu": observers.cpu_observer,
    "memory": observers.memory_observer,
    "disk": observers.disk_observer,
    "network": observers.network_observer,
}
AT_ONCE = {"note_interval_s": "0.000001", "activity_interval_s": "0.000001"}


@contextmanager
def _agent(server: AgentServer, **arguments: str) -> Iterator[Agent]:
    agent = Agent("agent-1", "net-1", 1, str(server.socket_path), arguments, give_up_s=20.0)
    try:
        yield agent
    finally:
        agent.close()


@pytest.mark.parametrize("kind", MAKERS)
def test_an_observer_reads_this_machine_and_reports_all_it_should(
    server: AgentServer, kind: str
) -> None:
    """State, activities, notes and metrics of three real readings."""
    with _agent(server, **AT_ONCE) as agent:
        observer = MAKERS[kind](agent)
        for _ in range(3):
            observer.step()
        agent.save_state(observer.observation.dump())
    state = json.loads(server.store.stored["agent-1"].body)
    assert (state["lives"], state["tasks"], state["errors"]) == (1, 3, 0)
    leading = next(iter(state["statistics"].values()))
    assert leading["count"] == 3
    assert 0 <= leading["min"] <= leading["mean"] <= leading["max"]
    if kind != "network":
        assert leading["max"] <= 100
    activities = server.store.activities("agent-1", 9)
    assert len(activities) == 3
    assert {(a.kind, a.ok) for a in activities} == {(f"observe-{kind}", True)}
    assert len(server.store.note_log) == 3
    metrics = server.directory.entries()[0].metrics
    assert metrics.keys() == {"cpu_usage", "memory_usage", "tasks", "errors", "response_time_s"}
    assert metrics["tasks"] == 3.0
    assert metrics["memory_usage"] > 1e6
    assert metrics["response_time_s"] > 0


@pytest.mark.parametrize("kind", MAKERS)
def test_counts_go_on_in_the_next_life(server: AgentServer, kind: str) -> None:
    """The state survives; the first note of the new life says so."""
    for _ in range(2):
        with _agent(server, **AT_ONCE) as agent:
            observer = MAKERS[kind](agent)
            observer.step()
            agent.save_state(observer.observation.dump())
    state = json.loads(server.store.stored["agent-1"].body)
    assert (state["lives"], state["tasks"]) == (2, 2)
    assert next(iter(state["statistics"].values()))["count"] == 2
    texts = [note.text for note in server.store.notes("net-1", "", 9)]
    assert "restart" not in texts[0]
    assert texts[1].endswith("I am back after a restart, with 2 readings remembered.")


def test_recorded_readings_give_known_statistics(server: AgentServer, tmp_path: Path) -> None:
    """A copy of recorded /proc texts, changed between two readings by a known amount."""
    shutil.copytree(GOLDEN / "proc", tmp_path / "proc")
    (tmp_path / "proc" / "self").mkdir()
    with _agent(server, proc_path=str(tmp_path / "proc")) as agent:
        cpu, memory = observers.cpu_observer(agent), observers.memory_observer(agent)
        stat = tmp_path / "proc" / "stat"
        stat.write_text("cpu  78084 11287 17518 862786 1718 0 1071 119 0 0\n")
        cpu.step()
        memory.step()
    assert cpu.observation.statistics["busy_percent"].last == pytest.approx(25.0)
    used = memory.observation.statistics["used_percent"].last
    assert used == pytest.approx(100 * (24684084 - 23987488) / 24684084)


@pytest.mark.parametrize("damage", ["missing", "foreign"])
def test_a_reading_that_fails_is_counted_and_logged_and_the_observer_goes_on(
    server: AgentServer, tmp_path: Path, damage: str
) -> None:
    """Not taken for zero, not the end of the agent."""
    shutil.copytree(GOLDEN / "proc", tmp_path / "proc")
    meminfo = tmp_path / "proc" / "meminfo"
    with _agent(server, proc_path=str(tmp_path / "proc"), **AT_ONCE) as agent:
        observer = observers.memory_observer(agent)
        good = meminfo.read_text()
        if damage == "missing":
            meminfo.unlink()
        else:
            meminfo.write_text("nothing known\n")
        observer.step()
        meminfo.write_text(good)
        observer.step()
    assert (observer.observation.tasks, observer.observation.errors) == (2, 1)
    assert observer.observation.statistics["used_percent"].count == 1
    late, early = server.store.activities("agent-1", 9)
    assert (early.ok, late.ok) == (False, True)
    assert "Error" in early.detail
    assert server.directory.entries()[0].metrics["errors"] == 1.0


def test_the_disk_observer_watches_the_declared_path(server: AgentServer, tmp_path: Path) -> None:
    """And names it in its notes; a path that does not exist is a failed activity."""
    with _agent(server, path=str(tmp_path), **AT_ONCE) as agent:
        observers.disk_observer(agent).step()
    with _agent(server, path="/no/such/path", **AT_ONCE) as agent:
        observers.disk_observer(agent).step()
    assert [note.text.count(str(tmp_path)) for note in server.store.note_log.values()] == [1]
    assert "No such file" in server.store.activities("agent-1", 1)[0].detail


def test_notes_come_early_in_a_life_then_about_once_a_minute(
    server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes of steps every five seconds, with the clock in the test's hand."""
    now_s = 1000.0
    monkeypatch.setattr(observers.time, "monotonic", lambda: now_s)
    with _agent(server) as agent:
        observer = observers.memory_observer(agent)
        noted: list[float] = []
        monkeypatch.setattr(agent, "note", lambda text: noted.append(now_s - 1000.0))
        monkeypatch.setattr(agent, "activity", lambda *a, **k: None)
        monkeypatch.setattr(agent, "metrics", lambda values: None)
        monkeypatch.setattr(observers, "is_noteworthy", lambda *a: False)
        for _ in range(120):
            now_s += 5.0
            observer.step()
    assert noted[0] <= 20.0
    gaps = [later - earlier for earlier, later in pairwise(noted)]
    assert set(gaps) == {60.0}
    assert len(noted) == 10


def test_the_declared_intervals_must_be_times(server: AgentServer) -> None:
    """A wrong argument ends the agent at once, with its name."""
    with (
        _agent(server, note_interval_s="soon") as agent,
        pytest.raises(InvalidSetupError, match="note_interval_s"),
    ):
        observers.cpu_observer(agent)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b'{"format": 2}', b'{"format": 1, "lives": "x"}']
)
def test_a_state_that_is_no_observers_is_refused(server: AgentServer, body: bytes) -> None:
    """It is not overwritten with an empty one."""
    with _agent(server) as agent:
        agent.save_state(body)
        with pytest.raises(InvalidSetupError, match="not an observer's"):
            observers.cpu_observer(agent)
    assert server.store.stored["agent-1"].body == body


@given(
    readings=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e12)), max_size=40),
    gap_s=st.floats(1, 400),
)
def test_what_is_dumped_is_loaded(readings: list[tuple[float, float]], gap_s: float) -> None:
    """Byte for byte; the history never grows beyond an hour."""
    observation = Observation()
    for number, (first, second) in enumerate(readings):
        observation.tasks += 1
        observation.add({"a": first, "b": second}, AT_S + number * gap_s)
    body = observation.dump()
    assert Observation.load(body).dump() == body
    assert len(observation.history) <= HISTORY_MAX
    assert len(body) < 2048


def _observed(wording: Wording, values: list[float], every_s: float) -> Observation:
    observation = Observation()
    observation.lives = 1
    for number, value in enumerate(values):
        observation.tasks += 1
        observation.add({wording.leading: value}, AT_S - (len(values) - 1 - number) * every_s)
    return observation


def test_the_sentences_are_as_recorded() -> None:
    """Every wording with every kind of fact, in the order of the readings."""
    lines = []
    for name, wording, place, scale in [
        ("cpu", CPU, "", 1.0),
        ("memory", MEMORY, "", 1.0),
        ("disk", DISK, "/", 1.0),
        ("network", NETWORK, "", 12_345.6),
    ]:
        for count in range(1, 13, 2):
            values = [(40.0 + 7 * (n % 3) + n) * scale for n in range(count)]
            observation = _observed(wording, values, 300.0)
            text = compose_note(wording, observation, AT_S, first=count == 1, place=place)
            lines.append(f"{name} {count}: {text}")
        for count in (30, 31):
            values = [1.0 * scale] * (count - 1) + [96.0 * scale]
            observation = _observed(wording, values, 5.0)
            observation.lives = 2
            text = compose_note(wording, observation, AT_S, first=True, place=place)
            lines.append(f"{name} spike {count}: {text}")
    values = [81.0] + [82.0] * 11 + [83.0]
    hour = _observed(DISK, values, 300.0)
    hour.tasks = 10
    lines.append("hour: " + compose_note(DISK, hour, AT_S, first=False, place="/"))
    golden = (GOLDEN / "observer_notes.txt").read_text()
    assert "\n".join(lines) + "\n" == golden


def test_notes_vary() -> None:
    """Ten notes in a row are not one sentence ten times."""
    texts = set()
    for count in range(20, 30):
        observation = _observed(CPU, [10.0 + n % 2 for n in range(count)], 5.0)
        texts.add(compose_note(CPU, observation, AT_S + 60 * count, first=False))
    assert len({text.split(" ")[0] for text in texts}) >= 4


def test_only_what_is_far_from_usual_or_high_is_noteworthy() -> None:
    """A steady reading is not, a jump is, a full disk is."""
    steady = _observed(CPU, [10.0 + n % 2 for n in range(50)], 5.0)
    assert not is_noteworthy(CPU, steady.statistics["busy_percent"])
    steady.statistics["busy_percent"].add(60.0)
    assert is_noteworthy(CPU, steady.statistics["busy_percent"])
    assert not is_noteworthy(CPU, _observed(CPU, [1.0, 60.0], 5.0).statistics["busy_percent"])
    assert is_noteworthy(DISK, _observed(DISK, [86.0], 5.0).statistics["used_percent"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0 B/s"),
        (999.0, "999 B/s"),
        (1000.0, "1.0 kB/s"),
        (999_600.0, "1.0 MB/s"),
        (12_345_678.0, "12 MB/s"),
        (5e12, "5000 GB/s"),
    ],
)
def test_rates_read_naturally(value: float, text: str) -> None:
    """Two figures and a unit."""
    assert data_rate(value) == text
    assert percent(9.96) == "10 %"
    assert percent(0.04) == "0.0 %"


def test_warming_up_leaves_nothing_behind() -> None:
    """No thread, no descriptor, no signal handler: a fork may follow at once."""

    def seen() -> tuple[int, int, object]:
        handler = signal.getsignal(signal.SIGTERM)
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), handler

    warm_up()
    before = seen()
    warm_up()
    assert seen() == before
