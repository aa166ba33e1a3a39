"""Runs an agent's code a few times in a parent, before it forks agents.

The interpreter writes into code that it runs for the first times: it specialises instructions and
fills caches (PEP 659, "Specializing Adaptive Interpreter"). Each memory page so written is a
forked agent's own. Written once in the parent, the pages stay shared: about 250 KiB less for each
built-in observer (`benchmarks/agent_api.py` measures it).
"""

from __future__ import annotations

import socket

from stateroom_agent import observers
from stateroom_agent.agent import Agent

ROUNDS = 16
"""CPython 3.11 specialises code after 8 runs."""
_BODY = (
    b'{"stop": false, "reason": "", "version": 1, "stored": 1, '
    b'"heartbeat_interval_s": 2.0, "checkpoint_interval_s": 5.0}'
)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: %d\r\n"
    b"Content-Type: application/json\r\n\r\n%s" % (len(_BODY), _BODY)
)
_NO_STATE = b"HTTP/1.1 204 No Content\r\nx-state-version: 0\r\n\r\n"


class AnsweringSocket(socket.socket):
    """One end of a pair whose other end answers every request before it is sent."""

    def __init__(self) -> None:
        """Make the pair."""
        near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        super().__init__(fileno=near.detach())

    def sendall(self, data: bytes, /, flags: int = 0) -> None:  # type: ignore[override]
        """Put the answer into the pair instead of the request."""
        self._far.sendall(_NO_STATE if data.startswith(b"GET ") else _ANSWER, flags)

    def close(self) -> None:
        """Close both ends."""
        self._far.close()
        super().close()


def warm_up() -> None:
    """Run requests and observers against a socket of this process; starts no thread.

    Raises:
        OSError: /proc cannot be read, or a socket cannot be made.
    """
    at_once = "0.000001"
    agent = Agent(
        "warm-up", "warm-up", 0, "", {"note_interval_s": at_once, "activity_interval_s": at_once}
    )
    agent.connect_to(AnsweringSocket())
    try:
        for make in (
            observers.cpu_observer,
            observers.memory_observer,
            observers.disk_observer,
            observers.network_observer,
        ):
            agent.register()
            observer = make(agent)
            for _ in range(ROUNDS):
                observer.step()
                agent.heartbeat()
                agent.save_state(observer.observation.dump())
        _rehearse_loop(agent)
    finally:
        agent.close()


def _rehearse_loop(agent: Agent) -> None:
    """What `Agent.run` does, without its thread: a fork must not meet one."""
    steps = iter(range(ROUNDS))

    def step() -> None:
        if next(steps, None) is None:
            agent.stop("warm")

    agent._repeat(step, 0.000001, None)  # noqa: SLF001 - the loop without its thread
    for _ in range(ROUNDS):
        agent._wait(0.0)  # noqa: SLF001
