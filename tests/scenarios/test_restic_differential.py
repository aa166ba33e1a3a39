"""The same fleet in our vault and in restic: the same days are kept, the same bytes come back.

restic is the second opinion on retention and on restores that shares no line with our code. It is
used where it is installed; nothing else needs it.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.retention import RetentionPolicy, Snapshot, plan_retention
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import create_vault
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.vault_fleet import VaultFleet

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]

POLICY = RetentionPolicy(hourly=0, daily=4, weekly=3, monthly=2, yearly=0)
NOW = timedelta(0)
OLDEST_RULE_SINCE = (0, 16)
"""restic keeps the oldest snapshot of a young repository since this version."""


class Restic:
    """A repository of its own below a folder; without a cache."""

    def __init__(self, root: Path) -> None:
        """Create it, and the empty folder that it backs up."""
        self.root = root
        self.states = root / "states"
        self.states.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RESTIC_")}
        self._environment = kept | {
            "RESTIC_PASSWORD": "differential",
            "RESTIC_REPOSITORY": str(root / "repository"),
            "TZ": "UTC",
        }
        self.has_oldest_rule = self._version() >= OLDEST_RULE_SINCE
        self._run("init")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["restic", "--no-cache", "--quiet", *arguments],
            cwd=self.root,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _version(self) -> tuple[int, ...]:
        found = re.search(r"restic (\d+)\.(\d+)", self._run("version"))
        assert found
        return tuple(int(part) for part in found.groups())

    def back_up(self, at: datetime) -> None:
        """Snapshot of the states, dated by us."""
        self._run("backup", "--host", "fleet", "--time", f"{at:%Y-%m-%d %H:%M:%S}", "states")

    def forget(self) -> set[datetime]:
        """Apply the policy and prune; the moments that are kept."""
        counts = [
            f"--keep-{kind}={getattr(POLICY, kind)}" for kind in ("daily", "weekly", "monthly")
        ]
        text = self._run("forget", "--json", "--prune", *counts)
        (group,), _ = json.JSONDecoder().raw_decode(text)  # a warning may follow it
        return {_moment(one) for one in group["keep"]}

    def snapshots(self) -> dict[datetime, str]:
        """Ids by moment."""
        return {_moment(one): one["id"] for one in json.loads(self._run("snapshots", "--json"))}

    def restored(self, snapshot_id: str) -> dict[str, bytes]:
        """All files of a snapshot."""
        target = self.root / f"restored-{snapshot_id}"
        self._run("restore", snapshot_id, "--target", str(target))
        return {one.name: one.read_bytes() for one in (target / "states").iterdir()}


def _moment(snapshot: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(snapshot["time"])


class TwoBackups:
    """A fleet that changes by seed; its states live in a control store, and as files for restic."""

    def __init__(self, root: Path, agents: int, seed: int) -> None:
        """Nothing is backed up yet."""
        self.chance = random.Random(seed)
        self.fleet = VaultFleet(agents)
        self.restic = Restic(root)
        self.vault_store = DirectoryObjectStore(root / "vault")
        create_vault(self.vault_store, self.fleet.clock.now())
        self.bodies: dict[datetime, dict[str, bytes]] = {}
        self.compared = 0

    def live_a_day(self) -> None:
        """Agents write, lose their states, and begin anew; most days are a day long."""
        self.fleet.clock.advance(self.chance.choice([6, 24, 24, 24, 24, 60]) * 3600)
        names = self.fleet.agent_ids
        for agent_id in self.chance.sample(names, len(names) // 20):
            if self.fleet.version(agent_id):
                self.fleet.drop(agent_id)
        self.fleet.change(*self.chance.sample(names, len(names) // 10))
        self.fleet.write(names[0], self.chance.choice([b"", self.chance.randbytes(200_000)]))
        live = self.fleet.bodies()
        for path in self.restic.states.iterdir():
            if path.name not in live:
                path.unlink()
        for agent_id, body in live.items():
            path = self.restic.states / agent_id
            if not path.exists() or path.read_bytes() != body:
                path.write_bytes(body)

    def back_up(self) -> None:
        """By both, at the same moment."""
        at = self.fleet.clock.now()
        back_up(self.fleet.vault(self.vault_store), self.fleet.store)
        self.restic.back_up(at)
        self.bodies[at] = self.fleet.bodies()

    def forget(self) -> None:
        """By both with the same policy, deleted at once; the same moments stay."""
        vault = self.fleet.vault(self.vault_store)
        live = vault.log.refresh().live
        snapshots = [Snapshot(one, record.taken_at) for one, record in live.items()]
        plan = plan_retention(snapshots, POLICY, self.fleet.clock.now())
        expected = {one.taken_at for one in plan if one.keep and self._knows(one.reasons)}
        assert self.restic.forget() == expected
        gone = [one.snapshot_id for one in plan if not one.keep]
        if gone:
            forget(vault, gone)
        collect_garbage(vault, NOW)
        sweep(vault, NOW)

    def _knows(self, reasons: tuple[str, ...]) -> bool:
        """Whether this restic has one of the rules that keep a snapshot."""
        return self.restic.has_oldest_rule or not all(
            one.startswith("oldest of all") for one in reasons
        )

    def compare(self) -> None:
        """Every snapshot that either of them kept comes back as it was taken."""
        vault = self.fleet.vault(self.vault_store)
        live = {record.taken_at: one for one, record in vault.log.refresh().live.items()}
        theirs = self.restic.snapshots()
        assert theirs.keys() <= live.keys()
        for at, snapshot_id in live.items():
            ours = self.fleet.restored(self.vault_store, snapshot_id)
            assert ours == self.bodies[at]
            if at in theirs:
                assert self.restic.restored(theirs[at]) == ours
                self.compared += 1
        assert verify_structure(vault).findings == ()
        assert verify_content(vault, list(live.values())).findings == ()


def run(root: Path, *, agents: int, days: int, forget_every: int, seed: int) -> TwoBackups:
    """Live, back up and forget; at the end compare every day that is left."""
    both = TwoBackups(root, agents, seed)
    for day in range(1, days + 1):
        both.live_a_day()
        both.back_up()
        if day % forget_every == 0:
            both.forget()
    both.compare()
    return both


def test_five_days_kept_and_restored_by_restic_are_kept_and_restored_by_us(tmp_path: Path) -> None:
    """The short form: more days than dailies, so that the first forget removes some."""
    both = run(tmp_path, agents=40, days=5, forget_every=5, seed=3)
    assert 4 <= both.compared <= 5


@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_days_kept_and_restored_by_restic_are_kept_and_restored_by_us(
    tmp_path: Path, seed: int
) -> None:
    """200 agents; forget and prune, gc and sweep after each day."""
    both = run(tmp_path, agents=200, days=30, forget_every=1, seed=seed)
    assert len(both.bodies) == 30
    assert 5 <= both.compared < 15
