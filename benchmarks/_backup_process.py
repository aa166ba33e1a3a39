"""The process whose time and memory `benchmarks/backup.py` measures: it holds a vault, no more.

`python benchmarks/_backup_process.py CONTROL_URL VAULT_FOLDER`. One JSON command a line on standard
input, one JSON answer a line on standard output: wall and CPU seconds, and the peak of resident
memory while the command ran (`VmHWM`, reset before it). States are read from the control store as
the product reads them; the data's generator lives in another process.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.compute
import pyarrow.parquet  # noqa: F401
from _backup_data import AT, KEYS, StateFiles

from fleet.agents import AgentState, StateChange, StatePut
from fleet.ports.object_store import ListedObject
from fleet.state_cuts import ChangeCursor, StateListing, state_columns
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.restores.targets import restore_into_directory
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content


class CountingStore(DirectoryObjectStore):
    """Counts requests."""

    requests = 0

    def create(self, key: str, data: bytes) -> bool:
        """Counted."""
        self.requests += 1
        return super().create(key, data)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Counted."""
        self.requests += 1
        return super().get(key, offset, length)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Counted."""
        self.requests += 1
        return super().list_objects(prefix, after)


def memory_mb(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)


def measured(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What work says, with its time and memory."""
    Path("/proc/self/clear_refs").write_text("5")
    began, began_cpu = time.perf_counter(), time.process_time()
    said = work()
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": memory_mb("VmHWM"),
        "rss_mb": memory_mb("VmRSS"),
    } | said


class Resident:
    """The verbs, by name."""

    def __init__(self, url: str, folder: str) -> None:
        """Open the control store; the vault is opened by the first verb."""
        self.clock = SystemClock()
        self.control = open_control_store(url, clock=self.clock)
        self.store = CountingStore(Path(folder))
        self.vault = NetworkVault(self.store, KEYS, self.clock)

    def idle(self) -> dict[str, Any]:
        """Nothing: what an open process weighs."""
        return {}

    def back_up(self) -> dict[str, Any]:
        """One snapshot."""
        done = back_up(self.vault, self.control)
        return {
            "bytes_stored": done.bytes_stored,
            "bytes_logical": done.bytes_logical,
            "changed": done.changed,
            "objects": done.packs + (done.manifest != "same") + 1,
        }

    def restore_files(self, folder: str) -> dict[str, Any]:
        """Everything into a new folder, durable before it has its name."""
        return {"restored": restore_into_directory(self.vault, Path(folder)).restored}

    def restore_store(self, url: str) -> dict[str, Any]:
        """Everything into a control store in which the agents are declared already.

        The source is closed first: in the product one store is open, with its cache of 32 MB.
        """
        self.control.close()
        target = open_control_store(url, clock=self.clock)
        try:
            done = restore(self.vault, ControlStoreTarget(target))
        finally:
            target.close()
        return {"restored": done.restored}

    def restore_one(self, agent_ids: list[str], folder: str) -> dict[str, Any]:
        """Agents one by one, each by a restore of its own; the log and manifest are known."""
        seconds, requests = [], []
        for agent_id in agent_ids:
            before, began = self.store.requests, time.perf_counter()
            restore(self.vault, StateFiles(Path(folder)), agent_ids=[agent_id])
            seconds.append(time.perf_counter() - began)
            requests.append(self.store.requests - before)
        return {"each_s": statistics.median(seconds), "requests": max(requests)}

    def restore_one_cold(self, agent_id: str, folder: str) -> dict[str, Any]:
        """One agent by a handle that knows nothing yet."""
        before = self.store.requests
        restore(self.vault.afresh(), StateFiles(Path(folder)), agent_ids=[agent_id])
        return {"requests": self.store.requests - before}

    def check(self) -> dict[str, Any]:
        """V3 of all."""
        done = verify_content(self.vault)
        assert done.ok, done.findings
        return {"items": done.items}

    def many(self, snapshots: int, names: list[str]) -> dict[str, Any]:
        """Many small snapshots; memory after the 10th and after the last."""
        sizes = []
        for number in range(snapshots):
            name = names[number % len(names)]
            state = self.control.state(name)
            assert state is not None
            put = StatePut(name, 1, state.version, state.body[::-1])
            self.control.put_states([put])
            back_up(self.vault, self.control)
            sizes.append(memory_mb("VmRSS"))
        return {"tenth_mb": sizes[9], "last_mb": sizes[-1]}

    def million_backup(self, agents: int, folder: str, step: str) -> dict[str, Any]:
        """A manifest of a million tiny states: `first`, then 2,000 `changed`, then `same`."""
        source = TinyStates(agents)
        if step != "first":
            source.change(range(0, agents, max(1, agents // 2_000)))
        if step == "same":
            source.change(())
        done = back_up(NetworkVault(CountingStore(Path(folder)), KEYS, self.clock), source)
        return {"manifest": done.manifest, "changed": done.changed}

    def million_look_up(self, agents: int, folder: str) -> dict[str, Any]:
        """One agent out of that manifest, by a handle that knows nothing, and once more."""
        vault = NetworkVault(CountingStore(Path(folder)), KEYS, self.clock)
        target = StateFiles(Path(folder) / "one")
        name = TinyStates(agents).name(agents // 3)

        def look_up() -> dict[str, Any]:
            before = vault.store.requests  # type: ignore[attr-defined]
            restore(vault, target, agent_ids=[name])
            return {"requests": vault.store.requests - before}  # type: ignore[attr-defined]

        return {"cold": measured(look_up), "warm": measured(look_up)}


class TinyStates:
    """Very many states of a few bytes: all work is in the manifest."""

    def __init__(self, agents: int) -> None:
        """Version 1 of each."""
        self.versions = array("q", [1]) * agents
        self.touched: list[int] = []

    def name(self, number: int) -> str:
        """Of an agent; not kept, so that what is measured is the vault."""
        return f"agent-{number:07d}"

    def change(self, numbers: Sequence[int]) -> None:
        """The next version."""
        for number in numbers:
            self.versions[number] += 1
        self.touched = list(numbers)

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """All at first, then what was changed last."""
        del network_id
        is_whole = whole or since is None
        numbers = range(len(self.versions)) if is_whole else self.touched
        rows = (self._row(number) for number in numbers)
        return StateListing(state_columns(rows), ChangeCursor(1, "one", ""), is_whole, "")

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Not asked for: nothing is compared in full."""
        raise AssertionError((after, limit))

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """By name: the number is in it."""
        return [self._state(int(one.rpartition("-")[2])) for one in agent_ids]

    def _body(self, number: int) -> bytes:
        return number.to_bytes(16, "big") + b"+" * (self.versions[number] - 1)

    def _row(self, number: int) -> tuple[str, int, int, str, int]:
        body = self._body(number)
        return self.name(number), self.versions[number], len(body), _sha256(body), 0

    def _state(self, number: int) -> AgentState:
        body = self._body(number)
        return AgentState(self.name(number), self.versions[number], 1, _sha256(body), body, AT)


def _sha256(body: bytes) -> str:
    import hashlib

    return hashlib.sha256(body).hexdigest()


def main(url: str, folder: str) -> None:
    """Answer commands until the input ends."""
    resident = Resident(url, folder)
    try:
        for line in sys.stdin:
            name, arguments = json.loads(line)
            verb = getattr(resident, name)
            print(json.dumps(measured(lambda verb=verb, a=arguments: verb(**a))), flush=True)
    finally:
        resident.control.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
