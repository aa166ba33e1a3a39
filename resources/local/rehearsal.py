"""Lets the zygote do once what each of its children will do first, so that they share the result.

The interpreter rewrites code while it runs it the first times (specialised instructions, caches).
Done before the fork, those pages stay shared by all agents; done after it, each agent pays for its
own copies: some 0.5 MiB (benchmarks/spawn.py). Purely for memory: agents work the same without it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import NoReturn

ROUNDS = 20
"""More than the eight calls after which CPython 3.11 has specialised a function."""

_BODY = (
    b'{"heartbeat_interval_s": 1, "checkpoint_interval_s": 1, "stop": false, "reason": "", '
    b'"version": 1}'
)
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-state-version: 1\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)


def rehearse() -> None:
    """Be an agent for a moment, in this process, with a child as its supervisor.

    Raises:
        ImportError: the SDK is not installed.
        OSError: no socket or process could be made.
    """
    from stateroom_agent.agent import Agent

    address = f"\0stateroom-rehearsal-{os.getpid()}"  # abstract: no file, gone with its socket
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(1)
        pid = os.fork()
        if pid == 0:
            _answer(listener)
    environment = {"AGENT_ID": "a", "NETWORK_ID": "n", "EPOCH": "1"}
    try:
        for _ in range(ROUNDS):
            os.environ.update(environment)
            agent = Agent.from_environment(environment | {"STATEROOM_SOCKET": address})
            agent.register()
            agent.heartbeat()
            agent.save_state(b"{}")
            agent.close()
    finally:
        for name in environment:
            os.environ.pop(name, None)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _answer(listener: socket.socket) -> NoReturn:
    """Say yes to every request of each connection, until killed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            while connection.recv(65536):
                connection.sendall(_ANSWER)
    os._exit(0)
