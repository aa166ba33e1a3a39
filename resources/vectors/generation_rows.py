"""What a generation keeps of its rows: an Arrow file that all processes of a node map.

Row number = place in the file; a dead row has the number `NO_ROW` and stays where it was. The file
is not compressed, so that opening it reads nothing and a hit reads its own bytes only. Rows of
deltas follow in their order, each delta in a file of its own with the vectors of its rows.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fleet.errors import CorruptObjectError
from fleet.moments import moment_of
from fleet.ports.embedder import Vectors
from fleet.ports.index_backend import Mask, Rows
from fleet.ports.vector_store import GenerationFiles
from fleet.vectors.filter_text import Comparison, Filter, Junction, Negation
from fleet.vectors.records import (
    NO_ROW,
    NOTE_COLUMNS,
    EmbeddingModel,
    IndexDelta,
    SearchHit,
)
from resources.vectors.arrow_buffers import number_array, true_rows, value_array, whole_numbers
from resources.vectors.embedding_rows import embedding_schema, vectors_of

if TYPE_CHECKING:
    import pyarrow as pa

_HIT_COLUMNS = ["note_id", "agent_id", "region", "created_at", "text"]
_DEAD_ROWS = b"dead_rows"
"""Key of a delta's metadata: row numbers as little-endian int64 in base64."""


def open_rows(path: str) -> pa.Table:
    """Map the rows of a generation whose checksum was verified.

    Raises:
        CorruptObjectError: it is no such file.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as file:
            rows = pa.ipc.open_file(file).read_all()
    except (pa.ArrowException, OSError) as error:
        raise CorruptObjectError(f"{path} holds no rows: {error}") from error
    if tuple(rows.column_names) != NOTE_COLUMNS:
        raise CorruptObjectError(f"{path} has columns {rows.column_names}")
    return rows


class GenerationRows(NamedTuple):
    """All rows of a generation, those of its deltas behind those of its index file."""

    table: pa.Table
    """`NOTE_COLUMNS`; dead rows are marked."""
    live: Mask
    vectors: Vectors
    """Of the rows of deltas, in their order."""


class DeltaRows(NamedTuple):
    """What one delta holds."""

    table: pa.Table
    """`NOTE_COLUMNS` and `vector`."""
    dead_rows: Rows
    """Row numbers that end with it; of a delta that took in others also its own."""


def open_generation_rows(files: GenerationFiles) -> GenerationRows:
    """Map the rows of a generation and its deltas, whose checksums were verified.

    Raises:
        CorruptObjectError: a file is not what its manifest says.
    """
    import pyarrow as pa

    manifest = files.manifest
    tables, vectors = [open_rows(files.rows_path)], []
    dead: list[Rows] = []
    for delta, path in zip(manifest.deltas, files.delta_paths, strict=True):
        opened = open_delta(path, manifest.model)
        rows = sum(table.num_rows for table in tables) + delta.rows
        _demand_delta(opened, delta, rows)
        tables.append(opened.table.select(list(NOTE_COLUMNS)))
        vectors.append(vectors_of(opened.table))
        dead.append(opened.dead_rows)
    if not dead:
        empty = np.zeros((0, manifest.model.dimensions), np.float32)
        return GenerationRows(tables[0], live_mask(tables[0]), empty)
    beside = pa.concat_tables(tables[1:]).combine_chunks()  # few chunks: a hit looks for its own
    joined = mark_dead(pa.concat_tables([tables[0], beside]), np.concatenate(dead))
    return GenerationRows(joined, live_mask(joined), np.concatenate(vectors))


def open_delta(path: str, model: EmbeddingModel) -> DeltaRows:
    """Map a delta whose checksum was verified.

    Raises:
        CorruptObjectError: it is no delta of this model.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(path) as file:
            table = pa.ipc.open_file(file).read_all()
        told = (table.schema.metadata or {})[_DEAD_ROWS]
        dead_rows = np.frombuffer(base64.b64decode(told, validate=True), "<i8").astype(np.int64)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObjectError(f"{path} holds no delta: {error}") from error
    if table.schema.remove_metadata() != _delta_schema(model.dimensions):
        raise CorruptObjectError(f"{path} has columns {table.schema.names}")
    return DeltaRows(table.replace_schema_metadata(None), dead_rows)


def save_delta(delta: DeltaRows, path: str) -> None:
    """Write a delta to a new file; neither synced nor renamed."""
    told = base64.b64encode(delta.dead_rows.astype("<i8").tobytes())
    save_rows(delta.table.replace_schema_metadata({_DEAD_ROWS: told}), path)


def make_delta_rows(changed: pa.Table, dead_rows: Rows) -> DeltaRows:
    """Rows of embeddings as rows of a delta, in their order."""
    return DeltaRows(changed.select([*NOTE_COLUMNS, "vector"]).combine_chunks(), dead_rows)


def join_deltas(deltas: Sequence[DeltaRows]) -> DeltaRows:
    """Several deltas, one after the other, as one; row numbers stay what they are."""
    import pyarrow as pa

    table = pa.concat_tables([delta.table for delta in deltas]).combine_chunks()
    return DeltaRows(table, np.concatenate([delta.dead_rows for delta in deltas]))


def _delta_schema(dimensions: int) -> pa.Schema:
    import pyarrow as pa

    schema = embedding_schema(dimensions)
    return pa.schema([schema.field(name) for name in (*NOTE_COLUMNS, "vector")])


def _demand_delta(opened: DeltaRows, delta: IndexDelta, rows: int) -> None:
    """Refuse a delta that is not the one of the manifest; `rows`: all up to its own end."""
    found = (opened.table.num_rows, len(opened.dead_rows))
    dead = opened.dead_rows
    if found != (delta.rows, delta.dead_rows) or (
        len(dead) and not 0 <= dead.min() <= dead.max() < rows
    ):
        raise CorruptObjectError(
            f"{delta.file} adds {found[0]} rows and ends {found[1]}, "
            f"its manifest says {delta.rows} and {delta.dead_rows}",
            hint="Rebuild the index; its files are those of another generation.",
        )


def save_rows(rows: pa.Table, path: str) -> None:
    """Write rows to a new file; neither synced nor renamed."""
    import pyarrow as pa

    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())


def mark_dead(rows: pa.Table, dead_rows: Rows) -> pa.Table:
    """The rows with some of them dead."""
    ids = whole_numbers(rows.column("external_id")).copy()
    ids[dead_rows] = NO_ROW
    place = rows.schema.names.index("external_id")
    return rows.set_column(place, rows.schema.field("external_id"), number_array(ids))


def live_mask(rows: pa.Table) -> Mask:
    """Which rows are those of notes that exist."""
    return np.asarray(whole_numbers(rows.column("external_id")) != NO_ROW)


def newest_live(rows: pa.Table, live: Mask) -> datetime | None:
    """The moment of the newest live note."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = rows.column("created_at").filter(pa.array(live))
    return cast("datetime | None", pc.max(moments).as_py())


def rows_passing(rows: pa.Table, wanted: Filter) -> Mask:
    """Which rows pass a filter; what a null makes unknown does not pass.

    Dead rows are not looked at differently: the caller knows them.
    """
    return true_rows(_evaluate(rows, wanted))


def _evaluate(rows: pa.Table, wanted: Filter) -> Any:
    """Three-valued logic, as in SQL."""
    import pyarrow.compute as pc

    if isinstance(wanted, Negation):
        return pc.invert(_evaluate(rows, wanted.part))
    if isinstance(wanted, Junction):
        join = pc.and_kleene if wanted.word == "and" else pc.or_kleene
        found = _evaluate(rows, wanted.parts[0])
        for part in wanted.parts[1:]:
            found = join(found, _evaluate(rows, part))
        return found
    return _compare(rows, wanted)


def _compare(rows: pa.Table, wanted: Comparison) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = rows.column(wanted.column)
    if wanted.operator == "null":
        return pc.is_null(column)
    if wanted.operator == "like":
        return pc.match_like(column, str(wanted.values[0]))
    if wanted.operator == "in":
        found = pc.is_in(column, value_array(wanted.values, column.type))
        return pc.if_else(pc.is_null(column), pa.nulls(1, pa.bool_())[0], found)
    calls = {
        "=": pc.equal,
        "!=": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return calls[wanted.operator](column, value_array(wanted.values, column.type)[0])


def hits_of(rows: pa.Table, found: Rows, scores: npt.NDArray[np.float32]) -> tuple[SearchHit, ...]:
    """Notes of found rows, in their order.

    Each chunk is asked for its own: of a column in several, Arrow copies all into one for every
    answer, which takes longer than the search.

    Args:
        rows: of the generation.
        found: row numbers, all valid.
        scores: one for each.
    """
    hits: dict[int, SearchHit] = {}
    first = 0
    for chunk in rows.column("note_id").chunks:
        mine = np.flatnonzero((found >= first) & (found < first + len(chunk)))
        if len(mine):
            part = rows.slice(first, len(chunk))
            noted = _hits_of_chunk(part, found[mine] - first, scores[mine])
            hits.update(zip(mine.tolist(), noted, strict=True))
        first += len(chunk)
    return tuple(hits[place] for place in range(len(found)))


def _hits_of_chunk(
    rows: pa.Table, found: Rows, scores: npt.NDArray[np.float32]
) -> Iterator[SearchHit]:
    import pyarrow as pa

    taken = rows.select(_HIT_COLUMNS).take(cast("Any", number_array(found)))
    moments = whole_numbers(cast("Any", taken.column("created_at").cast(pa.int64())))
    texts = (taken.column(name).to_pylist() for name in ("note_id", "agent_id", "region", "text"))
    for note_id, agent_id, region, text, moment, score in zip(
        *cast("Any", texts), moments.tolist(), scores.tolist(), strict=True
    ):
        yield SearchHit(str(note_id), str(agent_id), region, moment_of(moment), str(text), score)
