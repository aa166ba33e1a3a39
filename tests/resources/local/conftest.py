"""A served API with one admitted agent."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fakes.agent_server import AgentServer, serving
from tests.resources.local.fleets import Fleet, open_fleet


@pytest.fixture
def server() -> Iterator[AgentServer]:
    """A server with agent-1 under epoch 1; its path is short, as unix sockets need."""
    with TemporaryDirectory(prefix="sr-") as folder, serving(Path(folder) / "s") as running:
        running.admit()
        yield running


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A state folder, a control store and a cluster without nodes."""
    with open_fleet() as opened:
        yield opened
