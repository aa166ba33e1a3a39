"""The catalogue of a network: its snapshots, and which of them hold which version of which item.

Both tables are caches of the log and the manifests: drop them, build them again, and they are
equal. Items are kept as runs (see `resources.vault.snapshots.catalog_runs`), so a version that did
not change for a month is one row. Agent ids stand in the clear here: the tables belong into the
lake, not into a vault.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fleet.vault_log import SnapshotRecord, VaultState
from fleet.vault_records import StoredRecord
from resources.vault.network import NetworkVault, chain_of
from resources.vault.packs.manifest import arrow, kernels
from resources.vault.retention.removal import store_time
from resources.vault.retention.retention_plan import VaultPlan
from resources.vault.retention.snapshot_facts import gather_facts
from resources.vault.snapshots.catalog_runs import (
    Items,
    Runs,
    digest_words,
    extend_runs,
    items_of,
    no_runs,
    shrink_runs,
    sort_runs,
)

_METADATA = b"stateroom"


def catalogue_items(vault: NetworkVault, previous: Any | None = None) -> Any:
    """Which live snapshots hold which version of which item.

    Args:
        vault: the opened network.
        previous: the table of an earlier call; only manifests of snapshots since then are read.
            None, a table without its metadata, or an undeleted snapshot builds all of it anew.

    Returns:
        A `pyarrow.Table` of `item_schema`, sorted by kind, item and snapshot. Its metadata names
        the snapshots that it covers.

    Raises:
        CorruptObjectError: a manifest is damaged; the previous table is still right for its moment.
        NotFoundError: a manifest is missing.
    """
    state = vault.log.refresh()
    live = [one for one in _committed(vault) if one.record.snapshot_id in state.live]
    ids = [one.record.snapshot_id for one in live]
    covered = _covered(previous, vault.network_id)
    standing = set(ids)
    kept = [one in standing for one in covered]
    known = sum(kept)
    if [one for one in covered if one in standing] != ids[:known]:
        covered, kept, known = [], [], 0  # an undeleted snapshot lies between known ones
    runs = _runs_of(previous, covered) if known else no_runs()
    if not all(kept):
        import numpy as np

        runs = shrink_runs(runs, np.array(kept)) if known else runs
    if len(ids) > known:
        runs = extend_runs(runs, _read_items(vault, live[known:]), known)
    return _item_table(vault.network_id, sort_runs(runs), live)


def item_schema() -> Any:
    """Columns of the items."""
    pa = arrow()
    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("network_id", pa.string()),
            ("kind", pa.string()),
            ("item_id", pa.string()),
            ("version", pa.int64()),
            ("first_snapshot_id", pa.string()),
            ("last_snapshot_id", pa.string()),
            ("first_taken_at", moment),
            ("last_taken_at", moment),
            ("snapshots", pa.int32()),
            ("size_bytes", pa.int64()),
            ("digest", pa.binary(32)),
        ]
    )


def catalogue_snapshots(vault: NetworkVault, region: str, decided: VaultPlan | None = None) -> Any:
    """All snapshots of a network as one region sees them, forgotten ones too.

    Args:
        vault: the opened network, in the region's vault.
        region: whose verifications are shown.
        decided: a retention plan; its fates are shown. None leaves them empty.

    Returns:
        A `pyarrow.Table` of `snapshot_schema`, in the order of the log.
    """
    facts = gather_facts(vault, region, decided.decided_at if decided else store_time(vault.store))
    fates = {one.snapshot_id: one for one in decided.plan.rows} if decided else {}
    committed = {one.record.snapshot_id: one for one in _committed(vault)}
    rows = []
    for one in facts.snapshots:
        record, stored = committed[one.snapshot_id]
        extra = stored.extra
        chain = chain_of(stored)
        row = fates.get(one.snapshot_id)
        rows.append(
            {
                "snapshot_id": one.snapshot_id,
                "network_id": vault.network_id,
                "epoch": stored.position.epoch,
                "seq": one.seq,
                "taken_at": one.taken_at,
                "written_at": one.written_at,
                "state": _state_of(record, facts.state),
                "agents": one.agents,
                "changed": one.changed,
                "removed": extra.get("removed"),
                "bytes_logical": extra.get("bytes_logical"),
                "bytes_stored": extra.get("bytes_stored"),
                "packs": len(record.packs) - len(chain),
                "manifest": _manifest_kind(one.snapshot_id, chain),
                "verified_level": one.verified_level or None,
                "verified_at": one.verified_at,
                "failed_level": one.failed_level or None,
                "failed_at": one.failed_at,
                "hold": one.hold or None,
                "fate": str(row.fate) if row else None,
                "reason": row.reason if row else None,
                "run_id": extra.get("run_id"),
                "code_version": extra.get("code_version"),
            }
        )
    return arrow().Table.from_pylist(rows, schema=snapshot_schema())


def snapshot_schema() -> Any:
    """Columns of the snapshots; what a record does not say is null."""
    pa = arrow()
    texts = "manifest verified_level failed_level hold fate reason run_id code_version state"
    counts = "epoch seq agents changed removed bytes_logical bytes_stored packs"
    kinds = dict.fromkeys(counts.split(), pa.int64()) | dict.fromkeys(texts.split(), pa.string())
    moments = ("taken_at", "written_at", "verified_at", "failed_at")
    kinds |= dict.fromkeys(moments, pa.timestamp("us", tz="UTC"))
    names = (
        "snapshot_id network_id epoch seq taken_at written_at state agents changed removed "
        "bytes_logical bytes_stored packs manifest verified_level verified_at failed_level "
        "failed_at hold fate reason run_id code_version"
    )
    return pa.schema([(name, kinds.get(name, pa.string())) for name in names.split()])


class _Committed(NamedTuple):
    """A snapshot's record with what is known of its place."""

    record: SnapshotRecord
    stored: StoredRecord


def _committed(vault: NetworkVault) -> Iterator[_Committed]:
    """All snapshots in the order of the log, whatever was undeleted when."""
    for stored in vault.log.records:
        if isinstance(stored.record, SnapshotRecord):
            yield _Committed(stored.record, stored)


def _read_items(vault: NetworkVault, snapshots: Sequence[_Committed]) -> Iterator[Items]:
    """What each snapshot holds; one that wrote no manifest holds what the one before held."""
    before: tuple[Any, Items] | None = None
    for one in snapshots:
        chain = chain_of(one.stored)
        if before is None or before[0] != chain:
            before = chain, items_of(vault.manifests.read(chain).table)
        yield before[1]


def _covered(previous: Any | None, network_id: str) -> list[str]:
    """Snapshots that a table covers, in order; none when it does not say so."""
    said = (previous.schema.metadata or {}).get(_METADATA) if previous is not None else None
    if said is None:
        return []
    about = json.loads(said)
    return list(about["snapshots"]) if about["network_id"] == network_id else []


def _runs_of(table: Any, covered: Sequence[str]) -> Runs:
    """The runs that a table shows."""
    import numpy as np

    pa, pc = arrow(), kernels()
    names = pc.binary_join_element_wise(table["kind"], table["item_id"], "\x00")
    numbers = pa.array(covered, pa.string())
    items = Items(
        names.combine_chunks(),
        np.asarray(table["version"]),
        digest_words(table["digest"]),
        np.asarray(table["size_bytes"]),
    )
    first = np.asarray(pc.index_in(table["first_snapshot_id"], value_set=numbers), np.int64)
    last = np.asarray(pc.index_in(table["last_snapshot_id"], value_set=numbers), np.int64)
    return Runs(items, first, last)


def _item_table(network_id: str, runs: Runs, live: Sequence[_Committed]) -> Any:
    import numpy as np

    pa, pc = arrow(), kernels()
    covered = [one.record.snapshot_id for one in live]
    ids = pa.array(covered, pa.string())
    schema = item_schema()
    at = pa.array([one.record.taken_at for one in live], schema.field("first_taken_at").type)
    parts = pc.split_pattern(runs.items.names, "\x00", max_splits=1)
    digest = pa.Array.from_buffers(
        pa.binary(32),
        len(runs.first),
        [None, pa.py_buffer(np.ascontiguousarray(runs.items.digest))],
    )
    columns = [
        pa.repeat(network_id, len(runs.first)),
        pc.list_element(parts, 0),
        pc.list_element(parts, 1),
        runs.items.version,
        ids.take(pa.array(runs.first)),
        ids.take(pa.array(runs.last)),
        at.take(pa.array(runs.first)),
        at.take(pa.array(runs.last)),
        (runs.last - runs.first + 1).astype(np.int32),
        runs.items.size_bytes,
        digest,
    ]
    about = {"network_id": network_id, "snapshots": covered}
    metadata = {_METADATA: json.dumps(about, sort_keys=True).encode()}
    return pa.table(columns, schema=schema).replace_schema_metadata(metadata)


def _state_of(record: SnapshotRecord, state: VaultState) -> str:
    """`live`, `forgotten` (an undelete brings it back) or `condemned` (nothing does)."""
    if record.snapshot_id in state.live:
        return "live"
    needed = state.forgotten.get(record.snapshot_id, record).packs
    return "condemned" if needed & state.condemned else "forgotten"


def _manifest_kind(snapshot_id: str, chain: Sequence[Any]) -> str:
    """`same` when it wrote none, else `full` or `delta`."""
    if chain[-1].owner != snapshot_id:
        return "same"
    return "full" if len(chain) == 1 else "delta"
