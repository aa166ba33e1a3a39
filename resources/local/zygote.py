"""The warm parent of a node's agents: starts them, reaps them, reports each exit at once.

A single-threaded process that imports only the standard library, the SDK and the modules of the
functions, so a fork costs a fraction of a millisecond and an idle agent a few hundred private
kilobytes. It obeys its supervisor over one socketpair (`SOCK_SEQPACKET`, one JSON object per
message; `docs/formats/node.md` lists them) and decides nothing itself.

Nothing outlives the node, by four means. Every agent stays in the node's process group, so that
one `killpg` ends the node at a stroke. Every agent asks the kernel to be killed with the zygote.
The zygote is subreaper: a grandchild whose parent ends becomes its child and is killed. And when
the supervisor's end of the socket closes, on purpose or by its death, the zygote kills everything
and ends.

Dead man's switch: the supervisor extends a deadline with each renewal of its lease. When it
passes, the zygote kills all agents by itself, also if the supervisor hangs, so that no agent
works past the node's lease.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from resources.local.linux_processes import (
    become_subreaper,
    boottime_s,
    child_pids,
    die_with_parent,
    end_children,
    set_process_name,
)

MESSAGE_MAX_BYTES = 192 * 1024
"""Longest message; below the default socket buffer (208 KiB), so that one always fits."""

PROBE_TIMEOUT_S = 10.0
"""How long a module may take to import before its agents import it themselves."""

NICENESS = 5
"""How much nicer than their supervisor zygote and agents are: heartbeats go before work."""

EXIT_FAILED = 70
"""Exit code of a function agent that raised (EX_SOFTWARE of sysexits.h)."""
EXIT_NOT_FOUND = 127
"""Exit code when the program of a command agent cannot be executed, as shells have it."""

# Plain numbers for the C module below `signal`: its enumerations cost each agent 0.3 MiB of memory.
_HELD_NUMBERS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1)


class Zygote:
    """The loop: messages in, children started and reaped, events out."""

    def __init__(self, channel: socket.socket) -> None:
        """Take over the channel to the supervisor and the signals of this process."""
        self._channel = channel
        self._pid = os.getpid()
        self._agents: set[int] = set()
        self._probes: dict[int, tuple[str, float]] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._warm: dict[str, bool] = {}
        self._deadline_s: float | None = None
        self._fenced = False
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _wake_only)
        signal.signal(signal.SIGUSR1, _wake_only)
        # `kill -TERM` of the whole group is for the supervisor, which ends the agents in order.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def serve(self) -> None:
        """Work until the supervisor closes the channel or is gone; then end every child."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        serving = True
        while serving:
            ready = [fd for fd, _ in poller.poll(self._timeout_ms())]
            if self._wake_read.fileno() in ready:
                with suppress(BlockingIOError):
                    while self._wake_read.recv(4096):
                        pass
            self._reap()
            self._check_deadlines()
            if self._channel.fileno() in ready:
                serving = self._obey()
        end_children()

    def _timeout_ms(self) -> float | None:
        deadlines = [deadline_s for _, deadline_s in self._probes.values()]
        if self._deadline_s is not None and not self._fenced:
            deadlines.append(self._deadline_s)
        if not deadlines:
            return None
        return max(0.0, (min(deadlines) - boottime_s()) * 1000.0 + 1.0)

    def _obey(self) -> bool:
        """Carry out one message; False at the end of the channel."""
        try:
            text = self._channel.recv(MESSAGE_MAX_BYTES)
        except ConnectionResetError:
            return False
        if not text:
            return False
        message = json.loads(text)
        match message["op"]:
            case "spawn":
                self._spawn(message)
            case "signal":
                if message["pid"] in self._agents:
                    os.kill(message["pid"], message["signal"])
            case "deadline":
                self._deadline_s, self._fenced = message["boottime_s"], False
        return True

    def _tell(self, event: dict[str, Any]) -> None:
        # A supervisor that is gone shows as the end of the channel in the next round.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(json.dumps(event).encode())

    def _spawn(self, request: dict[str, Any]) -> None:
        function = request.get("function")
        if function and not self._is_ready(function.partition(":")[0], request):
            return
        if self._fenced:
            reason = "the node's lease has run out"
            self._tell({"event": "refused", "ref": request["ref"], "reason": reason})
            return
        try:
            pid = self._fork(request)
        except OSError as error:
            self._tell({"event": "refused", "ref": request["ref"], "reason": f"fork: {error}"})
            return
        self._agents.add(pid)
        self._tell({"event": "started", "ref": request["ref"], "pid": pid})

    def _fork(self, request: dict[str, Any]) -> int:
        gc.freeze()
        # Held back over the fork: a signal sent at once must meet the child's own handlers.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD_NUMBERS)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_agent(request)
        finally:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _HELD_NUMBERS)
        return pid

    def _become_agent(self, request: dict[str, Any]) -> NoReturn:
        code = EXIT_FAILED
        try:
            self._leave_parent(request["log"])
            if not die_with_parent(self._pid, signal.SIGKILL):
                os._exit(EXIT_FAILED)
            set_process_name(request["agent_id"])
            os.environ.update(request["env"])
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _HELD_NUMBERS)
            if request.get("command"):
                _execute(request["command"])
            else:
                code = _call(request["function"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - the agent's log is the only reader left
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)

    def _leave_parent(self, log: str) -> None:
        """Drop what belongs to the zygote: descriptors, signal handlers, output."""
        _signal.set_wakeup_fd(-1)
        for number in _HELD_NUMBERS:
            _signal.signal(number, 0)
        _signal.signal(_signal.SIGCHLD, 0)
        for end in (self._channel, self._wake_read, self._wake_write):
            os.close(end.detach())
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(output)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        gc.enable()

    def _reap(self) -> None:
        reaped = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            reaped = True
            code = os.waitstatus_to_exitcode(status)
            if pid in self._agents:
                self._agents.discard(pid)
                self._tell({"event": "exited", "pid": pid, "code": code})
            elif pid in self._probes:
                module, _ = self._probes.pop(pid)
                self._finish_warm_up(module, importable=code == 0)
        if reaped:
            self._end_orphans()

    def _end_orphans(self) -> None:
        """Kill what agents have left behind: descendants that became our own children."""
        for pid in child_pids(self._pid):
            if pid not in self._agents and pid not in self._probes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _check_deadlines(self) -> None:
        now_s = boottime_s()
        for pid, (_, deadline_s) in self._probes.items():
            if now_s >= deadline_s:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._deadline_s is not None and now_s >= self._deadline_s and not self._fenced:
            self._fenced = True
            for pid in self._agents:
                os.kill(pid, signal.SIGKILL)
            self._tell({"event": "fenced", "killed": len(self._agents)})

    def _is_ready(self, module: str, request: dict[str, Any]) -> bool:
        """Tell whether agents of a module may be forked now; else keep the request for later.

        A module is imported into the zygote only after a forked probe has imported it in time,
        and without starting a thread (a fork would copy the thread's locks, not the thread).
        Any other module is imported by each agent for itself, so its errors are the agent's.
        """
        if module in self._warm:
            return True
        self._waiting.setdefault(module, []).append(request)
        if len(self._waiting[module]) > 1:
            return False
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            _probe_import(module)
        self._probes[pid] = (module, boottime_s() + PROBE_TIMEOUT_S)
        return False

    def _finish_warm_up(self, module: str, *, importable: bool) -> None:
        self._warm[module] = False
        if importable:
            try:
                importlib.import_module(module)
                self._warm[module] = True
            except Exception:  # noqa: BLE001 - the agents meet the same error and report it
                traceback.print_exc()
        for request in self._waiting.pop(module):
            self._spawn(request)


def _wake_only(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor has ended the poll already."""


def _probe_import(module: str) -> NoReturn:
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(nothing, target)
        importlib.import_module(module)
        code = 0 if len(os.listdir("/proc/self/task")) == 1 else 3  # noqa: PTH208
    except BaseException:  # noqa: BLE001 - the exit code is the answer
        code = 1
    finally:
        os._exit(code)


def _execute(command: list[str]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - starting any program is the feature
    except OSError as error:
        sys.stderr.write(f"cannot execute {command[0]!r}: {error.strerror}\n")
        raise SystemExit(EXIT_NOT_FOUND) from error


def _call(function: str) -> int:
    from stateroom_agent.main import run_function

    return run_function(function)


def main() -> None:
    """Serve the supervisor on the inherited descriptor named by the one argument."""
    gc.disable()
    set_process_name("zygote")
    if not die_with_parent(int(sys.argv[2]), signal.SIGUSR1):
        return
    become_subreaper()
    os.nice(NICENESS)
    try:
        importlib.import_module("stateroom_agent.main")
        importlib.import_module("stateroom_agent.warm_up").warm_up()
    except Exception:  # noqa: BLE001 - agents start without it, and report what concerns them
        traceback.print_exc()
    gc.collect()
    channel = socket.socket(fileno=int(sys.argv[1]))
    with channel:
        Zygote(channel).serve()


if __name__ == "__main__":
    main()
