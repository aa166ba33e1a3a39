"""The lake's names are exact and its plans touch nothing that must stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.lake import (
    LakePolicy,
    ObjectKind,
    file_name,
    is_same_tick,
    object_key,
    order_of,
    parse_key,
    plan_compaction,
    plan_lake_retention,
    select_live,
    select_newest,
    validate_columns,
    validate_partition,
    validate_table,
    validate_tick,
)
from fleet.ports.lake import LakeObject

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SHA = "ab" * 32
KEY = f"nodes/eu/2026-03-01/20260301T120000000000Z-7-{SHA}.tick.parquet"

tables = st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True).filter(
    lambda name: not name.endswith("_history")
)
partitions = st.from_regex(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,20}", fullmatch=True)
shas = st.text("0123456789abcdef", min_size=64, max_size=64)
moments = st.datetimes(timezones=st.just(UTC))


def stored(
    at: datetime = NOON,
    *,
    sha: str = SHA,
    kind: str = ObjectKind.TICK,
    table: str = "nodes",
    partition: str = "eu",
) -> LakeObject:
    """One object, by way of its key."""
    found = parse_key(object_key(table, partition, at, 7, sha, kind), 100)
    assert found is not None
    return found


@given(tables, partitions, moments, st.integers(0, 10**17), shas, st.sampled_from(ObjectKind))
def test_a_key_says_all_that_a_listing_answers(
    table: str, partition: str, at: datetime, rows: int, sha: str, kind: ObjectKind
) -> None:
    """`parse_key` is the inverse of `object_key` for every moment of every year."""
    key = object_key(table, partition, at, rows, sha, kind)
    assert parse_key(key, 5) == LakeObject(key, table, partition, rows, 5, sha, at, kind)
    assert validate_table(table) == table
    assert validate_partition(partition) == partition


@given(moments, moments)
def test_keys_of_one_partition_sort_by_tick(one: datetime, other: datetime) -> None:
    """Text order is time order, so the newest name is the newest object."""
    keys = [object_key("nodes", "eu", at, 1, SHA) for at in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)


@pytest.mark.parametrize(
    "key",
    [
        "",
        KEY[5:],
        KEY.upper(),
        f"x/{KEY}",
        KEY.replace("nodes/", "No-des/"),
        KEY.replace("/eu/", "/../"),
        KEY.replace("2026-03-01/", "2026-03-02/"),
        KEY.replace("20260301T12", "20260301T25"),
        KEY.replace("-7-", "-07-"),
        KEY.replace(".tick.", ".week."),
        KEY.replace(SHA, SHA[1:]),
        f"{KEY}.tmp",
        KEY.replace("20260301", "٢٠٢٦٠٣٠١"),
    ],
)
def test_a_file_of_another_form_is_no_object(key: str) -> None:
    """Foreign files are ignored, never guessed at."""
    assert parse_key(key, 1) is None
    assert parse_key(KEY, 1) is not None


def test_a_tick_is_turned_into_utc_and_must_have_a_zone() -> None:
    """The same moment has one name."""
    at = validate_tick("at", NOON.astimezone(timezone(9 * HOUR)))
    assert (at, at.tzinfo) == (NOON, UTC)
    for bad in (NOON.replace(tzinfo=None), NOON.replace(year=9999), NOON.replace(year=1)):
        with pytest.raises(InvalidInputError, match="since"):
            validate_tick("since", bad)


@pytest.mark.parametrize("table", ["", "A", "1a", "a-b", "a.b", "x_history", "a" * 64, "ä"])
def test_a_table_is_named_so_that_folder_and_sql_agree(table: str) -> None:
    """The error names field and value."""
    with pytest.raises(InvalidInputError, match="table: "):
        validate_table(table)


@pytest.mark.parametrize("columns", [[], [""], ["tick"], ["Partition"], ["a", "A"]])
def test_columns_that_sql_could_not_tell_apart_are_refused(columns: list[str]) -> None:
    """Also none at all, and the two that the lake adds."""
    with pytest.raises(InvalidInputError, match="column"):
        validate_columns(columns)
    validate_columns(["a", "b"])


def test_two_ticks_are_the_same_only_when_both_are_ticks() -> None:
    """A merged day has the name of its last tick, and is none."""
    tick, other = file_name(stored().key), file_name(stored(sha="cd" * 32).key)
    day, later = file_name(stored(kind="day").key), file_name(stored(NOON + HOUR).key)
    assert is_same_tick(tick, other)
    assert not is_same_tick(tick, day)
    assert not is_same_tick(tick, later)


def test_what_a_merged_day_lists_does_not_count_and_what_it_does_not_list_counts() -> None:
    """Whether its sources are still there or not; late ticks live on."""
    ticks = [stored(NOON + minute * HOUR) for minute in range(4)]
    day = stored(NOON + 3 * HOUR, kind="day", sha="cd" * 32)
    sources = {day.key: frozenset(file_name(each.key) for each in ticks if each != ticks[1])}
    assert select_live([*ticks, day], sources) == [ticks[1], day]
    assert select_live([ticks[1], day], sources) == [ticks[1], day]
    assert select_live(ticks, {}) == ticks


def test_of_two_writers_of_one_tick_all_readers_choose_the_same() -> None:
    """The name that sorts first, in whatever order they are listed."""
    rivals = [stored(sha=letter * 64) for letter in "cab"]
    later = stored(NOON + HOUR)
    assert select_live([*rivals, later], {}) == [rivals[1], later]
    assert select_live([later, *reversed(rivals)], {}) == [rivals[1], later]


def test_of_two_racing_compactions_the_one_with_more_sources_counts() -> None:
    """And with equal sources exactly one, so no row counts twice."""
    names = [file_name(stored(NOON + hour * HOUR).key) for hour in range(3)]
    small, large, twin = (stored(NOON, kind="day", sha=letter * 64) for letter in "abc")
    sources = {
        small.key: frozenset(names[:2]),
        large.key: frozenset(names),
        twin.key: frozenset(names),
    }
    assert select_live([small, large, twin], sources) == [large]


@given(st.permutations([stored(NOON + hour * HOUR, partition=p) for hour in (0, 5) for p in "ab"]))
def test_the_newest_of_each_partition_is_found_in_any_order(listed: list[LakeObject]) -> None:
    """One per partition, the last tick."""
    newest = select_newest(listed)
    assert {name: found.written_at for name, found in newest.items()} == {
        "a": NOON + 5 * HOUR,
        "b": NOON + 5 * HOUR,
    }


def test_at_one_tick_a_merged_day_is_newer_than_the_tick() -> None:
    """It holds the tick's rows and will stay."""
    tick, day = stored(), stored(kind="day")
    assert max(tick, day, key=order_of) == day


POLICY = LakePolicy(keep_ticks_hours=48, keep_days=90)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (MIDNIGHT, False),
        (MIDNIGHT + 48 * HOUR - timedelta(microseconds=1), False),
        (MIDNIGHT + 48 * HOUR, True),
        (MIDNIGHT + 100 * DAY, True),
        (NOON - DAY, False),
    ],
)
def test_a_day_is_merged_once_it_ended_long_enough_ago(now: datetime, due: bool) -> None:
    """The border is exact; the reason gives the numbers."""
    objects = [stored(NOON), stored(NOON + HOUR), stored(NOON, partition="us")]
    plan = plan_compaction(objects, POLICY, now)
    assert bool(plan) == due
    if due:
        (only,) = plan
        assert (only.table, only.partition, only.day) == ("nodes", "eu", MIDNIGHT - DAY)
        assert (only.objects, only.size_bytes) == (2, 200)
        assert "2 objects of 2026-03-01" in only.reason
        assert "48 h" in only.reason


def test_a_plan_that_was_carried_out_finds_nothing_more() -> None:
    """One merged object a day is the end of it; a late tick makes the day due again."""
    day, late = stored(kind="day"), stored(NOON - HOUR)
    now = NOON + 30 * DAY
    assert plan_compaction([day], POLICY, now) == []
    assert len(plan_compaction([day, late], POLICY, now)) == 1


def test_days_are_planned_in_order_and_never_mixed() -> None:
    """By table, partition and day, whatever the order of the listing."""
    objects = [
        stored(NOON + day * DAY + hour * HOUR, table=table, partition=partition)
        for hour in (0, 1)
        for day in (1, 0)
        for partition in ("us", "eu")
        for table in ("nodes", "gpus")
    ]
    plan = plan_compaction(objects, POLICY, NOON + 30 * DAY)
    keys = [(each.table, each.partition, each.day) for each in plan]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) == 8
    assert all(each.objects == 2 for each in plan)


@pytest.mark.parametrize(
    ("now", "removed"),
    [(MIDNIGHT + 90 * DAY - timedelta(microseconds=1), False), (MIDNIGHT + 90 * DAY, True)],
)
def test_an_object_is_removed_when_its_day_ended_long_enough_ago(
    now: datetime, removed: bool
) -> None:
    """The border is exact; the newest stays for ever, with the reason."""
    old, newest = stored(NOON), stored(NOON + HOUR)
    verdicts = {each.object: each for each in plan_lake_retention([newest, old], POLICY, now)}
    assert verdicts[old].remove == removed
    assert not verdicts[newest].remove
    if removed:
        assert verdicts[old].reason == "its day ended 90 days ago; kept 90 days"
        assert "newest object of its partition" in verdicts[newest].reason


@given(
    st.lists(
        st.tuples(st.integers(-200, 3), st.sampled_from("ab"), st.sampled_from(["gpus", "nodes"]))
    ),
    st.integers(0, 120),
)
def test_retention_judges_every_object_once_and_never_empties_a_partition(
    cells: list[tuple[int, str, str]], keep_days: int
) -> None:
    """However old everything is, each partition keeps its newest; the young all stay."""
    objects = list({stored(NOON + day * DAY, partition=p, table=table) for day, p, table in cells})
    policy = LakePolicy(keep_days=keep_days)
    verdicts = plan_lake_retention(objects, policy, NOON)
    assert sorted(each.object for each in verdicts) == sorted(objects)
    kept = [each.object for each in verdicts if not each.remove]
    assert {(o.table, o.partition) for o in kept} == {(o.table, o.partition) for o in objects}
    for each in verdicts:
        if each.remove:
            assert NOON - each.object.written_at >= keep_days * DAY - DAY / 2
    assert all(not each.remove for each in plan_lake_retention(kept, policy, NOON))
