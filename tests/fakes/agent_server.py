"""The agents' API on a real unix socket, served by uvicorn in a thread, over a chosen store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import uvicorn

from fleet.agents import Workload
from resources.clock import SystemClock
from resources.local.agent_api import AgentApiSettings, AgentMemory, build_agent_app
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_server import agent_server_config
from resources.local.write_batcher import BatchLimits, WriteBatcher
from tests.fakes.agent_states import InMemoryAgentStates

START_TIMEOUT_S = 20.0


class AgentServer:
    """One supervisor's API; may be stopped and started again on the same socket and store."""

    def __init__(
        self,
        socket_path: Path,
        store: InMemoryAgentStates | None = None,
        limits: BatchLimits | None = None,
    ) -> None:
        """Prepare; `start` serves."""
        self.socket_path = socket_path
        self.store = store if store is not None else InMemoryAgentStates()
        self.clock = SystemClock()
        self.directory = AgentDirectory(self.clock)
        self.settings = AgentApiSettings(heartbeat_interval_s=0.1, checkpoint_interval_s=0.1)
        self.memory = AgentMemory()
        """What searches are answered with; set it before `start`."""
        self.offers_search = True
        """False serves as a supervisor of before search does."""
        self._limits = limits
        self._server: uvicorn.Server | None = None
        self._thread: Thread | None = None
        self.batcher: WriteBatcher | None = None

    def start(self) -> None:
        """Serve until `stop`; returns when requests are answered."""
        self.batcher = WriteBatcher(self.store, self.clock, self._limits)
        app = build_agent_app(
            self.directory, self.batcher, self.store, self.clock, self.settings, self.memory
        )
        if not self.offers_search:
            app.router.routes[:] = [
                one for one in app.routes if not getattr(one, "path", "").endswith("/search")
            ]
        self._server = uvicorn.Server(agent_server_config(app, self.socket_path))
        self._thread = Thread(target=self._server.run, name="agent-server")
        self._thread.start()
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            assert self._thread.is_alive(), "the server has ended before it served"
            assert time.monotonic() < give_up_s, "the server does not start"
            time.sleep(0.005)

    def stop(self) -> None:
        """End the server, then the batcher, as a supervisor does."""
        if self._server is not None and self._thread is not None and self.batcher is not None:
            self._server.should_exit = True
            self._thread.join()
            self.batcher.close()
            self._server = None

    def reset(self) -> None:
        """Forget every agent and record, so that one running server can serve many tests."""
        for entry in self.directory.entries():
            self.directory.forget(entry.agent_id)
        self.store.clear()

    def admit(
        self, agent_id: str = "agent-1", epoch: int = 1, arguments: dict[str, str] | None = None
    ) -> None:
        """Place an agent in the store and in the directory."""
        self.store.place(agent_id, epoch)
        workload = Workload("watch", "net-1", function="a.b:c", arguments=arguments or {})
        self.directory.admit(agent_id, "net-1", workload, epoch)


@contextmanager
def serving(
    socket_path: Path,
    store: InMemoryAgentStates | None = None,
    limits: BatchLimits | None = None,
) -> Iterator[AgentServer]:
    """A server that is always ended."""
    server = AgentServer(socket_path, store, limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()
