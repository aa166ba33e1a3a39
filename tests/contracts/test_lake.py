"""What every lake keeps to, whatever holds its bytes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, NotFoundError, TooLargeError
from fleet.ports.lake import Lake
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.query import QueryLimits
from tests.examples import examples
from tests.fakes.lake import InMemoryLake

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LIMITS = QueryLimits(timeout_s=2.0, memory_bytes=256 * 1024 * 1024, rows_max=10_000)


@pytest.fixture(params=["directory", "memory"])
def make_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Lake]:
    """Makes empty lakes of each kind."""
    made = 0

    def make() -> Lake:
        nonlocal made
        made += 1
        if request.param == "memory":
            return InMemoryLake(LIMITS)
        return ParquetLake(DirectoryStore(tmp_path / f"lake-{made}"), LIMITS)

    return make


@pytest.fixture
def lake(make_lake: Callable[[], Lake]) -> Lake:
    """One empty lake."""
    return make_lake()


def rows(*values: int, **more: Any) -> pa.Table:
    """A small table with one number column and any others."""
    return pa.table({"value": pa.array(values, pa.int64()), **more})


def values(table: pa.Table) -> list[int]:
    """The number column."""
    found: list[int] = table.column("value").to_pylist()
    return found


RICH = pa.table(
    {
        "name": pa.array(["a", None, "ü" * 40], pa.string()),
        "phase": pa.array(["up", "down", "up"]).dictionary_encode(),
        "size": pa.array([1, None, -(2**63)], pa.int64()),
        "share": pa.array([0.5, float("inf"), None], pa.float64()),
        "there": pa.array([True, None, False]),
        "seen_at": pa.array([NOON, None, NOON + MINUTE], pa.timestamp("us", "UTC")),
        "tags": pa.array([["x", "y"], [], None], pa.list_(pa.string())),
    }
)


@pytest.mark.parametrize("table", [RICH, RICH.slice(0, 0), pa.concat_tables([RICH, RICH])])
def test_what_was_written_is_read_back_equal(lake: Lake, table: pa.Table) -> None:
    """Types, nulls, empty tables and tables of several chunks survive."""
    written = lake.write("nodes", "eu-1", table, NOON)
    assert (written.table, written.partition, written.rows) == ("nodes", "eu-1", table.num_rows)
    assert written.written_at == NOON
    read = lake.read_latest("nodes", "eu-1")
    assert read.schema == table.schema
    assert read.to_pylist() == table.to_pylist()


def test_the_newest_tick_is_read_whatever_the_order_of_writing(lake: Lake) -> None:
    """A tick that arrives late, also on an earlier day, does not become the newest."""
    for minutes, value in [(5, 5), (9, 9), (7, 7), (-2000, 1)]:
        lake.write("nodes", "eu", rows(value), NOON + minutes * MINUTE)
    assert values(lake.read_latest("nodes", "eu")) == [9]
    assert [found.rows for found in lake.objects("nodes")] == [1, 1, 1, 1]
    ticks = [found.written_at for found in lake.objects("nodes")]
    assert ticks == sorted(ticks)


def test_all_partitions_are_read_together_by_column_name(lake: Lake) -> None:
    """Partitions of different versions unite; a column that one lacks is null there."""
    lake.write("nodes", "eu", rows(1), NOON)
    lake.write("nodes", "us", rows(2, 3, extra=["x", "y"]), NOON + MINUTE)
    read = lake.read_latest("nodes").sort_by("value")
    assert read.to_pylist() == [
        {"value": 1, "extra": None},
        {"value": 2, "extra": "x"},
        {"value": 3, "extra": "y"},
    ]


def test_writing_the_same_again_changes_nothing(lake: Lake) -> None:
    """A retried run succeeds and leaves one object, also when its table has other chunks."""
    first = lake.write("nodes", "eu", rows(1, 2), NOON)
    again = lake.write("nodes", "eu", pa.concat_tables([rows(1), rows(2)]), NOON)
    assert again == first
    assert lake.objects("nodes") == [first]


def test_other_rows_for_the_same_tick_are_refused(lake: Lake) -> None:
    """Objects never change; the error names the tick, and the first rows stay."""
    lake.write("nodes", "eu", rows(1), NOON)
    with pytest.raises(InvalidInputError) as caught:
        lake.write("nodes", "eu", rows(2), NOON)
    assert caught.value.field == "at"
    assert values(lake.read_latest("nodes", "eu")) == [1]
    assert len(lake.objects("nodes")) == 1


def test_ticks_are_kept_in_utc_whatever_zone_they_come_in(lake: Lake) -> None:
    """The same moment in another zone is the same tick."""
    first = lake.write("nodes", "eu", rows(1), NOON)
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert lake.write("nodes", "eu", rows(1), tokyo) == first
    assert first.written_at.tzinfo == UTC


def test_a_tick_without_zone_is_refused(lake: Lake) -> None:
    """A naive time could mean any moment."""
    with pytest.raises(InvalidInputError, match="at: "):
        lake.write("nodes", "eu", rows(1), datetime(2026, 3, 1, 12))  # noqa: DTZ001
    assert lake.tables() == []


@pytest.mark.parametrize(
    "table", ["", "Nodes", "no-de", "../x", "a/b", "1a", "x_history", "a" * 64, "n\n"]
)
def test_a_table_name_that_is_no_sql_name_is_refused(lake: Lake, table: str) -> None:
    """It becomes a folder and a view; every method refuses it alike."""
    calls: list[Callable[[], object]] = [
        lambda: lake.write(table, "eu", rows(1), NOON),
        lambda: lake.read_latest(table),
        lambda: lake.objects(table),
        lambda: lake.history(table, NOON, NOON),
        lambda: lake.compact(table, "eu", NOON),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="table: "):
            call()


@pytest.mark.parametrize("partition", ["", "..", "a/b", "../x", "a b", "-a", "a" * 129])
def test_a_partition_that_is_no_name_is_refused(lake: Lake, partition: str) -> None:
    """It becomes a folder."""
    calls: list[Callable[[], object]] = [
        lambda: lake.write("nodes", partition, rows(1), NOON),
        lambda: lake.read_latest("nodes", partition),
        lambda: lake.objects("nodes", partition),
        lambda: lake.history("nodes", NOON, NOON, partition),
        lambda: lake.compact("nodes", partition, NOON),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="partition: "):
            call()


@pytest.mark.parametrize(
    "bad",
    [
        [{"value": 1}],
        None,
        pa.table({}),
        rows(1, tick=[1]),
        rows(1, Partition=["x"]),
        rows(1, VALUE=[2]),
        pa.table([pa.array([1])], names=[""]),
    ],
)
def test_rows_that_sql_could_not_name_are_refused(lake: Lake, bad: Any) -> None:
    """No table, no column, a reserved column or two columns of one name."""
    with pytest.raises(InvalidInputError):
        lake.write("nodes", "eu", bad, NOON)
    assert lake.tables() == []


def test_an_unknown_table_or_partition_is_named_with_those_that_exist(lake: Lake) -> None:
    """Reading nothing is an error that says what there is; listing nothing is not."""
    lake.write("nodes", "eu", rows(1), NOON)
    for table, partition in [("agents", None), ("nodes", "us")]:
        with pytest.raises(NotFoundError, match="nodes"):
            lake.read_latest(table, partition)
        with pytest.raises(NotFoundError, match="nodes"):
            lake.history(table, NOON, NOON, partition)
        assert lake.objects(table, partition) == []


def test_history_begins_at_since_and_ends_before_until(lake: Lake) -> None:
    """Rows come by tick, with tick and partition, over midnight and out of merged days."""
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    for minute in range(-3, 3):
        for partition in ("eu", "us"):
            lake.write("nodes", partition, rows(minute), midnight + minute * MINUTE)
    since, until = midnight - 2 * MINUTE, midnight + MINUTE
    for _ in range(2):
        found = lake.history("nodes", since, until)
        assert values(found) == [-2, -2, -1, -1, 0, 0]
        assert found.column("tick").to_pylist()[0] == since
        assert sorted(set(found.column("partition").to_pylist())) == ["eu", "us"]
        assert values(lake.history("nodes", since, until, "us")) == [-2, -1, 0]
        empty = lake.history("nodes", midnight + timedelta(days=9), midnight + timedelta(days=10))
        assert (empty.num_rows, empty.column_names) == (0, ["value", "partition", "tick"])
        lake.compact("nodes", "eu", since)


def test_a_merged_day_answers_as_its_ticks_did(lake: Lake) -> None:
    """Newest rows, history and SQL are the same before and after; one object is left."""
    for minute in range(5):
        lake.write("nodes", "eu", rows(minute, minute, x=["a", "b"]), NOON + minute * MINUTE)
    lake.write("nodes", "us", rows(9, x=["c"]), NOON)
    sql = "SELECT * FROM nodes_history ORDER BY ALL"

    def answers() -> list[Any]:
        tables = [
            lake.read_latest("nodes", "eu"),
            lake.read_latest("nodes"),
            lake.history("nodes", NOON, NOON + 9 * MINUTE),
            lake.query(sql),
            lake.query("SELECT * FROM nodes ORDER BY ALL"),
        ]
        return [table.to_pylist() for table in tables]

    before = answers()
    merged = lake.compact("nodes", "eu", NOON)
    assert merged is not None
    assert (merged.kind, merged.rows, merged.written_at) == ("day", 10, NOON + 4 * MINUTE)
    assert lake.objects("nodes", "eu") == [merged]
    assert answers() == before
    assert lake.compact("nodes", "eu", NOON) is None


def test_a_late_tick_of_a_merged_day_counts_and_is_merged_next(lake: Lake) -> None:
    """It is neither hidden nor doubled."""
    for minute in (0, 1, 4):
        lake.write("nodes", "eu", rows(minute), NOON + minute * MINUTE)
    lake.compact("nodes", "eu", NOON)
    lake.write("nodes", "eu", rows(2), NOON + 2 * MINUTE)
    assert sorted(values(lake.query("SELECT value FROM nodes_history"))) == [0, 1, 2, 4]
    assert values(lake.read_latest("nodes")) == [4]
    merged = lake.compact("nodes", "eu", NOON)
    assert merged is not None
    assert lake.objects("nodes") == [merged]
    assert sorted(values(lake.history("nodes", NOON, NOON + 9 * MINUTE))) == [0, 1, 2, 4]
    assert values(lake.read_latest("nodes")) == [4]


def test_a_retried_write_of_a_merged_tick_succeeds_and_other_rows_are_refused(lake: Lake) -> None:
    """Merging does not make the lake forget which ticks it has."""
    for minute in range(3):
        lake.write("nodes", "eu", rows(minute), NOON + minute * MINUTE)
    merged = lake.compact("nodes", "eu", NOON)
    assert lake.write("nodes", "eu", rows(1), NOON + MINUTE) == merged
    with pytest.raises(InvalidInputError, match="at: "):
        lake.write("nodes", "eu", rows(7), NOON + MINUTE)
    assert lake.objects("nodes") == [merged]


def test_a_day_with_one_object_or_none_is_left_alone(lake: Lake) -> None:
    """There is nothing to merge."""
    written = lake.write("nodes", "eu", rows(1), NOON)
    assert lake.compact("nodes", "eu", NOON) is None
    assert lake.compact("nodes", "eu", NOON + timedelta(days=1)) is None
    assert lake.objects("nodes") == [written]


def test_merging_unites_the_columns_of_a_day(lake: Lake) -> None:
    """A column that was added at noon is null before noon."""
    lake.write("nodes", "eu", rows(1), NOON)
    lake.write("nodes", "eu", rows(2, extra=["x"]), NOON + MINUTE)
    lake.compact("nodes", "eu", NOON)
    assert lake.query("SELECT value, extra FROM nodes_history ORDER BY 1").to_pylist() == [
        {"value": 1, "extra": None},
        {"value": 2, "extra": "x"},
    ]


def test_a_column_that_became_something_else_is_named_and_nothing_is_merged(lake: Lake) -> None:
    """Text where numbers were: the ticks stay, each readable by itself."""
    lake.write("nodes", "eu", pa.table({"value": [1]}), NOON)
    lake.write("nodes", "eu", pa.table({"value": ["one"]}), NOON + MINUTE)
    with pytest.raises(InvalidInputError, match="value"):
        lake.compact("nodes", "eu", NOON)
    assert len(lake.objects("nodes")) == 2
    assert lake.read_latest("nodes").to_pylist() == [{"value": "one"}]


def test_numbers_that_became_wider_are_merged(lake: Lake) -> None:
    """Whole numbers and fractions unite as fractions, small and large ones as large ones."""
    lake.write("nodes", "eu", pa.table({"value": [1], "n": pa.array([1], pa.int8())}), NOON)
    lake.write("nodes", "eu", pa.table({"value": [1.5], "n": [2**40]}), NOON + MINUTE)
    assert lake.compact("nodes", "eu", NOON) is not None
    merged = lake.history("nodes", NOON, NOON + 2 * MINUTE).select(["value", "n"])
    assert merged.to_pylist() == [{"value": 1.0, "n": 1}, {"value": 1.5, "n": 2**40}]


def test_a_merged_day_of_many_rows_keeps_every_row_in_order(lake: Lake) -> None:
    """More rows than fit into one row group."""
    for n in range(3):
        numbers = pa.array(range(n * 60_000, (n + 1) * 60_000), pa.int64())
        lake.write("nodes", "eu", pa.table({"value": numbers}), NOON + n * MINUTE)
    assert lake.compact("nodes", "eu", NOON) is not None
    assert values(lake.history("nodes", NOON, NOON + 3 * MINUTE)) == list(range(180_000))
    assert values(lake.read_latest("nodes", "eu")) == list(range(120_000, 180_000))


def test_removed_objects_are_gone_and_counted(lake: Lake) -> None:
    """The count is of those that were there; removing again removes none."""
    first = lake.write("nodes", "eu", rows(1), NOON)
    second = lake.write("nodes", "eu", rows(2), NOON + MINUTE)
    assert lake.remove([second]) == 1
    assert lake.objects("nodes") == [first]
    assert values(lake.read_latest("nodes")) == [1]
    assert lake.remove([first, second]) == 1
    assert lake.tables() == []


def test_tables_are_sorted(lake: Lake) -> None:
    """And only those that hold an object."""
    for table in ("nodes", "agents", "gpus"):
        lake.write(table, "eu", rows(1), NOON)
    assert lake.tables() == ["agents", "gpus", "nodes"]


def test_sql_sees_newest_and_history_with_partition_and_tick(lake: Lake) -> None:
    """Names are found whatever their case; tables join."""
    for minute in range(3):
        lake.write("nodes", "eu", rows(minute), NOON + minute * MINUTE)
    lake.write("nodes", "us", rows(7), NOON)
    newest = lake.query("SELECT partition, tick, value FROM Nodes ORDER BY partition")
    assert newest.to_pylist() == [
        {"partition": "eu", "tick": NOON + 2 * MINUTE, "value": 2},
        {"partition": "us", "tick": NOON, "value": 7},
    ]
    joined = lake.query(
        "WITH last AS (SELECT * FROM nodes) SELECT count(*) AS n, max(h.value) AS top "
        "FROM nodes_history h JOIN last USING (partition) "
        f"WHERE h.tick >= '{(NOON + MINUTE).isoformat()}'"
    )
    assert joined.to_pylist() == [{"n": 2, "top": 2}]


def test_tables_of_a_with_clause_and_quoted_names_are_no_unknown_tables(lake: Lake) -> None:
    """Also when they are recursive or shadow a table of the lake."""
    lake.write("nodes", "eu", rows(3), NOON)
    for sql in (
        "WITH RECURSIVE r AS (SELECT 3 AS value UNION SELECT value FROM r) SELECT * FROM r",
        "WITH nodes AS (SELECT value FROM nodes) SELECT value FROM nodes",
        'SELECT value FROM "main"."NODES"',
        "SELECT (SELECT max(value) FROM nodes_history) AS value",
        "FROM nodes SELECT value",
    ):
        assert values(lake.query(sql)) == [3]
    described = lake.query("DESCRIBE nodes").column("column_name").to_pylist()
    assert described == ["value", "partition", "tick"]


def test_show_tables_answers_with_their_names(lake: Lake) -> None:
    """Views exist only for the tables that a statement names, so SHOW would show none."""
    lake.write("nodes", "eu", rows(3), NOON)
    with pytest.raises(InvalidInputError, match="nodes"):
        lake.query("SHOW TABLES")


def test_sql_that_names_no_known_table_gets_the_nearest_name(lake: Lake) -> None:
    """The error lists the tables and proposes one."""
    lake.write("node_inventory", "eu", rows(1), NOON)
    lake.write("gpus", "eu", rows(1), NOON)
    with pytest.raises(InvalidInputError, match="gpus, node_inventory") as caught:
        lake.query("SELECT * FROM node_inventry")
    assert caught.value.value == "node_inventry"
    assert "node_inventory?" in caught.value.hint


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELEC 1", r'(?s)syntax error at or near "SELEC".*LINE 1: SELEC 1.*\^'),
        ("SELECT nothing FROM nodes", '(?s)"nothing" not found.*LINE 1'),
        ("SELECT 1/", "syntax error"),
        ("SELECT value + 'x' FROM nodes", "Could not convert"),
        ("", "found: nothing"),
        ("-- nothing", "found: nothing"),
        ("SELECT 1; SELECT 2", "found: SELECT, SELECT"),
        ("SELECT $1", "(?s)parameter"),
        ("SELECT * FROM query_table('gpus')", "gpus does not exist"),
        ("SELECT * FROM information_schema.nodes", "nodes does not exist"),
        ("\ud800", "sql"),
    ],
)
def test_sql_that_cannot_run_gets_duckdbs_message(lake: Lake, sql: str, says: str) -> None:
    """With the position where DuckDB gives one; nothing but our own error comes out."""
    lake.write("nodes", "eu", rows(1), NOON)
    with pytest.raises(InvalidInputError, match=says):
        lake.query(sql)


@pytest.mark.parametrize(
    ("sql", "limit"),
    [
        ("SELECT * FROM range(10001)", "more than 10000 rows"),
        ("SELECT list(range) FROM range(1000000000)", "memory"),
        ("SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE a.range*b.range=7", "2 s"),
    ],
)
def test_a_query_over_a_limit_is_ended(make_lake: Callable[[], Lake], sql: str, limit: str) -> None:
    """Rows, memory and time are bounded, and the error says which bound was met."""
    with pytest.raises(TooLargeError, match=limit):
        make_lake().query(sql)


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 9), st.integers(0, 2)),
            st.tuples(st.just("compact"), st.integers(0, 1), st.just(0)),
            st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        ),
        max_size=14,
    )
)
def test_any_course_of_writes_merges_and_removals_counts_each_tick_once(
    make_lake: Callable[[], Lake], steps: list[tuple[str, int, int]]
) -> None:
    """A dumb twin (a dictionary of ticks) always has the same history."""
    lake, twin = make_lake(), dict[datetime, int]()
    for step, number, value in steps:
        # ticks 0 to 4 lie on one day, 5 to 9 on the next
        at = NOON + number // 5 * timedelta(days=1) + number % 5 * MINUTE
        if step == "write":
            if twin.get(at, value) == value:
                lake.write("nodes", "eu", rows(value), at)
                twin[at] = value
            else:
                with pytest.raises(InvalidInputError):
                    lake.write("nodes", "eu", rows(value), at)
        elif step == "compact":
            lake.compact("nodes", "eu", NOON + number * timedelta(days=1))
        else:
            for victim in lake.objects("nodes")[number : number + 1]:
                assert lake.remove([victim]) == 1
                left = _history(lake)
                assert left.items() <= twin.items()
                assert len(twin) - len(left) == victim.rows
                twin = left
        assert _history(lake) == twin


def _history(lake: Lake) -> dict[datetime, int]:
    """Tick -> value; fails on a tick that is there twice."""
    if not lake.tables():
        return {}
    found = lake.query("SELECT tick, value FROM nodes_history").to_pylist()
    assert len({row["tick"] for row in found}) == len(found)
    return {row["tick"]: row["value"] for row in found}
