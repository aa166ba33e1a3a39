"""One artefact into packs: what has not changed is not read, what has is cut and stored.

A file whose size, times and inode are those of the last backup is not opened, unless it is racy
(`fleet.artefact_items.RACY_NS`), the backup is full, or what held it is distrusted. A file that
cannot be read, or not as one state in three tries, keeps its last good rows and is named.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from fleet.artefact_items import (
    ROOT,
    ItemAttributes,
    decode_attributes,
    encode_attributes,
    is_unchanged,
    item_id_of,
)
from fleet.backup import ROW_KINDS, ArtefactDeclaration, ArtefactOutcome
from fleet.errors import StateroomError, StoreUnavailableError
from resources.vault.artefacts.chunking import PIECE_BYTES, ChunkedFile
from resources.vault.artefacts.port import ArtefactSource, Omission, SourceFile
from resources.vault.packs.arrow_columns import column, empty, number, strings
from resources.vault.packs.blob_places import StoredBlob
from resources.vault.packs.manifest import arrow, kernels, manifest_schema
from resources.vault.packs.packing import PackWriter

_TRIES = 3
"""How often a file is read that changes meanwhile."""
_BATCH_FILES = 256
_BATCH_ROWS = 50_000
_LATEST_US = 253_402_300_799_000_000
"""End of the year 9999: a file may claim any time, a column of dates may not."""
_NAMED = 20
"""Paths of one sort that an outcome names; the last says how many more there are."""


class BaseItem(NamedTuple):
    """What the last backup knows of a file."""

    kind: str
    text: str
    """Its attributes, encoded."""
    digest: bytes
    trusted: bool
    """Whether all its blobs lie in packs that may be referenced."""


class _Intake(NamedTuple):
    """A file that was read: where its blob ids will be."""

    item_id: str
    attributes: str
    digest: bytes
    updated_at_us: int
    pieces: list[tuple[Future[list[bytes]], int, int]]


class Taken(NamedTuple):
    """What a snapshot gets of one artefact."""

    outcome: ArtefactOutcome
    rows: list[_Intake]
    removed: list[tuple[str, str]]
    """Row kind and item id of what is gone."""


class ArtefactIntake:
    """Reads artefacts of one row kind into one writer.

    Args:
        writer: of that row kind.
        full: whether to read every file, whatever its times say.
    """

    def __init__(self, writer: PackWriter, *, full: bool) -> None:
        """Nothing is read yet."""
        self._writer = writer
        self._full = full
        self._batch: list[tuple[str, bytes]] = []
        self._batch_bytes = 0
        self._waiting: Future[list[bytes]] = Future()

    def take(
        self,
        declared: ArtefactDeclaration,
        source: ArtefactSource,
        base: Mapping[str, BaseItem],
    ) -> Taken:
        """Read one artefact; its errors are part of the outcome.

        Args:
            declared: its name and chunker.
            source: opened; the caller closes it.
            base: what the last backup knows of it, by item id.

        Raises:
            StoreUnavailableError: the vault's store failed, not the artefact.
        """
        one = _OneArtefact(self, declared, source, base)
        return one.run(full=self._full)

    def flush(self) -> None:
        """Hand the open batch to the writer."""
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        waiting, self._waiting = self._waiting, Future()
        stored = self._writer.add_blobs(batch)
        stored.add_done_callback(lambda done: _hand_on(done, waiting))

    def add(self, item_id: str, plain: bytes) -> tuple[Future[list[bytes]], int]:
        """Put a blob into the open batch: which future will know its id, and at which place."""
        place = (self._waiting, len(self._batch))
        self._batch.append((item_id, plain))
        self._batch_bytes += len(plain)
        if self._batch_bytes >= PIECE_BYTES or len(self._batch) >= _BATCH_FILES:
            self.flush()
        return place


class _OneArtefact:
    """The intake of one artefact."""

    def __init__(
        self,
        intake: ArtefactIntake,
        declared: ArtefactDeclaration,
        source: ArtefactSource,
        base: Mapping[str, BaseItem],
    ) -> None:
        self._intake = intake
        self._declared = declared
        self._source = source
        self._base = base
        self._row_kind = ROW_KINDS[source.kind]
        self._seen: set[str] = set()
        self._rows: list[_Intake] = []
        self._skipped: list[tuple[str, str]] = []
        self._failed: list[tuple[str, str]] = []
        self._changed = self._files_read = self._bytes_read = 0

    def run(self, *, full: bool) -> Taken:
        error = ""
        try:
            for one in self._source.files():
                if isinstance(one, Omission):
                    self._omit(one)
                else:
                    self._take(one, full=full)
        except _VaultError as failure:
            raise failure.error from failure
        except (StateroomError, OSError) as failure:
            error = str(failure)
        removed = [] if error else self._gone()
        renewed = {row.item_id for row in self._rows}
        gone = {item_id for _, item_id in removed} - renewed
        items = len((self._base.keys() | renewed) - gone)
        return Taken(self._outcome(error, items, len(gone)), self._rows, removed)

    def _omit(self, one: Omission) -> None:
        path = os.fsdecode(one.path)
        if not one.failed:
            self._skipped.append((path, one.reason))
            return
        self._failed.append((path, one.reason))
        below = item_id_of(self._declared.name, one.path)
        kept = (i for i in self._base if i == below or i.startswith(f"{below}/"))
        self._seen.update(kept)

    def _gone(self) -> list[tuple[str, str]]:
        """What the base holds and the artefact does not; also rows of a kind it had before."""
        renewed = {row.item_id for row in self._rows}
        return [
            (item.kind, item_id)
            for item_id, item in self._base.items()
            if item_id not in self._seen or (item.kind != self._row_kind and item_id in renewed)
        ]

    def _take(self, file: SourceFile, *, full: bool) -> None:
        item_id = item_id_of(self._declared.name, file.path)
        self._seen.add(item_id)
        base = self._base.get(item_id)
        if base is not None and (base.kind != self._row_kind or not base.trusted):
            base = None
        before = None if base is None else decode_attributes(base.text, item_id)
        if base is not None and before is not None:
            if file.content is not None:
                same = base.digest == hashlib.sha256(file.content).digest()
                if same and before == file.attributes:
                    return
            elif not full and is_unchanged(before, file.attributes):
                return
        try:
            row = self._read(item_id, file, before)
        except FileNotFoundError:
            # Gone since it was listed: it is not part of this cut, unless it is the artefact.
            if item_id_of(self._declared.name, ROOT) in self._seen:
                self._seen.discard(item_id)
            else:
                self._failed.append((os.fsdecode(file.path), "it vanished while it was read"))
            return
        except (StateroomError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._failed.append((os.fsdecode(file.path), reason or str(error)))
            return
        self._rows.append(row)
        same = base is not None and base.digest == row.digest
        if not same or before is None or _shape(before) != _shape(file.attributes):
            self._changed += 1

    def _read(self, item_id: str, file: SourceFile, before: ItemAttributes | None) -> _Intake:
        """Read a file until it holds still.

        Raises:
            StoreUnavailableError: it does not, in three tries.
        """
        how = ""
        for _ in range(_TRIES):
            opened = file.open()
            try:
                cut = ChunkedFile(
                    opened,
                    self._declared.chunker,
                    before.chunker if before else "",
                    file.size_bytes,
                )
                pieces = self._hand_over(item_id, cut)
                how = opened.changed()
                found = opened.attributes(file.attributes)
            finally:
                opened.close()
            self._bytes_read += cut.size_bytes
            if not how:
                self._files_read += file.content is None
                attributes = found._replace(chunker=cut.chunker)
                text = encode_attributes(attributes)
                updated_at_us = min(max(0, attributes.mtime_ns // 1000), _LATEST_US)
                return _Intake(item_id, text, cut.digest, updated_at_us, pieces)
        raise StoreUnavailableError(
            f"{how} ({_TRIES} tries)",
            hint="Declare a database as such, exclude the file, or back up when it rests.",
        )

    def _hand_over(
        self, item_id: str, cut: ChunkedFile
    ) -> list[tuple[Future[list[bytes]], int, int]]:
        """Blobs to the writer; runs of them that one future answers."""
        pieces: list[tuple[Future[list[bytes]], int, int]] = []
        for plain in cut.blobs():
            try:
                future, at = self._intake.add(item_id, plain)
            except StateroomError as error:
                raise _VaultError(error) from error
            if pieces and pieces[-1][0] is future:
                pieces[-1] = (future, pieces[-1][1], at + 1)
            else:
                pieces.append((future, at, at + 1))
        return pieces

    def _outcome(self, error: str, items: int, removed: int) -> ArtefactOutcome:
        if self._failed and not error:
            path, reason = self._failed[0]
            more = len(self._failed) - 1
            error = f"{path}: {reason}" + (f" (and {more} more)" if more else "")
        return ArtefactOutcome(
            name=self._declared.name,
            kind=self._source.kind,
            items=items,
            changed=self._changed,
            removed=removed,
            files_read=self._files_read,
            bytes_read=self._bytes_read,
            skipped=_shortened(self._skipped),
            failed=_shortened(self._failed),
            error=error,
            about=self._source.about(),
        )


class _VaultError(Exception):
    """The vault's store failed: nothing that an artefact could be blamed for."""

    def __init__(self, error: StateroomError) -> None:
        super().__init__(str(error))
        self.error = error


def rows_of(taken: Sequence[Taken], kind: str, writer: PackWriter) -> Any:
    """The manifest rows of what was read, once the writer has finished."""
    pa = arrow()
    tables = [empty(manifest_schema())]
    batch: list[tuple[_Intake, list[bytes]]] = []
    size = 0
    for row in (row for one in taken for row in one.rows):
        ids = list(_blob_ids(row))
        batch.append((row, ids))
        size += len(ids)
        if size >= _BATCH_ROWS:
            tables.append(_table(batch, kind, writer))
            batch, size = [], 0
    tables.append(_table(batch, kind, writer))
    return pa.concat_tables(tables).combine_chunks()


def base_items(rows: Any, refused: frozenset[str]) -> dict[str, dict[str, BaseItem]]:
    """What the base knows, by artefact and item id.

    Args:
        rows: all rows of the base that are no states.
        refused: packs that must not be referenced.
    """
    pc = kernels()

    lost = pc.is_in(rows["pack"], value_set=strings(sorted(refused)))
    distrusted = set(rows.filter(lost)["item_id"].to_pylist())
    heads = rows.filter(pc.equal(rows["chunk"], number(0, arrow().int32())))
    names = ("kind", "item_id", "attributes", "digest")
    found: dict[str, dict[str, BaseItem]] = {}
    for kind, item_id, text, digest in zip(*(heads[n].to_pylist() for n in names), strict=True):
        item = BaseItem(kind, text or "", digest, item_id not in distrusted)
        found.setdefault(item_id.partition("/")[0], {})[item_id] = item
    return found


def _table(batch: Sequence[tuple[_Intake, list[bytes]]], kind: str, writer: PackWriter) -> Any:
    blob_ids = [one for _, ids in batch for one in ids]
    places = [writer.place(one) for one in blob_ids]
    count = len(blob_ids)

    def spread(values: Sequence[Any]) -> list[Any]:
        pairs = zip(values, batch, strict=True)
        return [value for value, (_, ids) in pairs for _ in ids]

    values: dict[str, Any] = {
        "kind": [kind] * count,
        "item_id": spread([row.item_id for row, _ in batch]),
        "version": [0] * count,
        "chunk": [at for _, ids in batch for at in range(len(ids))],
        "blob_id": blob_ids,
        **{name: [getattr(one, name) for one in places] for name in StoredBlob._fields},
        "digest": spread([row.digest for row, _ in batch]),
        "updated_at": spread([row.updated_at_us for row, _ in batch]),
        "removed": [False] * count,
        "attributes": [
            None if at else row.attributes for row, ids in batch for at in range(len(ids))
        ],
    }
    schema = manifest_schema()
    return arrow().table([column(values[one.name], one.type) for one in schema], schema=schema)


def _blob_ids(row: _Intake) -> Iterator[bytes]:
    for future, start, stop in row.pieces:
        yield from future.result()[start:stop]


def _hand_on(done: Future[list[bytes]], waiting: Future[list[bytes]]) -> None:
    if done.cancelled():
        waiting.cancel()
        return
    error = done.exception()
    if error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(done.result())


def _shape(attributes: ItemAttributes) -> ItemAttributes:
    """Attributes without what says when they were taken, and which file it was."""
    return attributes._replace(
        stamp=(), changed_ns=0, seen_ns=0, chunker="", hard_link=(), mtime_ns=0
    )


def _shortened(paths: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    more = len(paths) - _NAMED
    rest = ((f"and {more} more", ""),) if more > 0 else ()
    return (*paths[:_NAMED], *rest)
