"""Restored states loaded as agents load them: the SDK, a unix socket, the node's own API.

What an agent gets passes the same code as in the fleet (`resources.local.agent_api` over
`agent_store`), so a state that restores but cannot be served is found here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from fleet.agents import Workload
from fleet.errors import NodeUnavailableError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.restore_test_plan import LoadedState
from resources.local.agent_directory import AgentDirectory
from resources.local.node_spec import SOCKET_PATH_MAX_BYTES

_START_TIMEOUT_S = 30.0
_POLL_S = 0.005
_ANSWER_TIMEOUT_S = 10.0
"""For all attempts of one request; the server is in this process."""
_EPOCH = 1
"""Of the first placement in a fresh store."""
_WORKLOAD = "restored"


class Loading(NamedTuple):
    """What loading agents has found."""

    agents: int
    size_bytes: int
    problems: tuple[str, ...]


def load_agents(
    store: ControlStore,
    network_id: str,
    wanted: Sequence[LoadedState],
    socket_path: Path,
    clock: Clock,
) -> Loading:
    """Let agents register and load their states, and compare what they got with the backup.

    Args:
        store: holds the restored states, placed under epoch 1.
        network_id: that the agents belong to.
        wanted: who is loaded, and what they must get.
        socket_path: of the API's socket, at most 107 bytes; its folder must be private.
        clock: stamps what the API records.

    Raises:
        NodeUnavailableError: the API cannot be served at all.
    """
    if len(str(socket_path).encode()) > SOCKET_PATH_MAX_BYTES:
        raise NodeUnavailableError(
            f"socket {socket_path} is longer than {SOCKET_PATH_MAX_BYTES} bytes",
            hint="Choose a workspace with a shorter path.",
        )
    directory = AgentDirectory(clock)
    for one in wanted:
        workload = Workload(_WORKLOAD, network_id, function="restored:only")
        directory.admit(one.agent_id, network_id, workload, _EPOCH)
    problems: list[str] = []
    size_bytes = 0
    with _serving(store, directory, socket_path, clock):
        for one in wanted:
            body = _load(one, network_id, socket_path, problems)
            size_bytes += len(body)
    return Loading(len(wanted), size_bytes, tuple(problems))


def _load(one: LoadedState, network_id: str, socket_path: Path, problems: list[str]) -> bytes:
    """What one agent sees; a difference is added to `problems`."""
    from stateroom_agent.agent import Agent
    from stateroom_agent.errors import AgentError

    agent = Agent(one.agent_id, network_id, _EPOCH, str(socket_path), give_up_s=_ANSWER_TIMEOUT_S)
    try:
        answered = agent.register()
        body = agent.load_state()
    except AgentError as error:
        problems.append(f"{one.agent_id} cannot load its state: {error}")
        return b""
    finally:
        agent.close()
    if answered["network_id"] != network_id:
        problems.append(f"{one.agent_id} is told that it belongs to {answered['network_id']}")
    if body is None:
        problems.append(f"{one.agent_id} is told that it has no state")
        return b""
    if hashlib.sha256(body).hexdigest() != one.digest:
        problems.append(f"{one.agent_id} loads {len(body)} other bytes than were backed up")
    return body


@contextmanager
def _serving(
    store: ControlStore, directory: AgentDirectory, socket_path: Path, clock: Clock
) -> Iterator[None]:
    """The agents' API over a store, on a thread of its own, for as long as the block runs."""
    from resources.local.agent_api import build_agent_app
    from resources.local.agent_server import agent_server_config
    from resources.local.agent_store import AgentStore
    from resources.local.node_servers import QuietServer
    from resources.local.write_batcher import WriteBatcher

    agent_store = AgentStore(store, directory, clock)
    batcher = WriteBatcher(agent_store, clock)
    app = build_agent_app(directory, batcher, agent_store, clock)
    server = QuietServer(agent_server_config(app, socket_path))
    thread = Thread(target=server.run, name="restored-agents", daemon=True)
    thread.start()
    try:
        _wait_started(server, thread, socket_path)
        yield
    finally:
        server.should_exit = True
        thread.join()
        batcher.close()


def _wait_started(server: object, thread: Thread, socket_path: Path) -> None:
    give_up_s = time.monotonic() + _START_TIMEOUT_S
    while not getattr(server, "started", False):
        if not thread.is_alive() or time.monotonic() > give_up_s:
            raise NodeUnavailableError(f"the agents' API cannot be served at {socket_path}")
        time.sleep(_POLL_S)
