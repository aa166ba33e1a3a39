"""A node's agents read their states from copies that cannot be stale."""

from datetime import UTC, datetime

import pytest

from fleet.agents import Activity, AgentState, Note, Placement, StatePut, Workload
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_store import AgentStore
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

AT = datetime(2026, 11, 21, tzinfo=UTC)
HOUR_S = 3600.0


class CountingStore(InMemoryControlStore):
    """Counts the reads that reach the store."""

    reads = 0

    def state(self, agent_id: str) -> AgentState | None:
        """One more read."""
        self.reads += 1
        return super().state(agent_id)


class Node:
    """A store with agent `a` on node `n1`, and that node's view of it."""

    def __init__(self) -> None:
        """Place the agent and admit it under its epoch."""
        self.clock = ManualClock()
        self.store = CountingStore(clock=self.clock)
        self.store.declare_nodes([NodeDeclaration(n, "r", "z", 1, 1) for n in ("n1", "n2")])
        self.store.declare_agents([AgentDeclaration("a", "net", "w", "r", 1, 1)])
        self.directory = AgentDirectory(self.clock)
        self.agents = AgentStore(self.store, self.directory, self.clock)
        self.epoch = 0
        self.move("n1")

    def move(self, node_id: str) -> None:
        """Place the agent anew and admit it here under the new epoch."""
        wanted = Placement("a", "net", "w", node_id, "r", self.epoch, 1, "running", "test", AT)
        (placed,) = self.store.place_agents([wanted])
        self.epoch = placed.epoch
        self.directory.admit("a", "net", Workload("w", "net", function="m:f"), self.epoch)

    def put(self, version: int, body: bytes) -> int:
        """A put through this node; the version that is durable, 0 when refused."""
        return self.agents.put_states([StatePut("a", self.epoch, version, body)])[0].version


@pytest.fixture
def node() -> Node:
    """A fresh node."""
    return Node()


def test_a_state_that_was_put_is_read_without_the_store(node: Node) -> None:
    """Written through: the store has it first, the copy answers."""
    assert node.put(0, b"one") == 1
    assert node.store.reads == 0
    state = node.agents.state("a")
    assert state is not None
    assert (state.version, state.body, node.store.reads) == (1, b"one", 0)


def test_a_copy_of_an_earlier_epoch_is_never_read(node: Node) -> None:
    """The agent was away and wrote elsewhere; back here it loads what it wrote there."""
    node.put(0, b"here")
    node.move("n2")
    node.store.put_states([StatePut("a", node.epoch, 1, b"elsewhere")])
    node.move("n1")
    state = node.agents.state("a")
    assert state is not None
    assert (state.version, state.body) == (2, b"elsewhere")


def test_a_refused_put_drops_the_copy(node: Node) -> None:
    """A restore changed the state under the same epoch: the conflict leads back to the store."""
    node.put(0, b"one")
    node.store.put_states([StatePut("a", node.epoch, 1, b"restored")])
    assert node.put(1, b"two") == 0
    state = node.agents.state("a")
    assert state is not None
    assert (state.version, state.body) == (2, b"restored")


def test_a_copy_ends_after_an_hour(node: Node) -> None:
    """TTL 3600 s, by a clock that does not jump."""
    node.put(0, b"one")
    node.clock.advance(HOUR_S + 1)
    node.agents.state("a")
    assert node.store.reads == 1


def test_activities_and_notes_go_straight_to_the_store(node: Node) -> None:
    """They are appended, never cached."""
    node.agents.append_activities([Activity("i", "a", "net", "task", AT, None, True, "{}")])
    node.agents.append_notes([Note("n", "a", "net", AT, "text")])
    assert [one.activity_id for one in node.store.activities("a", 9)] == ["i"]
    assert [one.note_id for one in node.store.notes("net", "", 9)] == ["n"]
