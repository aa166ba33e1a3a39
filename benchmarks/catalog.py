"""The catalogue of a network, built anew and brought up to date, against DuckDB in the same run.

`python benchmarks/catalog.py [--quick] [--agents N] [--snapshots N] [--rounds N]`. A vault is made
whose snapshots each change 2 % of the agents (manifests and records only: the catalogue reads no
pack). DuckDB is given every row of every snapshot, already in memory, and finds the same runs with
window functions; ours reads, decrypts and resolves the manifests as well.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute

from fleet.pack_keys import PackKeys
from fleet.vault_keyspace import manifest_key
from fleet.vault_log import ForgetRecord, SnapshotRecord
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault, chain_of
from resources.vault.packs.manifest import (
    CHAIN_DELTAS_MAX,
    Manifest,
    ManifestRef,
    PackInfo,
    manifest_schema,
    sort_rows,
)
from resources.vault.packs.manifest_codec import encode_manifest
from resources.vault.snapshots.catalog import catalogue_items

AT = datetime(2026, 11, 20, tzinfo=UTC)
KEYS = PackKeys(b"k" * 32, "net.0001", "net")
CHANGED_SHARE = 0.02
PACK = "a" * 64
ISLANDS = """
    with seen as (select item, version, digest, snapshot, snapshot - row_number() over (
        partition by item, version, digest order by snapshot) as island from rows)
    select item, version, digest, min(snapshot), max(snapshot) from seen
    group by item, version, digest, island
"""


class FixedClock:
    """Time stands still: nothing here is measured by it."""

    def now(self) -> datetime:
        """Always the same."""
        return AT

    def monotonic_s(self) -> float:
        """Never moves."""
        return 0.0


def rows(ids: list[str], numbers: np.ndarray, versions: np.ndarray) -> pa.Table:
    """Manifest rows of some agents, with a digest for each version."""
    count = len(numbers)
    digests = [hashlib.sha256(b"%d %d" % pair).digest() for pair in zip(numbers, versions)]  # noqa: B905
    constant: dict[str, Any] = {
        "kind": "state",
        "pack": PACK,
        "updated_at": AT,
        "removed": False,
        "attributes": None,
    }
    columns: dict[str, Any] = {
        "item_id": [ids[number] for number in numbers],
        "version": versions,
        "blob_id": digests,
        "digest": digests,
        "plain_length": np.full(count, 8200),
    }
    filled = [
        pa.array(columns.get(one.name, [constant.get(one.name, 0)] * count), one.type)
        for one in manifest_schema()
    ]
    return pa.table(filled, schema=manifest_schema())


def make_vault(root: Path, agents: int, snapshots: int) -> NetworkVault:
    """Snapshots in chains of one full manifest and its deltas."""
    vault = NetworkVault(DirectoryObjectStore(root), KEYS, FixedClock())
    chance = np.random.default_rng(1)
    ids = [f"agent-{number:08d}" for number in range(agents)]
    versions = np.ones(agents, np.int64)
    everyone = np.arange(agents)
    packs = {PACK: PackInfo("o", b"s" * 32, 1)}
    chain: tuple[ManifestRef, ...] = ()
    vault.log.refresh()
    for number in range(snapshots):
        snapshot_id = f"s{number:04d}"
        changed = np.sort(chance.choice(agents, int(agents * CHANGED_SHARE), replace=False))
        versions[changed] += number > 0
        base = chain if 0 < len(chain) <= CHAIN_DELTAS_MAX else ()
        numbers = changed if base else everyone
        table = rows(ids, numbers, versions[numbers])
        base_name = base[-1].sha256 if base else None
        sealed = encode_manifest(KEYS, Manifest(sort_rows(table), packs), base_name)
        vault.store.create(manifest_key("net", snapshot_id, sealed.sha256), sealed.data)
        ref = ManifestRef(snapshot_id, sealed.sha256, len(sealed.data), len(table))
        chain = (*base, ref)
        named = frozenset([PACK, *(one.sha256 for one in chain)])
        record = SnapshotRecord(snapshot_id, AT + timedelta(hours=number), named)
        extra = {"manifests": [list(one) for one in chain], "agents": agents}
        assert vault.log.append(record, AT, extra)
    return vault


def every_row(vault: NetworkVault) -> pa.Table:
    """What DuckDB is given: item, version, digest and number of the snapshot."""
    parts = []
    for number, stored in enumerate(vault.log.records):
        table = vault.manifests.read(chain_of(stored)).table
        parts.append(
            pa.table(
                {
                    "item": table["item_id"],
                    "version": table["version"],
                    "digest": table["digest"],
                    "snapshot": pa.array(np.full(len(table), number, np.int32)),
                }
            )
        )
    return pa.concat_tables(parts)


def median_s(rounds: int, work: Callable[[], object]) -> float:
    """Of several rounds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 agents, 20 snapshots")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--snapshots", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    agents = given.agents or (10_000 if given.quick else 100_000)
    snapshots = given.snapshots or (20 if given.quick else 70)
    with tempfile.TemporaryDirectory() as folder:
        vault = make_vault(Path(folder), agents, snapshots)

        def fresh(previous: Any = None) -> Any:
            return catalogue_items(vault.afresh(), previous)

        whole = fresh()
        print(f"{agents} agents x {snapshots} snapshots: {whole.num_rows} runs")
        anew_s = median_s(given.rounds, fresh)
        print(
            f"built anew           {anew_s:8.2f} s  {anew_s / snapshots * 1e3:7.1f} ms a snapshot"
        )
        table = every_row(vault)
        with duckdb.connect() as connection:
            connection.register("rows", table)
            assert connection.sql(ISLANDS).to_arrow_table().num_rows == whole.num_rows
            peer_s = median_s(given.rounds, lambda: connection.sql(ISLANDS).to_arrow_table())
        print(f"DuckDB, rows at hand {peer_s:8.2f} s  ratio {anew_s / peer_s:.2f}")
        nothing_s = median_s(given.rounds, lambda: fresh(whole))
        print(f"nothing new          {nothing_s:8.2f} s")
        vault.log.refresh()
        doomed = frozenset(f"s{number:04d}" for number in range(1, snapshots - 1, 7))
        assert vault.log.append(ForgetRecord(doomed), AT)
        forgot_s = median_s(given.rounds, lambda: fresh(whole))
        print(f"{len(doomed):2d} forgotten         {forgot_s:8.2f} s")
        assert fresh(whole).equals(fresh(), check_metadata=True)


if __name__ == "__main__":
    main()
