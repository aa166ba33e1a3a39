"""What no backup or restore can go below on this machine, on the same bytes in the same run."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zstandard
from _backup_data import TwinStates, declare

from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.synced_files import FileSystemFlush, write_new

_BATCH_BYTES = 8 * 1024 * 1024
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "cache_size=-32768",
    "wal_autocheckpoint=16384",
    "journal_size_limit=67108864",
)
"""The control store's own: the same durability, the same log."""


def measure_floor(states: TwinStates, target: Path) -> float:
    """Read, zstd-3, write in 16 MiB files with fsync: what no backup can go below."""
    workers = os.cpu_count() or 1
    names = list(states.versions)

    def pack(share: list[str]) -> None:
        compressor = zstandard.ZstdCompressor(level=3)
        parts: list[bytes] = []
        size = 0
        for number, name in enumerate(share):
            parts.append(compressor.compress((states.folder / name).read_bytes()))
            size += len(parts[-1])
            if size > 16 * 1024 * 1024 or number == len(share) - 1:
                with (target / f"{name}.pack").open("wb") as file:
                    file.write(b"".join(parts))
                    file.flush()
                    os.fsync(file.fileno())
                parts, size = [], 0

    target.mkdir()
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(pack, [names[start::workers] for start in range(workers)]))
    return time.perf_counter() - began


def measure_files_floor(states: TwinStates, target: Path) -> float:
    """Create a file for each state and flush: what a restore into files cannot go below.

    The bytes are in memory when the clock runs.
    """
    target.mkdir()
    flush = FileSystemFlush(target)
    seconds = 0.0
    try:
        for batch in _batches(states, 16 * _BATCH_BYTES):
            began = time.perf_counter()
            for name, body in batch:
                write_new(target / name, body)
            seconds += time.perf_counter() - began
        began = time.perf_counter()
        flush.flush()
        return seconds + time.perf_counter() - began
    finally:
        flush.close()


def measure_disk_floor(states: TwinStates, path: Path) -> float:
    """Write the states one behind the other, with an fsync for each 8 MiB: the bare disk."""
    seconds = 0.0
    with path.open("wb", buffering=0) as file:
        for batch in _batches(states, _BATCH_BYTES):
            data = b"".join(body for _, body in batch)
            began = time.perf_counter()
            file.write(data)
            os.fsync(file.fileno())
            seconds += time.perf_counter() - began
    path.unlink()
    return seconds


def measure_opening_floor(states: TwinStates) -> float:
    """Decompress and hash every state once, a thread per core: what proving cannot go below.

    Making the compressed bytes and holding them is not measured.
    """
    workers = os.cpu_count() or 1
    compressor = zstandard.ZstdCompressor(level=3)
    seconds = 0.0

    def prove(share: Sequence[bytes]) -> None:
        decompressor = zstandard.ZstdDecompressor()
        for one in share:
            hashlib.sha256(decompressor.decompress(one)).digest()

    with ThreadPoolExecutor(workers) as pool:
        for batch in _batches(states, 16 * _BATCH_BYTES):
            packed = [compressor.compress(body) for _, body in batch]
            began = time.perf_counter()
            list(pool.map(prove, [packed[start::workers] for start in range(workers)]))
            seconds += time.perf_counter() - began
    return seconds


def measure_store_floor(states: TwinStates, path: Path) -> float:
    """Insert every state and its change log entry by bare SQLite, as durably as the control store.

    The bytes are in memory when the clock runs, the digests are made up, nobody is judged.
    """
    store = open_control_store(f"sqlite:///{path}", clock=SystemClock())
    declare(store, list(states.versions))
    store.close()
    connection = sqlite3.connect(path, isolation_level=None)
    seconds = 0.0
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()
        for batch in _batches(states, _BATCH_BYTES):
            began = time.perf_counter()
            _insert(connection, batch)
            seconds += time.perf_counter() - began
        began = time.perf_counter()
    finally:
        connection.close()
    return seconds + time.perf_counter() - began


def _insert(connection: sqlite3.Connection, batch: Sequence[tuple[str, bytes]]) -> None:
    digest = "d" * 64
    changes = [(name, 1, 1, len(body), digest, 1) for name, body in batch]
    rows = [(*change, body) for change, (_, body) in zip(changes, batch, strict=True)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO agent_states"
        " (agent_id, version, epoch, size_bytes, digest, updated_at, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "INSERT INTO agent_state_changes"
        " (agent_id, version, epoch, size_bytes, digest, changed_at) VALUES (?, ?, ?, ?, ?, ?)",
        changes,
    )
    connection.execute("COMMIT")


def _batches(states: TwinStates, most_bytes: int) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size_bytes = 0
    for name, body in states.bodies():
        if batch and size_bytes + len(body) > most_bytes:
            yield batch
            batch, size_bytes = [], 0
        batch.append((name, body))
        size_bytes += len(body)
    if batch:
        yield batch
