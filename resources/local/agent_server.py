"""How the agents' API is served: uvicorn with httptools and uvloop on a unix socket."""

from __future__ import annotations

from pathlib import Path

import uvicorn
from starlette.applications import Starlette

KEEP_ALIVE_S = 75
"""Longer than any heartbeat interval: holding a connection costs less than opening one."""
BACKLOG = 1024
"""A node's agents may all start at once."""


def agent_server_config(app: Starlette, socket_path: Path) -> uvicorn.Config:
    """Settings of the server of `app`.

    uvicorn makes the socket readable and writable by everybody; the folder that holds it must be
    closed to other users (mode 0700).

    Args:
        app: from `build_agent_app`.
        socket_path: at most 107 bytes long, the limit of a unix socket address on Linux.
    """
    return uvicorn.Config(
        app,
        uds=str(socket_path),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=10,
        backlog=BACKLOG,
    )
