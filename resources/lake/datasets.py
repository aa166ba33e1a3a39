"""Many objects as one Arrow dataset that skips what a condition on tick or partition rules out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fleet.lake import ObjectKind
from fleet.ports import LakeObject
from resources.lake import parquet_codec as codec
from resources.lake.byte_store import ByteStore

if TYPE_CHECKING:
    import pyarrow as pa


def history_dataset(
    store: ByteStore,
    table: str,
    live: Sequence[LakeObject],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Any:
    """A `pyarrow.dataset` over objects; each knows its tick and partition before it is opened.

    Args:
        store: where the objects are.
        table: their table, for errors.
        live: at least one, in the order in which rows shall come.
        since: rows of earlier ticks are left out.
        until: rows of this tick and later ones are left out.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    parquet, local = ds.ParquetFileFormat(), LocalFileSystem()
    tick, partition = ds.field("tick"), ds.field("partition")
    fragments = []
    for found in live:
        path = store.fetch(found.key, found.sha256)
        at = pa.scalar(found.written_at, pa.timestamp("us", "UTC"))
        when = tick == at if found.kind == ObjectKind.TICK else tick <= at
        known = (partition == found.partition) & when
        fragments.append(parquet.make_fragment(path, local, partition_expression=known))
    schema = codec.unify(schemas_of(store, live), table)
    dataset = ds.FileSystemDataset(fragments, schema, parquet, local)
    if since is not None:
        dataset = dataset.filter(tick >= pa.scalar(since, pa.timestamp("us", "UTC")))
    if until is not None:
        dataset = dataset.filter(tick < pa.scalar(until, pa.timestamp("us", "UTC")))
    return dataset


def newest_sources(
    store: ByteStore,
    table: str,
    newest: Sequence[LakeObject],
    read_tick: Callable[[LakeObject], pa.Table],
) -> list[Any]:
    """Arrow sources that together hold the newest tick of each partition.

    Ticks are scanned where they lie; of a merged day only the last tick is read.
    """
    ticks = [found for found in newest if found.kind == ObjectKind.TICK]
    merged = [read_tick(found) for found in newest if found.kind == ObjectKind.DAY]
    return [*([history_dataset(store, table, ticks)] if ticks else []), *merged]


def schemas_of(store: ByteStore, live: Sequence[LakeObject]) -> list[pa.Schema]:
    """The schema of every object."""
    return [codec.read_schema(store.fetch(found.key, found.sha256)) for found in live]
