"""An agent's side of the conversation with its node's supervisor.

Every request may be repeated: a state is written against the version it follows, records carry
ids, the rest just says how things are. So a lost connection or a restarted supervisor costs time,
never a doubled or lost record. When a method that writes returns, the write is durable.
"""

from __future__ import annotations

import _thread
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from zlib import crc32

from stateroom_agent.connection import Response
from stateroom_agent.errors import (
    InvalidSetupError,
    NotOfferedError,
    TooLargeError,
    UnreachableError,
)
from stateroom_agent.memory import SEARCH_PATIENCE_S, Answer, read_answer, vector_document
from stateroom_agent.meters import Meters
from stateroom_agent.patient_requests import JSON_HEADER, LAST_CHECKPOINT_S, PatientRequests

STATE_MAX_BYTES = 64 * 1024 * 1024
GIVE_UP_S = 60.0
"""For all attempts of one request; a supervisor that restarts is back long before."""
METERS_INTERVAL_S = 5.0
"""Least time between two heartbeats that carry the meters."""


class Agent:
    """One agent; methods may be called from several threads."""

    def __init__(
        self,
        agent_id: str,
        network_id: str,
        epoch: int,
        socket_path: str,
        arguments: Mapping[str, str] | None = None,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        """Describe the agent; nothing is sent yet.

        Args:
            agent_id: its name.
            network_id: the network it belongs to.
            epoch: under which it was started.
            socket_path: the supervisor's unix socket.
            arguments: as declared for its workload.
            give_up_s: how long a request is repeated before `UnreachableError`.
        """
        self.agent_id = agent_id
        self.network_id = network_id
        self.epoch = epoch
        self.arguments = dict(arguments or {})
        self.heartbeat_interval_s = 2.0
        self.checkpoint_interval_s = 5.0
        self.stop_reason = ""
        """Why it must stop; empty while it may go on."""
        self.meters = Meters()
        """What this process has done; heartbeats carry it."""
        self._meters_at_s = -METERS_INTERVAL_S
        self._requests = PatientRequests(
            socket_path, f"/v1/agents/{agent_id}/", f"X-Epoch: {epoch}\r\n", give_up_s, self
        )
        self._version: int | None = None
        self._metrics: dict[str, float] | None = None
        self._beating = False
        self._failure: Exception | None = None
        self._stop_read, self._stop_write = os.pipe()

    @property
    def response_time_s(self) -> float:
        """How long the supervisor took for the last answered request."""
        return self._requests.response_time_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Agent:
        """The agent that this process was started as.

        Reads AGENT_ID, NETWORK_ID, EPOCH, STATEROOM_SOCKET and AGENT_ARGUMENTS (a JSON object of
        texts, may be missing).

        Raises:
            InvalidSetupError: one of them is missing or malformed.
        """
        hint = "The supervisor sets these; by hand, see docs/agents.md."
        for name in ("AGENT_ID", "NETWORK_ID", "EPOCH", "STATEROOM_SOCKET"):
            if not environment.get(name):
                raise InvalidSetupError(f"{name} is not set", hint)
        if not environment["EPOCH"].isdecimal():
            raise InvalidSetupError(f"EPOCH: {environment['EPOCH']!r} is no whole number", hint)
        try:
            arguments = json.loads(environment.get("AGENT_ARGUMENTS") or "{}")
        except ValueError as error:
            raise InvalidSetupError(f"AGENT_ARGUMENTS is no JSON: {error}", hint) from error
        if not isinstance(arguments, dict):
            raise InvalidSetupError("AGENT_ARGUMENTS is no JSON object", hint)
        return cls(
            environment["AGENT_ID"],
            environment["NETWORK_ID"],
            int(environment["EPOCH"]),
            environment["STATEROOM_SOCKET"],
            {name: str(value) for name, value in arguments.items()},
        )

    def argument_s(self, name: str, default_s: float) -> float:
        """A declared argument that is a positive number of seconds.

        Raises:
            InvalidSetupError: it is something else.
        """
        value = self.arguments.get(name)
        if value is None:
            return default_s
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0.0 < seconds < 1e9:
            raise InvalidSetupError(
                f"AGENT_ARGUMENTS {name}: {value!r} is no positive number of seconds",
                "Correct the workload's arguments.",
            )
        return seconds

    def register(self) -> dict[str, Any]:
        """Tell the supervisor that this process is up; learn network, workload and intervals.

        The declared arguments `heartbeat_interval_s` and `checkpoint_interval_s` come first.
        """
        answer: dict[str, Any] = json.loads(self._requests.call("POST", "register").body)
        self.heartbeat_interval_s = self.argument_s(
            "heartbeat_interval_s", answer["heartbeat_interval_s"]
        )
        self.checkpoint_interval_s = self.argument_s(
            "checkpoint_interval_s", answer["checkpoint_interval_s"]
        )
        return answer

    def load_state(self) -> bytes | None:
        """The newest durable state; None when there is none yet."""
        response = self._requests.call("GET", "state")
        self._version = int(response.headers["x-state-version"])
        return None if response.status == 204 else response.body

    def save_state(self, body: bytes) -> int:
        """Durably replace the state; returns its new version.

        Raises:
            FencedError: another copy owns the state, or it changed since `load_state`; stop.
            TooLargeError: it has more than 64 MiB.
            UnreachableError: it could not be stored in time.
        """
        if len(body) > STATE_MAX_BYTES:
            raise TooLargeError(
                f"the state has {len(body)} bytes, allowed are {STATE_MAX_BYTES}",
                "Keep what is large in a file, and its reference in the state.",
            )
        if self._version is None:
            self.load_state()
        response = self._requests.call("PUT", "state", f'If-Match: "{self._version}"\r\n', body)
        version: int = json.loads(response.body)["version"]
        self._version = version
        return version

    def activity(
        self, kind: str, *, ok: bool = True, duration_s: float | None = None, detail: str = ""
    ) -> None:
        """Durably record something this agent did; `kind` is a name, `detail` free text."""
        record = {"id": _record_id(), "kind": kind, "ok": ok, "detail": detail}
        if duration_s is not None:
            record["duration_s"] = duration_s
        self._call_json("activities", {"activities": [record]})

    def note(self, text: str, *, vector: Iterable[float] | None = None, model: str = "") -> None:
        """Durably remember a sentence; `search` finds it by its meaning later.

        Args:
            text: 1 to 4,096 characters.
            vector: computed by the agent itself; None has the platform compute one.
            model: name of what computed `vector`; needed with it.
        """
        note: dict[str, Any] = {"id": _record_id(), "text": text}
        given = vector_document(vector, model)
        if given is not None:
            note["vector"] = given
        self._call_json("notes", {"notes": [note]})

    def search(
        self,
        text: str,
        k: int = 10,
        where: str | None = None,
        *,
        hybrid: bool = False,
        vector: Iterable[float] | None = None,
        model: str = "",
    ) -> Answer:
        """Find notes of this agent's network by their meaning; never ends an agent.

        Args:
            text: the question, in any language.
            k: 1 to 100 notes; fewer come back when fewer pass.
            where: a filter such as `region = 'us-west-2' and created_at > '2026-11-01'`.
            hybrid: whether words count beside the meaning: for names and codes.
            vector: of the question, where the network's notes carry vectors of `model`.
            model: as in `note`.

        Returns:
            Notes, best first; or, with a `reason`, that nothing could be searched now.

        Raises:
            RefusedError: the question is wrong; the message names the field.
            FencedError: another copy has the right to work; stop.
        """
        question: dict[str, Any] = {"text": text, "k": k, "where": where, "hybrid": hybrid}
        given = vector_document(vector, model)
        if given is not None:
            question["vector"] = given
        body = json.dumps(question).encode()
        try:
            found = self._requests.call_aside("search", body, SEARCH_PATIENCE_S)
        except (NotOfferedError, UnreachableError) as error:
            return Answer(reason=str(error))
        return read_answer(found.body)

    def metrics(self, values: Mapping[str, float]) -> None:
        """Report how things are now; inside `run`, the next heartbeat carries it."""
        if self._beating:
            self._metrics = dict(values)
        else:
            self._hear(self._call_json("metrics", {"metrics": dict(values)}))

    def heartbeat(self) -> bool:
        """Say that this agent lives; returns True when it must stop (see `stop_reason`)."""
        carried: dict[str, Any] = {}
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            carried["metrics"] = metrics
        now_s = time.monotonic()
        if now_s - self._meters_at_s >= METERS_INTERVAL_S:
            meters = self.meters.take_changed()
            if meters is not None:
                carried["meters"], self._meters_at_s = meters, now_s
        if carried:
            response = self._call_json("heartbeat", carried)
        else:
            response = self._requests.call("POST", "heartbeat")
        self._hear(response)
        return bool(self.stop_reason)

    def run(
        self,
        step: Callable[[], bool | None],
        interval_s: float = 5.0,
        checkpoint: Callable[[], bytes] | None = None,
    ) -> None:
        """Call `step` every `interval_s` until told to stop; call this from the main thread.

        Heartbeats go out from a thread of their own, so a slow step does not look like a hang.
        The first step waits for a part of the interval that depends on the agent's name: a
        thousand agents that start together do not work together.

        Args:
            step: the work, counted as a task; slow ones look at `stop_reason` now and then. One
                that returns False has failed, and is counted so.
            interval_s: from one begin to the next; a step that takes longer delays the next one.
            checkpoint: gives the state to save, after a step when the checkpoint interval is
                over, and a last time before the return. Not called after a failed step.

        Raises:
            FencedError: this copy must not write any more; end the process.
        """
        self.register()
        self._beating = True
        ended = _thread.allocate_lock()
        ended.acquire()
        previous = signal.signal(signal.SIGTERM, lambda *_: self.stop("SIGTERM"))
        _thread.start_new_thread(self._beat_until_stopped, (ended,))
        try:
            self._repeat(step, interval_s, checkpoint)
        finally:
            self._beating = False
            self.stop("the agent's loop has ended")
            ended.acquire(timeout=LAST_CHECKPOINT_S)
            signal.signal(signal.SIGTERM, previous)
        if self._failure is not None:
            raise self._failure
        if checkpoint is not None:
            self.save_state(checkpoint())

    def stop(self, reason: str) -> None:
        """End `run` after the step under way; the first reason is kept."""
        if not self.stop_reason:
            self.stop_reason = reason
            os.write(self._stop_write, b".")

    def connect_to(self, connected: socket.socket) -> None:
        """Use a socket that is connected already, until it breaks."""
        self._requests.connection.adopt(connected)

    def close(self) -> None:
        """Close the connection; the agent cannot be used any more."""
        self._requests.connection.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _repeat(
        self,
        step: Callable[[], bool | None],
        interval_s: float,
        checkpoint: Callable[[], bytes] | None,
    ) -> None:
        saved_s = time.monotonic()
        next_s = saved_s + interval_s * self._share_of_interval()
        self._wait(next_s - time.monotonic())
        while not self.stop_reason:
            began_s = time.monotonic()
            ok = step() is not False
            now_s = time.monotonic()
            self.meters.count_task(now_s - began_s, ok=ok)
            if checkpoint is not None and now_s - saved_s >= self.checkpoint_interval_s:
                self.save_state(checkpoint())
                saved_s = now_s
            next_s = max(next_s + interval_s, time.monotonic())
            self._wait(next_s - time.monotonic())

    def _beat_until_stopped(self, ended: _thread.LockType) -> None:
        try:
            while not self.stop_reason:
                self.heartbeat()
                self._wait(self.heartbeat_interval_s)
        except Exception as error:  # noqa: BLE001 - `run` raises it in the main thread
            self._failure = error
            self.stop(str(error))
        finally:
            ended.release()

    def _share_of_interval(self) -> float:
        """Between 0 and 1, the same for an agent each time, spread evenly over agents."""
        return crc32(self.agent_id.encode()) / 2**32

    def _wait(self, delay_s: float) -> None:
        """Wait until the time is over or the agent must stop."""
        poll = select.poll()
        poll.register(self._stop_read, select.POLLIN)
        poll.poll(max(0.0, delay_s * 1000))

    def _hear(self, response: Response) -> None:
        answer = json.loads(response.body)
        if answer["stop"]:
            self.stop(answer["reason"])

    def _call_json(self, operation: str, value: object) -> Response:
        body = json.dumps(value).encode()
        return self._requests.call("POST", operation, JSON_HEADER, body)


def _record_id() -> str:
    """Sorts by time; the supervisor refuses those that lie far from now."""
    return f"{time.time_ns() // 1_000_000:012x}-{os.urandom(8).hex()}"
