"""A served API with one admitted agent."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fakes.agent_server import AgentServer, serving


@pytest.fixture(scope="module")
def module_server() -> Iterator[AgentServer]:
    """One server a module; its path is short, as unix sockets need."""
    with TemporaryDirectory(prefix="sr-") as folder, serving(Path(folder) / "s") as running:
        yield running


@pytest.fixture
def server(module_server: AgentServer) -> AgentServer:
    """A server that knows agent-1 under epoch 1 and nothing else."""
    module_server.reset()
    module_server.admit()
    return module_server
