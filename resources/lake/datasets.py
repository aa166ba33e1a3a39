"""Many objects as one Arrow dataset that opens and verifies only what a question needs.

Each object is announced with its partition and tick, so a condition on them rules it out unopened.
What is left is fetched, and so verified, when a scan begins: no byte reaches an answer unverified.

Why not a file system written in Python, which would verify each file as Arrow opens it: DuckDB
holds the interpreter's lock while it starts a scan, and Arrow's threads would wait for that lock
with a mutex in hand that the start needs. That is a deadlock which no time limit ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.errors import StateroomError
from fleet.lake import ObjectKind
from fleet.ports.lake import LakeObject
from resources.lake.byte_store import ByteStore, VanishedError

if TYPE_CHECKING:
    import pyarrow as pa


class ScanWatch:
    """Remembers what scans opened and what failed: DuckDB passes on only the text of an error."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.first: StateroomError | None = None
        self._opened: dict[str, str] = {}

    def fetch(self, store: ByteStore, found: LakeObject) -> str:
        """Path of a verified object; keeps the first error."""
        try:
            path = store.fetch(found.key, found.sha256)
        except StateroomError as error:
            self.first = self.first or error
            raise
        self._opened[found.key] = path
        return path

    def cause(self) -> StateroomError | None:
        """Why a scan failed: an object that could not be fetched, or that vanished since."""
        if self.first is None:
            gone = next((key for key, at in self._opened.items() if not Path(at).exists()), None)
            return None if gone is None else VanishedError(f"object {gone} vanished during a scan")
        return self.first


def history_dataset(
    store: ByteStore, live: Sequence[LakeObject], schema: pa.Schema, watch: ScanWatch
) -> Any:
    """A `pyarrow.dataset.Dataset` over objects, in the given order.

    Args:
        store: where the objects are.
        live: any number of objects of one table.
        schema: of the rows to come, stamped; a column that an object lacks is null.
        watch: told of every object that a scan opens or fails to.
    """
    return _dataset_class()(store, live, schema, watch)


def between(dataset: Any, since: datetime, until: datetime) -> pa.Table:
    """The rows of a dataset with since <= tick < until."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    first, end = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (since, until))
    tick = ds.field("tick")
    rows: pa.Table = dataset.scanner(filter=(tick >= first) & (tick < end)).to_table()
    return rows


@cache
def _dataset_class() -> Callable[[ByteStore, Sequence[LakeObject], pa.Schema, ScanWatch], Any]:
    """The class of these datasets; made on first use, because pyarrow is imported lazily."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    parquet, local = ds.ParquetFileFormat(), LocalFileSystem()

    def announced(found: LakeObject) -> ds.Expression:
        """What is true of every row of an object."""
        at = pa.scalar(found.written_at, pa.timestamp("us", "UTC"))
        tick = ds.field("tick")
        when = tick == at if found.kind == ObjectKind.TICK else tick <= at
        return (ds.field("partition") == found.partition) & when

    class LakeDataset(ds.FileSystemDataset):
        """Fragments whose paths are keys; a scan replaces those that it needs by files."""

        def __init__(
            self,
            store: ByteStore,
            live: Sequence[LakeObject],
            schema: pa.Schema,
            watch: ScanWatch,
        ) -> None:
            fragments = [
                parquet.make_fragment(found.key, local, partition_expression=announced(found))
                for found in live
            ]
            super().__init__(fragments, schema, parquet, local)
            self._store, self._watch = store, watch
            self._live = {found.key: found for found in live}

        # pyarrow and DuckDB name the argument so; the other options go through unseen
        def scanner(  # type: ignore[override]
            self,
            *,
            filter: Any = None,  # noqa: A002
            **options: Any,
        ) -> ds.Scanner:
            needed = [self._live[each.path] for each in self.get_fragments(filter=filter)]
            files = [
                parquet.make_fragment(
                    self._watch.fetch(self._store, found),
                    local,
                    partition_expression=announced(found),
                )
                for found in needed
            ]
            verified = ds.FileSystemDataset(files, self.schema, parquet, local)
            return verified.scanner(filter=filter, **options)

    return LakeDataset
