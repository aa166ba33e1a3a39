"""The SDK against a real server: durable, repeatable, fenced, patient."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stateroom_agent import agent as agent_module
from stateroom_agent.agent import STATE_MAX_BYTES, Agent
from stateroom_agent.errors import (
    ConflictError,
    FencedError,
    InvalidSetupError,
    RefusedError,
    TooLargeError,
    UnreachableError,
)
from tests.examples import examples
from tests.fakes.agent_server import AgentServer, serving
from tests.fakes.cutting_proxy import cutting


@contextmanager
def _agent(
    socket_path: Path, epoch: int = 1, give_up_s: float = 20.0, agent_id: str = "agent-1"
) -> Iterator[Agent]:
    made = Agent(agent_id, "net-1", epoch, str(socket_path), give_up_s=give_up_s)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def agent(server: AgentServer) -> Iterator[Agent]:
    """agent-1 under epoch 1."""
    with _agent(server.socket_path) as made:
        yield made


def test_state_versions_are_tracked_from_the_first_load(agent: Agent, server: AgentServer) -> None:
    """A new agent has no state; each save is one version on."""
    assert agent.load_state() is None
    assert [agent.save_state(body) for body in (b"a", b"", b"c" * 300_000)] == [1, 2, 3]
    assert agent.load_state() == b"c" * 300_000
    with _agent(server.socket_path) as next_life:
        assert next_life.save_state(b"d") == 4


def test_records_metrics_and_heartbeats_arrive(agent: Agent, server: AgentServer) -> None:
    """Each method does what it says, durably."""
    assert agent.register()["workload"] == "watch"
    assert (agent.heartbeat_interval_s, agent.checkpoint_interval_s) == (0.1, 0.1)
    agent.activity("poll", ok=False, duration_s=0.25, detail="timed out")
    agent.note("Größe: 3 µm")
    agent.metrics({"tasks": 2})
    assert agent.heartbeat() is False
    (activity,) = server.store.activities("agent-1", 9)
    assert (activity.kind, activity.ok, activity.duration_s) == ("poll", False, 0.25)
    assert activity.detail == "timed out"
    assert [note.text for note in server.store.notes("net-1", "", 9)] == ["Größe: 3 µm"]
    assert dict(server.directory.entries()[0].metrics) == {"tasks": 2.0}
    assert agent.response_time_s > 0


def test_meters_travel_with_a_heartbeat_once_they_have_changed(
    agent: Agent, server: AgentServer
) -> None:
    """At most every few seconds; metrics that go along do not disturb them."""
    agent.meters.count_tool_call("mcp", "search", 0.3, ok=False)
    assert agent.heartbeat() is False
    (entry,) = server.directory.entries()
    assert entry.meters.tools["mcp", "search"].errors == 1
    agent.meters.count_task(0.1)
    agent.heartbeat()
    assert server.directory.entries()[0].meters == entry.meters


def test_an_order_to_stop_reaches_the_agent_with_its_reason(
    agent: Agent, server: AgentServer
) -> None:
    """Through a heartbeat or through metrics."""
    server.directory.dismiss("agent-1", "moved to node-2")
    assert agent.heartbeat() is True
    assert agent.stop_reason == "moved to node-2"


def test_a_fenced_agent_learns_that_it_must_stop(agent: Agent, server: AgentServer) -> None:
    """Every method of a replaced copy raises, and nothing of it is stored."""
    agent.save_state(b"mine")
    server.admit(epoch=2)
    for call in (
        agent.heartbeat,
        agent.register,
        agent.load_state,
        lambda: agent.save_state(b"late"),
        lambda: agent.note("late"),
        lambda: agent.activity("late"),
        lambda: agent.metrics({}),
    ):
        with pytest.raises(FencedError, match="epoch 1 is lower than 2") as caught:
            call()
        assert "must stop" in caught.value.hint
    assert [body for _, _, body in server.store.history] == [b"mine"]


def test_a_second_writer_of_the_same_epoch_conflicts(agent: Agent, server: AgentServer) -> None:
    """The loser hears which version is stored; loading again lets it go on."""
    agent.save_state(b"one")
    with _agent(server.socket_path) as other:
        other.save_state(b"two")
        with pytest.raises(ConflictError, match="stored version is 2"):
            agent.save_state(b"three")
    assert agent.load_state() == b"two"
    assert agent.save_state(b"three") == 3


def test_a_state_over_the_limit_is_refused_before_it_is_sent(
    agent: Agent, server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by the server too, should the client not know the limit."""
    with pytest.raises(TooLargeError, match="67108865"):
        agent.save_state(bytes(STATE_MAX_BYTES + 1))
    monkeypatch.setattr(agent_module, "STATE_MAX_BYTES", STATE_MAX_BYTES * 2)
    with pytest.raises(TooLargeError, match="allowed 67108864") as caught:
        agent.save_state(bytes(STATE_MAX_BYTES + 1))
    assert "file" in caught.value.hint
    assert agent.save_state(b"small") == 1
    assert len(server.store.history) == 1


def test_a_wrong_request_is_refused_with_the_field(agent: Agent) -> None:
    """The author sees what to correct."""
    with pytest.raises(RefusedError, match=r"activities\[0\].kind"):
        agent.activity("no name at all")


def test_one_connection_serves_all_requests(agent: Agent) -> None:
    """Keep-alive: the socket stays the same."""
    agent.heartbeat()
    opened = agent._requests.connection._socket
    agent.save_state(b"x")
    agent.note("x")
    assert agent._requests.connection._socket is opened


def test_threads_may_share_an_agent(agent: Agent, server: AgentServer) -> None:
    """Requests take turns on the one connection."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(agent.note, [f"note {n}" for n in range(100)]))
    assert {n.text for n in server.store.notes("net-1", "", 999)} == {
        f"note {n}" for n in range(100)
    }


def test_an_agent_outlives_a_restart_of_its_supervisor() -> None:
    """Requests wait until the socket answers again; no write is lost or doubled."""
    with TemporaryDirectory(prefix="sr-") as folder:
        server = AgentServer(Path(folder) / "s")
        server.admit()
        server.start()
        try:
            with _agent(server.socket_path) as agent, ThreadPoolExecutor(1) as pool:
                assert agent.save_state(b"before") == 1
                server.stop()
                saving = pool.submit(agent.save_state, b"after")
                time.sleep(0.3)
                assert not saving.done()
                server.start()
                assert saving.result(20) == 2
        finally:
            server.stop()
        assert [body for _, _, body in server.store.history] == [b"before", b"after"]


def test_a_supervisor_that_stays_away_is_reported_in_time() -> None:
    """With the attempt's error as cause and the next step as hint."""
    with TemporaryDirectory(prefix="sr-") as folder:
        with (
            _agent(Path(folder) / "nobody", give_up_s=0.2) as agent,
            pytest.raises(UnreachableError, match=r"no success in 0.2 s.*FileNotFound") as caught,
        ):
            agent.heartbeat()
        assert isinstance(caught.value.__cause__, FileNotFoundError)
        assert "supervisor" in caught.value.hint


def test_a_full_queue_makes_agents_wait_not_fail(
    agent: Agent, server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 is repeated after the time that the server asks for."""
    from fleet.errors import StoreUnavailableError

    assert server.batcher is not None
    submit = server.batcher.submit
    refusals = iter([True, False])

    def submit_later(write: object) -> object:
        if next(refusals):
            raise StoreUnavailableError("full", hint="Wait.")
        return submit(write)  # type: ignore[arg-type]

    monkeypatch.setattr(server.batcher, "submit", submit_later)
    agent.load_state()
    begin_s = time.monotonic()
    assert agent.save_state(b"x") == 1
    assert time.monotonic() - begin_s >= 0.5


@settings(max_examples=examples(8))
@given(seed=st.integers(0, 2**32))
def test_over_a_bad_connection_every_write_is_stored_exactly_once(seed: int) -> None:
    """Lost requests and lost answers, at random: the agent repeats, the server recognises it."""
    with (
        TemporaryDirectory(prefix="sr-") as folder,
        serving(Path(folder) / "s") as server,
        cutting(Path(folder) / "p", server.socket_path, seed, cut_rate=0.25) as proxy,
        _agent(proxy.path) as agent,
    ):
        server.admit()
        agent._retry_wait = lambda delay_s: None  # type: ignore[method-assign]
        for number in range(10):
            assert agent.save_state(f"{number}".encode()) == number + 1
            agent.note(f"note {number}")
            agent.activity("poll", detail=f"{number}")
        assert [body for _, _, body in server.store.history] == [b"%d" % n for n in range(10)]
        notes = server.store.notes("net-1", "", 999)
        assert sorted(note.text for note in notes) == [f"note {n}" for n in range(10)]
        assert [a.detail for a in server.store.activity_log.values()] == [str(n) for n in range(10)]


ENVIRONMENT = {
    "AGENT_ID": "agent-1",
    "NETWORK_ID": "net-1",
    "EPOCH": "7",
    "STATEROOM_SOCKET": "/run/s",
    "AGENT_ARGUMENTS": '{"path": "/var", "interval_s": "2.5"}',
}


def test_the_environment_describes_the_agent() -> None:
    """As the supervisor sets it."""
    agent = Agent.from_environment(ENVIRONMENT)
    agent.close()
    assert (agent.agent_id, agent.network_id, agent.epoch) == ("agent-1", "net-1", 7)
    assert agent.arguments == {"path": "/var", "interval_s": "2.5"}
    assert agent.argument_s("interval_s", 9.0) == 2.5
    assert agent.argument_s("other_s", 9.0) == 9.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_ID", ""),
        ("NETWORK_ID", ""),
        ("EPOCH", "x"),
        ("EPOCH", "-1"),
        ("EPOCH", ""),
        ("STATEROOM_SOCKET", ""),
        ("AGENT_ARGUMENTS", "{"),
        ("AGENT_ARGUMENTS", "[1]"),
    ],
)
def test_an_incomplete_environment_is_named(name: str, value: str) -> None:
    """The variable and what to read."""
    with pytest.raises(InvalidSetupError, match=name) as caught:
        Agent.from_environment(ENVIRONMENT | {name: value})
    assert "docs/agents.md" in caught.value.hint


@pytest.mark.parametrize("value", ["", "x", "0", "-1", "nan", "inf", "1e10"])
def test_an_argument_that_is_no_time_is_named(value: str) -> None:
    """Not silently replaced by the default."""
    agent = Agent("a", "n", 1, "/run/s", {"interval_s": value})
    agent.close()
    with pytest.raises(InvalidSetupError, match="interval_s"):
        agent.argument_s("interval_s", 5.0)
