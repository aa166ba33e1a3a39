"""Agent states for the benchmarks of backups: made by seed, in files or in a control store.

Sizes are log-normal, median 8.2 kB, mean about 23.5 kB, as in data A of the design; a quarter of
the bytes does not compress, so that zstd-3 shrinks them about 3.6-fold.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.agents import AgentState, Placement, StateChange, StatePut
from fleet.inventory import AgentStateInfo
from fleet.pack_keys import PackKeys
from fleet.reports import AgentDeclaration
from fleet.state_cuts import ChangeCursor, StateListing, columns_of
from resources.vault.packs.reading import ReadItem
from resources.vault.restores.staging import LiveHead

AT = datetime(2026, 11, 20, tzinfo=UTC)
KEYS = PackKeys(b"k" * 32, "net.0001", "net")
MEDIAN_BYTES = 8_200
SIGMA = 1.45
"""Of the logarithm: the mean is the median times exp(sigma^2 / 2), 23.5 kB."""
BODY_MAX_BYTES = 4_000_000
_TEXT = b'{"role":"assistant","content":"observed state"}\n'
_NOISE_BYTES = 15
"""Behind each text of 48 bytes."""
BATCH = 500


def make_body(chance: random.Random) -> bytes:
    """One state: records of words, each followed by bytes of chance."""
    size = min(max(40, int(chance.lognormvariate(0, SIGMA) * MEDIAN_BYTES)), BODY_MAX_BYTES)
    count = size // (len(_TEXT) + _NOISE_BYTES) + 1
    noise = chance.randbytes(count * _NOISE_BYTES)
    parts = [noise[start : start + _NOISE_BYTES] for start in range(0, len(noise), _NOISE_BYTES)]
    return (_TEXT + _TEXT.join(parts))[:size]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


class StateFiles:
    """States as files in a folder: the source of a backup, the target of a restore."""

    def __init__(self, folder: Path) -> None:
        """An empty folder."""
        self.folder = folder
        self.infos: dict[str, AgentStateInfo] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def write_state(self, agent_id: str, body: bytes) -> None:
        """Store the next version."""
        (self.folder / agent_id).write_bytes(body)
        before = self.infos.get(agent_id)
        version = before.version + 1 if before else 1
        digest = hashlib.sha256(body).hexdigest()
        self.infos[agent_id] = AgentStateInfo(
            agent_id, "net", "eu", version, 1, len(body), digest, AT
        )

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """All metadata: files have no change log."""
        del network_id, since, whole
        infos = sorted(self.infos.values())
        broken = "files have no change log"
        return StateListing(columns_of(infos), ChangeCursor(0, "", ""), True, broken)

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """None."""
        del after, limit
        return []

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """States with their digests verified, as a control store does it."""
        return [self._state(agent_id) for agent_id in agent_ids]

    def _state(self, agent_id: str) -> AgentState:
        info, body = self.infos[agent_id], (self.folder / agent_id).read_bytes()
        assert hashlib.sha256(body).hexdigest() == info.digest
        return AgentState(agent_id, info.version, 1, info.digest, body, AT)

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """Nothing is live in an empty folder."""
        del agent_ids
        return {}

    def write(self, items: Sequence[tuple[ReadItem, int]], *, more: bool) -> list[None]:
        """One file an agent."""
        del more
        for item, _ in items:
            (self.folder / item.agent_id).write_bytes(item.body)
        return [None] * len(items)


def agent_names(agents: int) -> list[str]:
    """Names of usual length."""
    return [f"agent-{number:06d}" for number in range(agents)]


def declare(store: Any, names: Sequence[str]) -> None:
    """Declare and place agents in a control store."""
    for start in range(0, len(names), 10_000):
        part = names[start : start + 10_000]
        store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in part])
        store.place_agents(
            [Placement(one, "net", "w", "n", "eu", 0, 1, "running", "", AT) for one in part]
        )


class TwinStates:
    """The same states twice: as files, for other tools, and in a control store, for ours."""

    def __init__(self, folder: Path, store: Any) -> None:
        """Nothing is written yet; the folder must be there."""
        self.folder = folder
        self.store = store
        self.versions: dict[str, int] = {}
        self.size_bytes = 0

    def write(self, names: Sequence[str], seed: int) -> int:
        """The next version of each; bytes written."""
        chance = random.Random(seed)
        written = 0
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            bodies = [make_body(chance) for _ in part]
            for name, body in zip(part, bodies, strict=True):
                (self.folder / name).write_bytes(body)
            self._put(part, bodies)
            written += sum(map(len, bodies))
        return written

    def _put(self, names: Sequence[str], bodies: Sequence[bytes]) -> None:
        puts = [
            StatePut(name, 1, self.versions.get(name, 0), body)
            for name, body in zip(names, bodies, strict=True)
        ]
        refused = [one.error for one in self.store.put_states(puts) if one.error]
        assert not refused, refused[0]
        self.versions.update({one.agent_id: one.expected_version + 1 for one in puts})

    def bodies(self) -> Iterator[tuple[str, bytes]]:
        """Every state, from its file."""
        for name in self.versions:
            yield name, (self.folder / name).read_bytes()
