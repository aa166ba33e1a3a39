"""Searches for a node's agents, in a process of its own that is there only while somebody asks.

The supervisor forks agents and must stay small, so it never loads an index library: its reader
does. One question at a time, with a deadline that includes the wait for the turn; who comes when
too many wait is refused at once. A reader that dies, or does not answer a question in half of that
time, is replaced at the next one; one that is still loading its libraries is waited for by those
who ask again.
Nothing of this touches an agent: it is told, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from fleet.errors import StoreUnavailableError
from resources.vectors.reader_frames import error_of, frame_bytes, receive_frame

DEADLINE_S = 5.0
"""From a question's arrival to its answer, the wait for its turn included."""
OPENING_S = 3.0
"""Of it, how long the reader waits for an index that it is still fetching."""
IDLE_S = 300.0
"""A reader that nobody asks for so long is ended: it holds an index in memory."""
QUEUE_MAX = 64
"""Questions that may wait; at a millisecond each they are answered in time."""
START_S = 60.0
"""For a reader to load its libraries: half a second, on a machine that is not overloaded."""
HOLD_OFF_S = 5.0
"""After a reader ended twice over one question, no other is started for so long."""

_OWN_END_S = 0.5
"""For a process that has closed its socket to end by itself: its exit code says why."""
_END_S = 2.0
"""For a killed process to be gone."""
_MODULE = "resources.vectors.reader_process"
_log = logging.getLogger(__name__)


class SearchLimits(NamedTuple):
    """How long and how many; other values only for tests."""

    deadline_s: float = DEADLINE_S
    opening_s: float = OPENING_S
    idle_s: float = IDLE_S
    queue_max: int = QUEUE_MAX
    hold_off_s: float = HOLD_OFF_S
    start_s: float = START_S


@dataclass(slots=True)
class SearchCounts:
    """What became of questions since the node began."""

    answered: int = 0
    refused: int = 0
    """Wrong questions, networks without an index."""
    unavailable: int = 0
    """Not answered in time, too many waiting, the reader ended."""
    starts: int = 0
    """Readers started."""


class _Reader:
    """A running reader process, what is said to it, and what it still owes."""

    def __init__(
        self, process: subprocess.Popen[bytes], outgoing: asyncio.StreamWriter, started_s: float
    ) -> None:
        self.process = process
        self.outgoing = outgoing
        self.is_loaded = False
        """Whether its libraries are."""
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        """To the question under way."""
        self.asked = 0
        """Number of the last question; 0 is that of the config."""
        self.free = asyncio.Event()
        """Set while it is loaded and owes no answer, also none that nobody waits for any more."""
        self.asked_s = started_s
        """When it was asked last; at first, when it was started."""
        self.has_ended = False
        self.listening: asyncio.Task[None] | None = None

    async def listen(self, incoming: asyncio.StreamReader) -> None:
        """Hand over each answer until the other side closes its end."""
        try:
            while True:
                found = await receive_frame(incoming)
                if found["number"] == self.asked:
                    self.is_loaded = True
                    self.free.set()
                    if not self.answer.done():
                        self.answer.set_result(found)
        except (OSError, ValueError, KeyError, TypeError, asyncio.IncompleteReadError):
            self.fail()

    def fail(self) -> None:
        """Tell whoever waits that nothing comes any more."""
        self.has_ended = True
        self.free.set()
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("the reader has ended"))
            self.answer.exception()  # looked at here: nobody may be waiting for it

    async def exchange(self, question: dict[str, Any], now: Callable[[], float]) -> dict[str, Any]:
        """Ask one question, once the reader is free: who gives up before has cost it nothing.

        Raises:
            OSError: the reader has ended.
        """
        await self.free.wait()
        if self.has_ended:
            raise ConnectionResetError("the reader has ended")
        self.free.clear()
        self.asked, self.asked_s = self.asked + 1, now()
        self.answer = asyncio.get_running_loop().create_future()
        self.outgoing.write(frame_bytes({**question, "number": self.asked}))
        await self.outgoing.drain()
        return await self.answer


class SearchReader:
    """The node's side of its reader process; used from one event loop.

    Args:
        config: what the reader is told first (`resources.vectors.reader_process`).
        limits: None means the defaults.
        command: starts the reader, with the number of its socket and our pid behind it.
        steady_now: seconds that only rise.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        limits: SearchLimits | None = None,
        command: Sequence[str] = (sys.executable, "-m", _MODULE),
        steady_now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is started before the first question."""
        self._limits = limits or SearchLimits()
        self._config = {**config, "opening_s": self._limits.opening_s}
        self._command = tuple(command)
        self._now = steady_now
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._reader: _Reader | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._held_off_until_s = -1.0
        self._is_closed = False
        self._ending: list[subprocess.Popen[bytes]] = []
        self.counts = SearchCounts()

    @property
    def pid(self) -> int | None:
        """Of the reader; None while there is none."""
        return None if self._reader is None else self._reader.process.pid

    async def ask(self, network_id: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Have a question answered from the index of one network.

        Args:
            network_id: the asking agent's own; no question can name another.
            question: `text`, `k`, `where`, `hybrid`, perhaps `vector`.

        Raises:
            InvalidInputError: the question is wrong.
            NotFoundError: the network has no index yet.
            CorruptObjectError: its index is damaged.
            StoreUnavailableError: not now; ask again.
        """
        if self._waiting >= self._limits.queue_max:
            self.counts.unavailable += 1
            raise StoreUnavailableError(f"{self._waiting} searches wait on this node")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.deadline_s), self._turn:
                answer = await self._asked({**question, "network_id": network_id})
        except TimeoutError as error:
            self.counts.unavailable += 1
            raise StoreUnavailableError(
                f"no answer in {self._limits.deadline_s:g} s", hint="Search again in a moment."
            ) from error
        except StoreUnavailableError:
            self.counts.unavailable += 1
            raise
        finally:
            self._waiting -= 1
        if "error" in answer:
            told = error_of(answer["error"])
            is_late = isinstance(told, StoreUnavailableError)
            self.counts.unavailable += is_late
            self.counts.refused += not is_late
            raise told
        self.counts.answered += 1
        return dict(answer["answer"])

    async def close(self) -> None:
        """End the reader; nothing is asked any more."""
        self._is_closed = True
        self._end()
        for process in self._ending:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _END_S)

    async def _asked(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the reader, and a fresh one when the first has ended."""
        self._keep()
        if self._is_closed:
            raise StoreUnavailableError("the node is stopping")
        if self._now() < self._held_off_until_s:
            raise StoreUnavailableError("the reader of this node ends again and again")
        try:
            for is_last in (False, True):
                reader = self._reader or await self._start()
                try:
                    return await reader.exchange(question, self._now)
                except asyncio.CancelledError:
                    self._end_if_stuck(reader)
                    raise
                except OSError as error:
                    self._let_go()
                    code = await self._ended()
                    _log.error("the search reader ended with code %s", code)
                    if self._is_closed:
                        raise StoreUnavailableError("the node is stopping") from error
                    if is_last:
                        self._held_off_until_s = self._now() + self._limits.hold_off_s
                        raise StoreUnavailableError(
                            f"the reader of this node ended twice, with code {code}",
                            hint="The supervisor's log says why.",
                        ) from error
            raise AssertionError("one of two attempts returns or raises")
        finally:
            self._let_idle()

    def _end_if_stuck(self, reader: _Reader) -> None:
        """End a reader that has had its chance, and has not answered.

        For loading that is a minute, for a question half of the deadline: one whose turn came late
        says nothing about the reader, and its end would cost everybody the indexes that it holds.
        """
        chance_s = self._limits.deadline_s / 2 if reader.is_loaded else self._limits.start_s
        if not reader.free.is_set() and self._now() - reader.asked_s >= chance_s:
            self._end()

    async def _start(self) -> _Reader:
        self._collect()
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec: a millisecond
                [*self._command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        except OSError as error:
            ours.close()
            raise StoreUnavailableError(f"no reader can be started: {error.strerror}") from error
        finally:
            theirs.close()
        self.counts.starts += 1
        try:
            incoming, outgoing = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            self._ending.append(process)
            raise
        self._reader = reader = _Reader(process, outgoing, self._now())
        reader.listening = asyncio.create_task(reader.listen(incoming))
        outgoing.write(frame_bytes(self._config))
        return reader

    async def _ended(self) -> int | None:
        """The exit code of the reader that was let go; one that does not end is killed."""
        if not self._ending:
            return None  # collected already
        process = self._ending[-1]
        try:
            await asyncio.to_thread(process.wait, _OWN_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, _END_S)
        finally:
            process.kill()
        return process.returncode

    def _end(self) -> None:
        """Kill the reader, if there is one: it writes nothing that could be half done."""
        self._keep()
        if self._reader is not None:
            self._reader.process.kill()
            self._let_go()

    def _let_go(self) -> None:
        """Give up the reader in hand; its process is ending."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.fail()
            if reader.listening is not None:
                reader.listening.cancel()
            reader.outgoing.close()
            self._ending.append(reader.process)
            asyncio.get_running_loop().call_later(_END_S, self._collect)

    def _collect(self) -> None:
        """Collect the exit codes of processes that have ended: they stay zombies until then."""
        self._ending = [one for one in self._ending if one.poll() is None]

    def _keep(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _let_idle(self) -> None:
        self._keep()
        if self._reader is not None and not self._is_closed:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._limits.idle_s, self._end)


def _environment() -> dict[str, str]:
    """The node's own, without its settings; one thread for the libraries."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STATEROOM_")}
    path = os.pathsep.join(one for one in sys.path if one)
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
