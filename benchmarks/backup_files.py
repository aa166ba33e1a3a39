"""Backup and restore of files, against reading them raw and (where installed) restic.

`python benchmarks/backup_files.py [--quick] [--size-mib N] [--rounds N]`. One file of 1 GiB of
chance is backed up, edited in place in 1 % of its 64-KiB blocks, backed up again, left alone,
backed up again, and restored; then a folder of small files. Raw is what nothing can go below: read
the file once, and read it with the SHA-256 that every backup keeps of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow.compute
import pyarrow.parquet  # noqa: F401

from fleet.backup import PLATFORM_NETWORK, ArtefactDeclaration
from fleet.pack_keys import PackKeys
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault
from resources.vault.restores.restore_files import restore_artefact
from resources.vault.snapshots.backup import BackupResult, back_up
from resources.vault.verification.verify import verify_content

KEYS = PackKeys(b"k" * 32, "platform.0001", PLATFORM_NETWORK)
MIB = 1024 * 1024
BLOCK_BYTES = 64 * 1024
EDITED_SHARE = 0.01
RACY_S = 2.1
"""A file that changed within 2 s of a backup is read again by the next: not what is measured."""


class WallClock:
    """The real clock."""

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """For durations."""
        return time.monotonic()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def make_file(path: Path, size_bytes: int, seed: int) -> None:
    """A file of chance: nothing compresses, nothing repeats."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(0, size_bytes, 16 * MIB):
            file.write(chance.randbytes(min(16 * MIB, size_bytes)))


def edit_in_place(path: Path, seed: int) -> int:
    """Overwrite 1 % of the blocks; how many bytes."""
    chance = random.Random(seed)
    blocks = path.stat().st_size // BLOCK_BYTES
    chosen = chance.sample(range(blocks), max(1, int(blocks * EDITED_SHARE)))
    with path.open("r+b") as file:
        for block in chosen:
            file.seek(block * BLOCK_BYTES)
            file.write(chance.randbytes(BLOCK_BYTES))
    return len(chosen) * BLOCK_BYTES


def make_tree(folder: Path, files: int, seed: int) -> int:
    """Small files in folders of 200; their bytes."""
    chance = random.Random(seed)
    total = 0
    for number in range(files):
        path = folder / f"{number // 200:04d}" / f"{number:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        body = chance.randbytes(min(200_000, int(chance.lognormvariate(0, 1.2) * 6000)))
        path.write_bytes(body)
        total += len(body)
    return total


def read_raw(path: Path, *, hashed: bool) -> None:
    """Every byte, in pieces of 4 MiB."""
    whole = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(4 * MIB):
            if hashed:
                whole.update(piece)


def declared(name: str, path: Path) -> list[ArtefactDeclaration]:
    """One artefact."""
    return [ArtefactDeclaration(name=name, path=str(path), kind="files")]


def measure_large(path: Path, root: Path, seed: int) -> dict[str, float]:
    """Every verb once on the one file."""
    vault = NetworkVault(DirectoryObjectStore(root / "vault"), KEYS, WallClock())
    artefacts = declared("large", path)
    figures: dict[str, float] = {}

    def run(name: str) -> None:
        result: BackupResult
        figures[name], result = timed(lambda: back_up(vault, None, artefacts=artefacts))
        assert result.incomplete == ()
        figures[f"MB stored, {name}"] = result.bytes_stored / 1e6

    figures["read raw"], _ = timed(lambda: read_raw(path, hashed=False))
    figures["read raw, SHA-256"], _ = timed(lambda: read_raw(path, hashed=True))
    time.sleep(RACY_S)
    run("first backup")
    edited = edit_in_place(path, seed)
    figures["MB edited"] = edited / 1e6
    time.sleep(RACY_S)
    run("after a 1 % edit")
    run("no change")
    figures["copy, fsync"], _ = timed(lambda: copy_synced(path, root / "copied"))
    figures["restore"], _ = timed(lambda: restore_artefact(vault, "large", root / "restored"))
    compared = subprocess.run(["cmp", path, root / "restored"], check=False)
    assert compared.returncode == 0
    figures["check all data"], checked = timed(lambda: verify_content(vault))
    assert checked.ok
    return figures


def copy_synced(source: Path, target: Path) -> None:
    """What a restore cannot go below."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def measure_tree(folder: Path, root: Path) -> dict[str, float]:
    """First backup and no change of many small files, and the raw walk."""
    vault = NetworkVault(DirectoryObjectStore(root / "tree-vault"), KEYS, WallClock())
    artefacts = declared("tree", folder)
    time.sleep(RACY_S)
    figures: dict[str, float] = {}
    figures["tree: stat raw"], _ = timed(
        lambda: [one.stat() for one in folder.rglob("*") if one.is_file()]
    )
    figures["tree: read raw"], _ = timed(
        lambda: [one.read_bytes() for one in folder.rglob("*") if one.is_file()]
    )
    for name in ("tree: first backup", "tree: no change"):
        figures[name], result = timed(lambda: back_up(vault, None, artefacts=artefacts))
        assert result.incomplete == ()
    target = root / "tree"
    figures["tree: restore"], _ = timed(lambda: restore_artefact(vault, "tree", target))
    return figures


def measure_restic(path: Path, root: Path, seed: int) -> dict[str, float]:
    """The same with restic, on the same file."""
    environment = os.environ | {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(root / "restic")}
    environment["RESTIC_CACHE_DIR"] = str(root / "cache")

    def run(*arguments: str) -> float:
        command = ["restic", "--quiet", *arguments]
        return timed(lambda: subprocess.run(command, env=environment, check=True))[0]

    def stored() -> float:
        files = (one for one in (root / "restic").rglob("*") if one.is_file())
        return sum(one.stat().st_size for one in files) / 1e6

    run("init")
    figures = {"first backup": run("backup", str(path))}
    before = stored()
    edit_in_place(path, seed)
    figures["after a 1 % edit"] = run("backup", str(path))
    figures["MB stored, after a 1 % edit"] = stored() - before
    figures["no change"] = run("backup", str(path))
    figures["restore"] = run("restore", "latest", "--target", str(root / "restic-restored"))
    figures["check all data"] = run("check", "--read-data")
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 MiB, 2,000 files, one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    size_mib, files, rounds = options.size_mib, options.files, options.rounds
    if options.quick:
        size_mib, files, rounds = 64, 2_000, 1
    has_restic = shutil.which("restic") is not None
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        path, small = Path(folder) / "large", Path(folder) / "small"
        make_file(path, size_mib * MIB, 1)
        make_tree(small, files, 2)
        for number in range(rounds):
            root = Path(folder) / f"round-{number}"
            root.mkdir()
            ours.append(measure_large(path, root, 10 + number) | measure_tree(small, root))
            if has_restic:
                theirs.append(measure_restic(path, root, 50 + number))
            shutil.rmtree(root)
    report(ours, theirs, f"{size_mib} MiB, {files} files", as_json=options.json)


RATIOS: Mapping[str, str] = {
    "first backup": "read raw, SHA-256",
    "after a 1 % edit": "read raw, SHA-256",
    "no change": "read raw, SHA-256",
    "restore": "copy, fsync",
    "check all data": "read raw, SHA-256",
    "tree: first backup": "tree: read raw",
    "tree: no change": "tree: stat raw",
    "MB stored, after a 1 % edit": "MB edited",
}


def report(
    ours: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
    what: str,
    *,
    as_json: bool,
) -> None:
    """Medians, with the ratio to the raw limit and to restic."""
    medians = {name: statistics.median(one[name] for one in ours) for name in ours[0]}
    peers = (
        {name: statistics.median(one[name] for one in theirs) for name in theirs[0]}
        if theirs
        else {}
    )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if as_json:
        print(json.dumps({"ours": medians, "restic": peers, "peak_mb": peak_mb}))
        return
    print(f"{what}, medians of {len(ours)}")
    for name, value in medians.items():
        unit = "MB" if name.startswith("MB") else "s"
        raw = RATIOS.get(name)
        ratio = f"  {value / medians[raw]:6.2f} times `{raw}`" if raw else ""
        peer = f"  restic {peers[name]:.2f}, {peers[name] / value:.1f}x" if name in peers else ""
        print(f"  {name:30} {value:9.3f} {unit}{ratio}{peer}")
    print(f"  peak memory {peak_mb:.0f} MB")
    if not theirs:
        print("  restic is not installed: no ratio to it in this run")


if __name__ == "__main__":
    main()
