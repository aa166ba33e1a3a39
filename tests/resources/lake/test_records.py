"""Records become tables and come back the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple, get_type_hints

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import Activity, Placement, StateChange
from fleet.errors import InvalidInputError
from fleet.inventory import Agent, AgentPhase, AgentStateInfo, Gpu, Node, NodePhase
from fleet.journal import JournalEntry
from fleet.leases import Lease
from resources.lake.parquet_codec import stamp_rows
from resources.lake.records import describe_columns, from_table, schema_of, to_table

RECORDS = [Node, Gpu, Agent, AgentStateInfo, Placement, StateChange, Activity, JournalEntry]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

FIRST, LAST = NOON.replace(1700, tzinfo=None), NOON.replace(2200, tzinfo=None)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    datetime: st.datetimes(FIRST, LAST, timezones=st.just(UTC)),
    tuple[str, ...]: st.lists(st.text("abc", max_size=3), max_size=3).map(tuple),
    tuple[int, ...]: st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(tuple),
    NodePhase: st.sampled_from(NodePhase),
    AgentPhase: st.sampled_from(AgentPhase),
}


def strategy_of(record: Any) -> st.SearchStrategy[Any]:
    """Records with any values that their type hints allow."""
    fields = []
    for hint in get_type_hints(record).values():
        optional = type(None) in getattr(hint, "__args__", ())
        plain = next(each for each in hint.__args__ if each is not type(None)) if optional else hint
        fields.append(st.none() | VALUES[plain] if optional else VALUES[plain])
    return st.tuples(*fields).map(lambda values: record(*values))


@pytest.mark.parametrize("few_rows", [0, 1000])
@pytest.mark.parametrize("record", RECORDS)
def test_records_survive_the_way_to_arrow_and_back(
    record: Any, few_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal, and of the same Python types: enum members, aware times, tuples; few or many rows."""
    monkeypatch.setattr("resources.lake.records.FEW_ROWS", few_rows)

    @given(st.lists(strategy_of(record), max_size=6))
    def round_trip(records: list[Any]) -> None:
        table = to_table(records, record)
        assert table.schema == schema_of(record)
        back = from_table(table, record)
        assert back == records
        assert [[type(v) for v in each] for each in back] == [
            [type(v) for v in each] for each in records
        ]

    round_trip()


@given(st.lists(strategy_of(Node), max_size=6), st.lists(strategy_of(Node), max_size=6))
def test_records_come_back_from_chunks_and_through_parquet(
    first: list[Node], second: list[Node]
) -> None:
    """Chunks with different dictionaries, stamped and united as in an object of the lake."""
    table = pa.concat_tables([to_table(first, Node), to_table(second, Node)])
    assert from_table(table, Node) == first + second
    assert from_table(stamp_rows(table, "eu", NOON), Node) == first + second


def test_no_records_make_an_empty_table_with_all_columns() -> None:
    """An empty observation has the same schema as a full one."""
    table = to_table([], Gpu)
    assert (table.num_rows, table.schema) == (0, schema_of(Gpu))
    assert from_table(table, Gpu) == []


def test_the_schema_states_units_types_and_what_may_be_missing() -> None:
    """Arrow types by Python types; `| None` is nullable."""
    schema = schema_of(Agent)
    assert str(schema.field("phase").type) == "dictionary<values=string, indices=int8, ordered=0>"
    assert str(schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert schema.field("pid").nullable
    assert not schema.field("agent_id").nullable
    assert str(schema_of(Gpu).field("denied").type).startswith("list<")


def test_the_description_carries_unit_and_the_comment_of_the_source() -> None:
    """What stands under a field in the source stands in the catalogue."""
    columns = {each.name: each for each in describe_columns(Node)}
    assert list(columns) == list(Node._fields)
    bandwidth = columns["bandwidth_bps"]
    assert (bandwidth.type, bandwidth.nullable, bandwidth.unit) == ("int64", False, "bit/s")
    assert bandwidth.comment.startswith("Declared network capacity in bits per second")
    assert columns["node_id"].unit == ""
    assert columns["phase"].type == "string"
    assert columns["gpu_memory_bytes"].unit == "bytes"


def agent(**changes: Any) -> Agent:
    """One agent."""
    plain = Agent("a", "n", "w", "node", "eu", 1, AgentPhase.RUNNING, 1, 1, 0, 0, 0)
    return plain._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"agent_id": None}, "Agent.agent_id"),
        ({"agent_id": 7}, "Agent.agent_id"),
        ({"epoch": "one"}, "Agent.epoch"),
        ({"epoch": 2**63}, "Agent.epoch"),
        ({"epoch": 1.5}, "Agent.epoch"),
        ({"phase": "flying"}, "Agent.phase"),
        ({"phase": None}, "Agent.phase"),
        ({"started_at": datetime(2026, 3, 1)}, "Agent.started_at"),  # noqa: DTZ001
        ({"started_at": "noon"}, "Agent.started_at"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_column(
    changes: dict[str, Any], field: str
) -> None:
    """A record made past its type hints does not spoil the lake."""
    with pytest.raises(InvalidInputError) as caught:
        to_table([agent(), agent(**changes)], Agent)
    assert caught.value.field == field


def test_a_time_of_another_zone_comes_back_in_utc() -> None:
    """It is the same moment, so it is equal."""
    at = NOON.astimezone(timezone(timedelta(hours=9)))
    (back,) = from_table(to_table([agent(started_at=at)], Agent), Agent)
    assert back.started_at == at
    assert back.started_at.tzinfo is UTC


def test_columns_that_older_objects_lack_take_the_default() -> None:
    """And those that newer ones have on top are left out."""
    table = to_table([agent(restarts=3)], Agent)
    older = table.drop_columns(["restarts", "reason"]).append_column("colour", pa.array(["red"]))
    assert from_table(older, Agent) == [agent(restarts=0)]
    with pytest.raises(InvalidInputError, match=r"Agent\.epoch"):
        from_table(table.drop_columns(["epoch"]), Agent)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("phase", pa.array(["flying"]).dictionary_encode()),
        ("phase", pa.array([None], pa.dictionary(pa.int8(), pa.string()))),
        ("epoch", pa.array(["one"])),
        ("epoch", pa.array([None], pa.int64())),
        ("started_at", pa.array([[1]])),
    ],
)
def test_a_table_with_other_types_is_refused_with_the_column(column: str, values: Any) -> None:
    """A newer version's phase, a null, a text for a number."""
    table = to_table([agent()], Agent)
    broken = table.set_column(table.column_names.index(column), column, values)
    with pytest.raises(InvalidInputError, match=rf"Agent\.{column}"):
        from_table(broken, Agent)


def test_a_plain_string_column_is_read_as_the_enum() -> None:
    """SQL answers have text where objects have dictionaries; whole numbers may be narrower."""
    table = to_table([agent(), agent(agent_id="b")], Agent)
    for column, kind in (("phase", pa.string()), ("epoch", pa.int32())):
        index = table.column_names.index(column)
        table = table.set_column(index, column, table.column(column).cast(kind))
    assert from_table(table, Agent) == [agent(), agent(agent_id="b")]


class Colour(StrEnum):
    """An enum."""

    RED = "red"


class Odd(NamedTuple):
    """A record with a field that has no column type."""

    colour: Colour | None
    parts: dict[str, str]


def test_a_field_without_a_column_type_is_named() -> None:
    """When the record is first used, not when its rows are."""
    with pytest.raises(InvalidInputError, match=r"Odd\.parts"):
        schema_of(Odd)


def test_other_records_of_the_house_have_columns_too() -> None:
    """Leases, for one."""
    assert schema_of(Lease).names == list(Lease._fields)
