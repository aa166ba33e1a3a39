"""Forks agents from a parent as lean as a supervisor's, and prints what memory is their own.

Run by agent_api.py: `_lean_parent.py SOCKET ROUNDS`. Prints one line for each measurement: kind,
a blank, KiB. The agents of the numbers used must be admitted under epoch 1.
"""

import gc
import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sdk"))

from stateroom_agent import observers
from stateroom_agent.agent import Agent
from stateroom_agent.warm_up import warm_up

FUNCTIONS = ("observe_cpu", "observe_memory", "observe_disk", "observe_network")
YOUNGEST = "youngest"
SETTLE_S = 2.5
"""After which a child is looked at from outside: looking from inside would add to it."""
QUICK = {"interval_s": "0.2", "note_interval_s": "1", "activity_interval_s": "1"}


def own_memory_kib(pid: int) -> int:
    """Memory of a process that no other shares (USS)."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(f[1]) for f in lines if f[0] in {"Private_Clean:", "Private_Dirty:"})


def idle(path: str) -> None:
    """An agent that registers, saves and sends heartbeats with the SDK's client."""
    agent = Agent("agent-1", "bench", 1, path)
    agent.register()
    agent.save_state(b"{}")
    for _ in range(20):
        agent.heartbeat()
    signal.pause()


class UnixConnection(http.client.HTTPConnection):
    """The standard library's client on a unix socket."""

    def __init__(self, path: str) -> None:
        """Remember the path."""
        super().__init__("stateroom")
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def idle_with_http_client(path: str) -> None:
    """An agent that sends as many requests with the standard library's client."""
    connection = UnixConnection(path)
    for operation in ["register", *["heartbeat"] * 22]:
        connection.request("POST", f"/v1/agents/agent-2/{operation}", headers={"X-Epoch": "1"})
        json.loads(connection.getresponse().read())
    signal.pause()


def work(kind: str, path: str) -> None:
    """What a child of one kind does; none of them returns before it is killed."""
    if kind.startswith("observe"):
        getattr(observers, kind)(Agent(kind, "bench", 1, path, QUICK))
    elif kind == "client of this SDK":
        idle(path)
    elif kind == "http.client":
        idle_with_http_client(path)
    else:
        signal.pause()


def measure(kinds: tuple[str, ...], path: str, label: str) -> None:
    """Start a child of each kind, let them settle, look, end them.

    The last child is not reported: what the parent changes later stays with it alone, as it does
    with the youngest agent of a supervisor only.
    """
    children = {}
    for kind in (*kinds, YOUNGEST):
        pid = os.fork()
        if pid == 0:
            try:
                gc.enable()
                work(kind, path)
            finally:
                os._exit(1)
        children[kind] = pid
    time.sleep(SETTLE_S)
    for kind, pid in children.items():
        if kind != YOUNGEST:
            print(f"{kind}{label} {own_memory_kib(pid)}", flush=True)
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def main() -> None:
    """Every kind, first from a cold parent, then from a warmed one."""
    path, rounds = sys.argv[1], int(sys.argv[2])
    kinds = ("bare fork", "http.client", "client of this SDK", *FUNCTIONS)
    for warm in (False, True):
        if warm:
            gc.enable()
            warm_up()
        gc.collect()
        gc.freeze()
        gc.disable()
        for _ in range(rounds):
            measure(kinds, path, ", warmed up" if warm else "")


if __name__ == "__main__":
    main()
