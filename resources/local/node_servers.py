"""The two HTTP servers of a node: agents on a unix socket, operators on loopback TCP."""

from __future__ import annotations

import asyncio
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from fleet.errors import AlreadyRunningError
from resources.local.agent_server import agent_server_config


class QuietServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the supervisor ends it."""

    def capture_signals(self) -> Any:
        """Leave the process's signals alone."""
        return nullcontext()


class NodeServers:
    """Servers on the running event loop, ended together."""

    def __init__(self) -> None:
        """Serve nothing yet."""
        self._servers: list[QuietServer] = []
        self.tasks: list[asyncio.Task[None]] = []
        """One per server; ends early only with an error."""

    async def serve_node(self, app: Starlette, host: str, port: int) -> str:
        """Serve health, metrics and orders; returns host:port once it listens.

        Raises:
            AlreadyRunningError: the port is taken, or the address is none of this machine's.
        """
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise AlreadyRunningError(
                f"http_port: {host}:{port} cannot be had: {error.strerror}",
                hint="Choose another port, or 0 for a free one.",
            ) from error
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="none",
            timeout_graceful_shutdown=1,
        )
        await self._serve(QuietServer(config), [listener])
        bound_host, bound_port = listener.getsockname()[:2]
        return f"{bound_host}:{bound_port}"

    async def serve_agents(self, app: Starlette, socket_path: Path) -> None:
        """Serve the agents' API; returns once it listens."""
        await self._serve(QuietServer(agent_server_config(app, socket_path)), None)

    async def stop(self) -> None:
        """End all servers; returns when their connections are closed."""
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, server: QuietServer, listeners: list[socket.socket] | None) -> None:
        self._servers.append(server)
        task = asyncio.create_task(server.serve(sockets=listeners))
        self.tasks.append(task)
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)
