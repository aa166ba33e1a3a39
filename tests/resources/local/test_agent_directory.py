"""The directory serves each agent under exactly one epoch and remembers stop orders."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Workload
from fleet.errors import InvalidInputError, StaleEpochError
from resources.local.agent_directory import AgentDirectory

WORKLOAD = Workload("watch", "net-1", function="a.b:c")
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Clock:
    """One second passes with each look."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return START + timedelta(seconds=self._looks)

    def monotonic_s(self) -> float:
        return float(self._looks)


def _directory() -> AgentDirectory:
    directory = AgentDirectory(_Clock())
    directory.admit("agent-1", "net-1", WORKLOAD, 3)
    return directory


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_another_epoch_is_told_to_stop(epoch: int) -> None:
    """Lower and higher epochs are refused alike, with the epoch that is served."""
    directory = _directory()
    for request in (directory.beat, directory.touch, directory.register):
        with pytest.raises(StaleEpochError, match=f"epoch {epoch} is .* than 3") as caught:
            request("agent-1", epoch)
        assert "must stop" in caught.value.hint
    assert directory.entries()[0].heartbeat_at is None


def test_an_unknown_agent_is_told_to_stop() -> None:
    """It has no right to be here."""
    directory = _directory()
    with pytest.raises(StaleEpochError, match="not placed on this node") as caught:
        directory.beat("agent-2", 1)
    assert "must stop" in caught.value.hint
    assert directory.should_stop("agent-2").stop


def test_a_dismissed_agent_hears_the_reason_until_it_is_admitted_again() -> None:
    """It is served meanwhile, so that it can save; a new admission voids the order."""
    directory = _directory()
    assert directory.beat("agent-1", 3) == (False, "")
    directory.dismiss("agent-1", "moved to node-2")
    assert directory.beat("agent-1", 3) == (True, "moved to node-2")
    assert directory.should_stop("agent-1") == (True, "moved to node-2")
    assert directory.touch("agent-1", 3).stop_reason == "moved to node-2"
    directory.admit("agent-1", "net-1", WORKLOAD, 3)
    assert directory.should_stop("agent-1") == (False, "")
    directory.forget("agent-1")
    directory.forget("agent-1")
    assert directory.should_stop("agent-1").stop
    assert directory.entries() == []


def test_admission_under_a_lower_epoch_is_refused() -> None:
    """An order that was overtaken changes nothing."""
    directory = _directory()
    with pytest.raises(StaleEpochError, match="epoch 2 is lower than 3"):
        directory.admit("agent-1", "net-1", WORKLOAD, 2)
    assert [entry.epoch for entry in directory.entries()] == [3]


@pytest.mark.parametrize(("agent_id", "network_id"), [("../x", "net-1"), ("a", "n\x00")])
def test_admission_takes_only_names(agent_id: str, network_id: str) -> None:
    """What is no name never enters the book."""
    directory = AgentDirectory(_Clock())
    with pytest.raises(InvalidInputError):
        directory.admit(agent_id, network_id, WORKLOAD, 1)
    assert directory.entries() == []


def test_heartbeats_keep_the_last_metrics_that_were_reported() -> None:
    """A heartbeat without metrics renews the time, not the numbers; snapshots never change."""
    directory = _directory()
    given_metrics = {"tasks": 1.0}
    directory.register("agent-1", 3)
    directory.beat("agent-1", 3, given_metrics)
    given_metrics["tasks"] = 2.0
    snapshot = directory.entries()
    directory.beat("agent-1", 3)
    (entry,) = directory.entries()
    assert dict(entry.metrics) == {"tasks": 1.0}
    assert entry.metrics_at is not None
    assert entry.heartbeat_at is not None
    assert entry.heartbeat_at > entry.metrics_at
    assert snapshot[0].heartbeat_at == entry.metrics_at
    assert entry.registered_at is not None


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 4)), max_size=30))
def test_the_epoch_in_the_book_never_falls(orders: list[tuple[str, int]]) -> None:
    """Whatever order admissions arrive in, the highest epoch so far is served."""
    directory = AgentDirectory(_Clock())
    highest: dict[str, int] = {}
    for agent_id, epoch in orders:
        if epoch < highest.get(agent_id, 0):
            with pytest.raises(StaleEpochError):
                directory.admit(agent_id, "net-1", WORKLOAD, epoch)
        else:
            directory.admit(agent_id, "net-1", WORKLOAD, epoch)
            highest[agent_id] = epoch
        assert {e.agent_id: e.epoch for e in directory.entries()} == highest
