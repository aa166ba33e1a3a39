"""Many objects as one Arrow dataset that opens and verifies only what a question needs.

Each object is announced with its partition and tick, so a condition on them rules it out unopened.
What is opened passes through the byte store's `fetch`: no byte reaches an answer unverified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from fleet.errors import StateroomError
from fleet.lake import ObjectKind
from fleet.ports import LakeObject
from resources.lake.byte_store import ByteStore

if TYPE_CHECKING:
    import pyarrow as pa


class ScanFailures:
    """What went wrong while Arrow or DuckDB scanned: they pass on only the text of an error."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.first: StateroomError | None = None

    def note(self, error: StateroomError) -> None:
        """Keep the first error."""
        self.first = self.first or error


def history_dataset(
    store: ByteStore,
    live: Sequence[LakeObject],
    schema: pa.Schema,
    failures: ScanFailures,
) -> Any:
    """A `pyarrow.dataset.Dataset` over objects, in the given order.

    Args:
        store: where the objects are.
        live: any number of objects of one table.
        schema: of the rows to come, stamped; a column that an object lacks is null.
        failures: where to keep the error of an object that cannot be read.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow.fs import PyFileSystem

    files = PyFileSystem(_handler_class()(store, live, failures))
    parquet = ds.ParquetFileFormat()
    tick, partition = ds.field("tick"), ds.field("partition")
    fragments = []
    for found in live:
        at = pa.scalar(found.written_at, pa.timestamp("us", "UTC"))
        when = tick == at if found.kind == ObjectKind.TICK else tick <= at
        known = (partition == found.partition) & when
        fragments.append(parquet.make_fragment(found.key, files, partition_expression=known))
    return ds.FileSystemDataset(fragments, schema, parquet, files)


def between(dataset: Any, since: datetime, until: datetime) -> Any:
    """The rows of a dataset with since <= tick < until."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    first, end = (pa.scalar(at, pa.timestamp("us", "UTC")) for at in (since, until))
    return dataset.filter((ds.field("tick") >= first) & (ds.field("tick") < end))


@cache
def _handler_class() -> Callable[[ByteStore, Sequence[LakeObject], ScanFailures], Any]:
    """The file system of one dataset; made on first use, because pyarrow is imported lazily."""
    import pyarrow as pa
    from pyarrow.fs import FileInfo, FileSystemHandler, FileType

    class VerifiedFiles(FileSystemHandler):
        """Read-only files whose paths are keys; opening one verifies it."""

        def __init__(
            self, store: ByteStore, live: Sequence[LakeObject], failures: ScanFailures
        ) -> None:
            self._store, self._failures = store, failures
            self._sha256 = {found.key: found.sha256 for found in live}

        def __eq__(self, other: object) -> bool:
            return self is other

        def __ne__(self, other: object) -> bool:
            return self is not other

        __hash__ = object.__hash__

        def get_type_name(self) -> str:
            return "lake"

        def normalize_path(self, path: str) -> str:
            return path

        def get_file_info(self, paths: str | list[str]) -> list[FileInfo]:
            paths = [paths] if isinstance(paths, str) else paths
            return [FileInfo(path, FileType.File) for path in paths]

        def open_input_file(self, path: str) -> Any:
            try:
                return pa.OSFile(self._store.fetch(path, self._sha256[path]), "r")
            except StateroomError as error:
                self._failures.note(error)
                raise

        open_input_stream = open_input_file

        def _refuse(self, *_: object, **__: object) -> NoReturn:
            raise PermissionError("objects of the lake are only read")

        get_file_info_selector = create_dir = delete_dir = delete_dir_contents = _refuse
        delete_root_dir_contents = delete_file = move = copy_file = _refuse
        open_output_stream = open_append_stream = _refuse

    return VerifiedFiles
