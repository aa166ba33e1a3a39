"""The supervisor's end of the channel to its zygote.

Neither side ever blocks on the other: what the socket does not take at once waits here, in order.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError
from resources.local.zygote import MESSAGE_MAX_BYTES


class AgentProgram(NamedTuple):
    """What the zygote needs to start one agent."""

    agent_id: str
    function: str | None
    command: tuple[str, ...]
    environment: dict[str, str]
    log_path: str


class ZygoteClient:
    """One zygote process and the conversation with it, on the running event loop.

    The process must be started from the thread that lives longest (the main thread): the kernel
    ends the zygote when the *thread* that started it ends.
    """

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        """Keep the callback; it gets each event (`started`, `exited`, `refused`, `fenced`, `lost`).

        `lost` is made here, once, when the zygote itself has ended; its agents have ended too.
        """
        self._on_event = on_event
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        self._refs = 0

    @property
    def pid(self) -> int | None:
        """Pid of the zygote, None when it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and listen to it; the interpreter takes some 30 ms to come up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        module = "resources.local.zygote"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)

    def spawn(self, program: AgentProgram) -> int:
        """Ask for an agent.

        Returns:
            The reference that its `started` or `refused` event will carry.

        Raises:
            InvalidInputError: command and arguments are longer than a message may be.
        """
        self._refs += 1
        message = {
            "op": "spawn",
            "ref": self._refs,
            "agent_id": program.agent_id,
            "function": program.function,
            "command": list(program.command),
            "env": program.environment,
            "log": program.log_path,
        }
        if len(json.dumps(message).encode()) > MESSAGE_MAX_BYTES:
            raise InvalidInputError(
                "arguments",
                f"of {program.agent_id}",
                f"command and arguments of at most {MESSAGE_MAX_BYTES} bytes together",
                hint="Put large inputs into a file and pass its path.",
            )
        self._send(message)
        return self._refs

    def send_signal(self, pid: int, number: int) -> None:
        """Signal an agent; only the zygote can do so without hitting a pid that is used again."""
        self._send({"op": "signal", "pid": pid, "signal": number})

    def extend_deadline(self, boottime_s: float | None) -> None:
        """Move the dead man's switch: at this time since boot all agents die; None disarms it."""
        self._send({"op": "deadline", "boottime_s": boottime_s})

    async def stop(self) -> None:
        """End the zygote with everything it started; returns when it is reaped."""
        process = self._process
        if process is None:
            return
        self._close()  # the zygote takes the end of the channel as the order to end everything
        await asyncio.to_thread(process.wait)
        self._process = None

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None:
            return  # the zygote is lost; the `lost` event has said so for all its agents
        self._unsent.append(json.dumps(message).encode())
        self._drain()

    def _drain(self) -> None:
        channel = self._channel
        if channel is None:
            return
        loop = asyncio.get_running_loop()
        while self._unsent:
            try:
                channel.send(self._unsent[0])
            except BlockingIOError:
                loop.add_writer(channel, self._drain)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._unsent.clear()  # the reader reports the loss
                break
            self._unsent.popleft()
        loop.remove_writer(channel)

    def _receive(self) -> None:
        # Bounded, so that a storm of exits does not keep the loop from the heartbeat.
        for _ in range(64):
            if self._channel is None:
                return
            try:
                text = self._channel.recv(MESSAGE_MAX_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                text = b""
            if not text:
                self._lose()
                return
            self._on_event(json.loads(text))

    def _lose(self) -> None:
        self._close()
        code: int | None = None
        if self._process is not None:
            code = self._process.wait()
            self._process = None
        self._on_event({"event": "lost", "code": code})

    def _close(self) -> None:
        if self._channel is None:
            return
        loop = asyncio.get_running_loop()
        with suppress(ValueError):
            loop.remove_reader(self._channel)
            loop.remove_writer(self._channel)
        self._channel.close()
        self._channel = None
        self._unsent.clear()
