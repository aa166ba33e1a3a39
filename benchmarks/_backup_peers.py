"""restic and borg on the same files, each command a process of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What a command took."""

    wall_s: float
    cpu_s: float


class Peer(ABC):
    """One tool with one repository below a folder; cache and keys lie there as well."""

    name = ""

    def __init__(self, root: Path, states: Path) -> None:
        """Create the repository."""
        self.root = root
        self.states = states
        self.repository = root / self.name
        self.environment = os.environ | self.settings()
        self.snapshots = 0
        self.create()

    @classmethod
    def is_installed(cls) -> bool:
        """Whether its program is on the PATH."""
        return shutil.which(cls.name) is not None

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """Environment: secret, cache."""

    @abstractmethod
    def create(self) -> None:
        """Make an empty repository."""

    def run(self, *arguments: str, folder: Path | None = None) -> Cost:
        """One command; its whole time, the start and the derivation of its key included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(
            [self.name, *arguments],
            env=self.environment,
            cwd=folder or self.root,
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Cost(wall, cpu)

    def stored_bytes(self) -> int:
        """Size of the repository."""
        files = (one for one in self.repository.rglob("*") if one.is_file())
        return sum(one.stat().st_size for one in files)

    def wanted(self, agent_id: str) -> str:
        """Path of one state as the tool names it."""
        return str(self.states / agent_id)


class Restic(Peer):
    """restic with its defaults."""

    name = "restic"

    def settings(self) -> dict[str, str]:
        """A password, a repository and a cache of its own."""
        return {
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_REPOSITORY": str(self.repository),
            "RESTIC_CACHE_DIR": str(self.root / "restic-cache"),
        }

    def create(self) -> None:
        """`restic init`."""
        self.run("init", "--quiet")

    def back_up(self) -> Cost:
        """`restic backup`."""
        return self.run("backup", "--quiet", str(self.states))

    def restore(self) -> Cost:
        """`restic restore` of all into a new folder."""
        return self.run("restore", "latest", "--quiet", "--target", str(self.root / "restic-all"))

    def restore_one(self, agent_id: str) -> Cost:
        """`restic restore --include`."""
        target = str(self.root / "restic-one")
        wanted = ("--include", self.wanted(agent_id))
        return self.run("restore", "latest", "--quiet", *wanted, "--target", target)

    def check(self) -> Cost:
        """`restic check --read-data`."""
        return self.run("check", "--quiet", "--read-data")


class Borg(Peer):
    """borg with the cipher and the compression nearest to ours."""

    name = "borg"

    def settings(self) -> dict[str, str]:
        """A passphrase, a repository and a folder for caches of its own."""
        return {
            "BORG_PASSPHRASE": "benchmark",
            "BORG_REPO": str(self.repository),
            "BORG_BASE_DIR": str(self.root / "borg-base"),
        }

    def create(self) -> None:
        """`borg init`."""
        self.run("init", "--encryption", "repokey-blake2")

    def back_up(self) -> Cost:
        """`borg create`."""
        self.snapshots += 1
        archive = f"::{self.snapshots}"
        return self.run("create", "--compression", "zstd,3", archive, str(self.states))

    def restore(self) -> Cost:
        """`borg extract` into a new folder."""
        return self._extract(self.root / "borg-all")

    def restore_one(self, agent_id: str) -> Cost:
        """`borg extract` of one path."""
        return self._extract(self.root / "borg-one", self.wanted(agent_id).lstrip("/"))

    def _extract(self, folder: Path, *paths: str) -> Cost:
        folder.mkdir()
        return self.run("extract", f"::{self.snapshots}", *paths, folder=folder)

    def check(self) -> Cost:
        """`borg check --verify-data`."""
        return self.run("check", "--verify-data")


PEERS: Sequence[type[Restic | Borg]] = (Restic, Borg)
