"""The agents' API over a real SQLite file, as a process that can be killed.

Usage: python -m tests.fakes.agent_server_process SOCKET DATABASE AGENT...
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import uvicorn

from fleet.agents import Workload
from fleet.reports import AgentDeclaration, unplaced
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.agent_api import build_agent_app
from resources.local.agent_directory import AgentDirectory
from resources.local.agent_server import agent_server_config
from resources.local.write_batcher import WriteBatcher


def main(socket_path: str, database: str, *names: str) -> None:
    """Place what is not placed yet, admit all, serve until SIGTERM."""
    clock = SystemClock()
    store = open_control_store(f"sqlite:///{database}", clock=clock)
    shapes = [AgentDeclaration(n, "net-1", "watch", "here", 10, 2**24) for n in names]
    store.declare_agents(shapes)
    known = {placed.agent_id for placed in store.placements()}
    store.place_agents(
        [
            unplaced(shape)._replace(node_id="node-1", updated_at=clock.now())
            for shape in shapes
            if shape.agent_id not in known
        ]
    )
    directory = AgentDirectory(clock)
    workload = Workload("watch", "net-1", function="a.b:c")
    for placed in store.placements():
        directory.admit(placed.agent_id, "net-1", workload, placed.epoch)
    batcher = WriteBatcher(store, clock)
    app = build_agent_app(directory, batcher, store, clock)
    # uvicorn passes the signal on after its shutdown; the rest must still happen.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.Server(agent_server_config(app, Path(socket_path))).run()
    batcher.close()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
