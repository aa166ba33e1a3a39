"""Fleet records as Arrow tables and back, with a schema derived from the record's type hints.

Invariant: `from_table(to_table(records, R), R) == records` for every record type whose fields are
str, int, float, bool, datetime, a StrEnum, a tuple of str or int, or one of these or None.
Conversion is by column: nothing is done per record but building it.

    str -> string                        int -> int64      float -> double      bool -> bool
    StrEnum -> dictionary<int8, string>  datetime -> timestamp[us, UTC]  tuple -> list
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from itertools import pairwise, starmap
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fleet.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

_R = TypeVar("_R", bound=tuple[Any, ...])

UNITS = {
    "_bytes": "bytes",
    "_milli": "1/1000",
    "_percent": "%",
    "_bps": "bit/s",
    "_s": "s",
    "_c": "degC",
    "_w": "W",
    "_at": "UTC",
}
"""Unit by the last part of a column's name: the house puts units last."""


FEW_ROWS = 1000
"""Below this, values are converted without NumPy: pyarrow imports pandas for it (0.2 s), which is
most of what `stateroom status` may take, and one by one they cost less than a millisecond."""


class Column(NamedTuple):
    """One column of a record's table, in words, for catalogues."""

    name: str
    type: str
    """Arrow's name of the type, for example `timestamp[us, tz=UTC]`."""
    nullable: bool
    unit: str
    """Empty where the name states none."""
    comment: str
    """The text under the field in the record's source; empty when there is none."""


class _Field(NamedTuple):
    """A field's type, taken apart."""

    name: str
    kind: type
    """str, int, float, bool, datetime, tuple or a StrEnum."""
    optional: bool
    items: type = str
    """Of a tuple: str or int."""


def schema_of(record: type[tuple[Any, ...]]) -> pa.Schema:
    """Arrow schema of a NamedTuple type.

    Raises:
        InvalidInputError: a field has a type that has no column type here.
    """
    import pyarrow as pa

    return pa.schema(
        pa.field(field.name, _arrow_type(field), nullable=field.optional)
        for field in _fields(record)
    )


def describe_columns(record: type[tuple[Any, ...]]) -> list[Column]:
    """Name, type, unit and comment of each column, in order."""
    comments = _comments(record)
    return [
        Column(
            field.name,
            # How a column is encoded is no news to a reader of the catalogue.
            str(getattr(field.type, "value_type", field.type))
            if str(field.type).startswith("dictionary")
            else str(field.type),
            field.nullable,
            next((unit for end, unit in UNITS.items() if field.name.endswith(end)), ""),
            comments.get(field.name, ""),
        )
        for field in schema_of(record)
    ]


def to_table(records: Sequence[_R], record: type[_R]) -> pa.Table:
    """Records as a table with the schema of their type; also of no records.

    Raises:
        InvalidInputError: a value does not fit its column; the column is named.
    """
    import pyarrow as pa

    schema = schema_of(record)
    columns = list(zip(*records, strict=True)) or [()] * len(schema)
    arrays = []
    for field, column in zip(_fields(record), columns, strict=True):
        where = f"{record.__name__}.{field.name}"
        try:
            array = _to_array(column, field)
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise InvalidInputError(where, str(error), str(_arrow_type(field))) from error
        if array.null_count and not field.optional:
            raise InvalidInputError(where, None, "a value in every record")
        arrays.append(array)
    return pa.table(arrays, schema=schema)


def from_table(table: pa.Table, record: type[_R]) -> list[_R]:
    """Records from a table that has their columns, in any order, with or without others.

    A column that is missing takes the field's default: older objects of the lake lack columns that
    were added later.

    Raises:
        InvalidInputError: a column without default is missing, has another type, or holds null
            where the record allows none.
    """
    defaults: dict[str, Any] = record._field_defaults  # type: ignore[attr-defined]  # NamedTuple
    columns: list[Iterable[Any]] = []
    for field in _fields(record):
        where = f"{record.__name__}.{field.name}"
        if field.name in table.column_names:
            columns.append(_from_column(where, table.column(field.name), field))
        elif field.name in defaults:
            columns.append([defaults[field.name]] * table.num_rows)
        else:
            raise InvalidInputError(where, table.column_names, "a table with this column")
    return list(starmap(record, zip(*columns, strict=True)))


@cache
def _fields(record: type[tuple[Any, ...]]) -> tuple[_Field, ...]:
    """The fields of a NamedTuple type."""
    hints = get_type_hints(record)
    return tuple(_field(f"{record.__name__}.{name}", name, hint) for name, hint in hints.items())


def _field(where: str, name: str, hint: Any) -> _Field:
    """One field from its type hint."""
    optional = get_origin(hint) in {Union, UnionType} and NoneType in get_args(hint)
    if optional:
        hint = next(each for each in get_args(hint) if each is not NoneType)
    items = {tuple[str, ...]: str, tuple[int, ...]: int}.get(hint)
    kind = hint if items is None else tuple
    known = {str, int, float, bool, datetime, tuple}
    if kind in known or (isinstance(kind, type) and issubclass(kind, StrEnum)):
        return _Field(name, kind, optional, items or str)
    raise InvalidInputError(where, str(hint), "a type that schema_of knows (see its module)")


def _arrow_type(field: _Field) -> pa.DataType:
    """Column type of a field."""
    import pyarrow as pa

    plain: dict[type, pa.DataType] = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", "UTC"),
        tuple: pa.list_(pa.int64() if field.items is int else pa.string()),
    }
    return plain.get(field.kind) or pa.dictionary(pa.int8(), pa.string())


def _to_array(column: Sequence[Any], field: _Field) -> Any:
    """One column's values as an array."""
    import pyarrow as pa

    if issubclass(field.kind, StrEnum):
        members = [field.kind(value) for value in dict.fromkeys(column) if value is not None]
        codes: dict[Any, int | None] = {value: code for code, value in enumerate(members)}
        codes[None] = None
        indices = pa.array([codes[value] for value in column], pa.int8())
        return pa.DictionaryArray.from_arrays(indices, pa.array(members, pa.string()))
    kinds = set(map(type, column))
    if field.kind is int and float in kinds:
        raise ValueError("a float, of which pyarrow would take the whole part")
    if field.kind is datetime:
        if not kinds <= {datetime, NoneType}:
            raise TypeError("something else than a datetime")
        if any(at is not None and at.tzinfo is None for at in column):
            raise ValueError("a time without its zone")
    return pa.array(column, _arrow_type(field))


def _from_column(where: str, column: Any, field: _Field) -> Iterable[Any]:
    """One column's values as Python objects."""
    wanted = _arrow_type(field)
    if column.type != wanted:
        column = _cast(where, column, wanted)
    if column.null_count and not field.optional:
        raise InvalidInputError(where, None, "a value in every row")
    try:
        return [value for chunk in column.chunks for value in _from_chunk(chunk, field.kind)]
    except ValueError as error:
        raise InvalidInputError(where, str(error), f"members of {field.kind.__name__}") from error


def _cast(where: str, column: Any, wanted: pa.DataType) -> Any:
    """The column in the type that the record wants, without loss.

    Raises:
        InvalidInputError: there is no such cast.
    """
    import pyarrow as pa

    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(where, str(column.type), f"{wanted} ({error})") from error


def _from_chunk(chunk: Any, kind: type) -> Iterable[Any]:
    """Values of one chunk; each kind by the quickest way that pyarrow offers."""
    if issubclass(kind, StrEnum):
        members: list[Any] = [kind(text) for text in chunk.dictionary.to_pylist()]
        return _take(members, chunk.indices)
    if kind is datetime:
        return _times(chunk)
    if kind is tuple:
        return [None if value is None else tuple(value) for value in chunk.to_pylist()]
    if kind is str:
        return _strings(chunk)
    return _numbers(chunk)


def _take(members: list[Any], indices: Any) -> list[Any]:
    """Members by index; null becomes None."""
    if len(indices) <= FEW_ROWS:
        return [None if index is None else members[index] for index in indices.to_pylist()]
    if indices.null_count == 0:
        return [members[index] for index in indices.to_numpy(zero_copy_only=False).tolist()]
    members = [*members, None]
    filled = indices.cast("int64").fill_null(len(members) - 1)
    return [members[index] for index in filled.to_numpy().tolist()]


def _strings(chunk: Any) -> list[Any]:
    """Strings; each distinct one is made once when they repeat, which saves time and memory."""
    encoded = chunk.dictionary_encode()
    return _take(encoded.dictionary.to_pylist(), encoded.indices)


def _numbers(chunk: Any) -> list[Any]:
    """Numbers and booleans; null becomes None."""
    if len(chunk) <= FEW_ROWS:
        few: list[Any] = chunk.to_pylist()
        return few
    if chunk.null_count == 0:
        values: list[Any] = chunk.to_numpy(zero_copy_only=False).tolist()
        return values
    if chunk.null_count == len(chunk):
        return [None] * len(chunk)
    filled = chunk.fill_null(False if str(chunk.type) == "bool" else 0)
    present = chunk.is_valid().to_numpy(zero_copy_only=False).tolist()
    values = filled.to_numpy(zero_copy_only=False).tolist()
    return [value if there else None for value, there in zip(values, present, strict=True)]


def _times(chunk: Any) -> list[Any]:
    """Aware UTC times; NumPy makes naive ones quickly, the zone is put on afterwards."""
    naive = chunk.cast("timestamp[us]")
    few = len(chunk) <= FEW_ROWS
    naive = naive.to_pylist() if few else naive.to_numpy(zero_copy_only=False).tolist()
    return [None if at is None else at.replace(tzinfo=UTC) for at in naive]


@cache
def _comments(record: type[tuple[Any, ...]]) -> dict[str, str]:
    """The string literal under each field in the source of the record's class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(tree, ast.ClassDef)
    comments = {}
    for field, text in pairwise(tree.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(comment))
            ):
                comments[name] = inspect.cleandoc(comment)
            case _:
                pass
    return comments
