"""What a generation keeps of its rows: an Arrow file that all processes of a node map.

Row number = place in the file; a dead row has the number `NO_ROW` and stays where it was. The file
is not compressed, so that opening it reads nothing and a hit reads its own bytes only.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fleet.errors import CorruptObjectError
from fleet.ports.index_backend import Mask, Rows
from fleet.vectors.filter_text import Comparison, Filter, Junction, Negation
from fleet.vectors.records import NO_ROW, NOTE_COLUMNS, SearchHit

if TYPE_CHECKING:
    import pyarrow as pa


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


def save_rows(rows: pa.Table, path: str) -> None:
    """Write rows to a new file; neither synced nor renamed."""
    import pyarrow as pa

    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())


def mark_dead(rows: pa.Table, dead_rows: Rows) -> pa.Table:
    """The rows with some of them dead."""
    ids = np.array(rows.column("external_id").to_numpy())
    ids[dead_rows] = NO_ROW
    place = rows.schema.names.index("external_id")
    return rows.set_column(place, rows.schema.field("external_id"), cast("Any", [ids]))


def live_mask(rows: pa.Table) -> Mask:
    """Which rows are those of notes that exist."""
    return np.asarray(rows.column("external_id").to_numpy() != NO_ROW)


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
    import pyarrow.compute as pc

    passing: Any = _evaluate(rows, wanted)
    return cast("Mask", np.asarray(pc.fill_null(passing, False).to_numpy()).astype(np.bool_))


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
        found = pc.is_in(column, pa.array(list(wanted.values), column.type))
        return pc.if_else(pc.is_null(column), pa.scalar(None, pa.bool_()), found)
    calls = {
        "=": pc.equal,
        "!=": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return calls[wanted.operator](column, pa.scalar(wanted.values[0], column.type))


def hits_of(rows: pa.Table, found: Rows, scores: npt.NDArray[np.float32]) -> tuple[SearchHit, ...]:
    """Notes of found rows, in their order.

    Args:
        rows: of the generation.
        found: row numbers, all valid.
        scores: one for each.
    """
    notes = rows.take(cast("Any", found)).to_pylist()
    return tuple(
        SearchHit(
            note["note_id"],
            note["agent_id"],
            note["region"],
            note["created_at"],
            note["text"],
            score,
        )
        for note, score in zip(notes, scores.tolist(), strict=True)
    )
