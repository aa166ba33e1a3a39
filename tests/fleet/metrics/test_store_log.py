"""Entries of the metric store's log, what they mean together, and the claims made of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.inventory_checks import Severity
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.rollup_plan import COMPACT_PARTS, covers, find_dirty, plan_compaction
from fleet.metrics.store_facts import (
    Damage,
    check_damage,
    check_lag,
    check_late,
    check_refused,
    facts_of,
)
from fleet.metrics.store_log import (
    CompactionEntry,
    Counted,
    DiscardEntry,
    Entry,
    RetentionEntry,
    RollupEntry,
    RollupFile,
    RollupShard,
    SamplesEntry,
    SeriesCompactionEntry,
    SeriesPart,
    decode_entry,
    encode_entry,
)
from fleet.metrics.store_state import BATCHES_REMEMBERED, NO_INPUTS, StoreState
from fleet.ports.metric_store import RawCommit, RawPart

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEN = Counted(10)
TEN_MS = int(NOON.timestamp() * 1000) - 2 * HOUR_MS
DAY_START_MS = TEN_MS // DAY_MS * DAY_MS


def part(name: str, size_bytes: int = 100, hour_ms: int = TEN_MS) -> RawPart:
    """A raw part of shard 0."""
    return RawPart(name, 0, hour_ms, 10, size_bytes, "ab", hour_ms + 1, hour_ms + 2)


def samples(number: int, *parts: RawPart, counted: Counted = TEN) -> SamplesEntry:
    """A commit."""
    commit = RawCommit(number, f"b{number}", "w", NOON, parts)
    return SamplesEntry(commit, SeriesPart(f"s{number}", 1, 2, "cd"), counted)


def rolled(level: Level, partition_ms: int, inputs: str, name: str = "f") -> RollupEntry:
    """A shard that was made."""
    file = RollupFile(name, 3, 4, name)
    return RollupEntry(NOON, level, partition_ms, (RollupShard(0, inputs, file, None, 1),))


ENTRIES: list[Entry] = [
    samples(1, part("a"), part("b")),
    samples(2, part("c")),
    CompactionEntry(NOON, ("a", "b", "c"), part("abc"), 2),
    SeriesCompactionEntry(NOON, ("s1", "s2"), SeriesPart("s12", 2, 3, "ef")),
    rolled(Level.M1, TEN_MS, "1-2"),
    DiscardEntry(NOON, Level.M1, TEN_MS, 0, "flipped"),
    RetentionEntry(NOON, TEN_MS, dict.fromkeys(Level, TEN_MS)),
]


def applied(*entries: Entry) -> StoreState:
    """The state after entries."""
    state = StoreState()
    for entry in entries:
        state.apply(entry)
    return state


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: type(entry).__name__)
def test_an_entry_comes_back_from_its_bytes(entry: Entry) -> None:
    """Of each kind."""
    assert decode_entry("log/1", encode_entry(entry)) == entry


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format":1,"kind":"samples"}'])
def test_other_bytes_are_damage_that_names_the_key(data: bytes) -> None:
    """Never half an entry."""
    with pytest.raises(CorruptObjectError, match="log/7"):
        decode_entry("log/7", data)


def test_what_a_newer_version_wrote_is_not_guessed_at() -> None:
    """Neither another format nor an unknown kind, nor a newer snapshot."""
    for change in ({"format": 2}, {"kind": "surprise"}):
        fields = json.loads(encode_entry(ENTRIES[0])) | change
        with pytest.raises(SchemaMismatchError):
            decode_entry("log/1", json.dumps(fields).encode())
    with pytest.raises(SchemaMismatchError):
        StoreState.from_json(StoreState().to_json() | {"format": 3})


def test_every_state_survives_its_snapshot() -> None:
    """After each entry, through JSON."""
    for count in range(len(ENTRIES) + 1):
        fields = applied(*ENTRIES[:count]).to_json()
        assert StoreState.from_json(json.loads(json.dumps(fields))).to_json() == json.loads(
            json.dumps(fields)
        ) | {"suspects": fields["suspects"]}


def test_a_compacted_part_stands_where_its_last_source_stood() -> None:
    """Later commits decide over it; the inputs of rollups do not change."""
    state = applied(samples(1, part("a")), samples(2, part("b")))
    before = state.inputs(Level.M1, TEN_MS, 0, TEN_MS + HOUR_MS)
    state.apply(CompactionEntry(NOON, ("a", "b"), part("ab"), 0))
    assert state.inputs(Level.M1, TEN_MS, 0, TEN_MS + HOUR_MS) == before
    state.apply(samples(3, part("c")))
    assert [(one.number, one.part.key) for one in state.parts(TEN_MS, 0)] == [(2, "ab"), (3, "c")]
    assert state.inputs(Level.M1, TEN_MS, 0, TEN_MS + HOUR_MS) != before


def test_equal_bytes_below_leave_the_level_above_clean() -> None:
    """A late sample that changes nothing ends where it was found to change nothing."""
    state = applied(samples(1, part("a")), rolled(Level.M1, TEN_MS, "1-1"))
    closed = TEN_MS + 2 * HOUR_MS
    inputs = state.inputs(Level.M5, TEN_MS, 0, closed)
    state.apply(rolled(Level.M5, TEN_MS, inputs))
    assert find_dirty(state, Level.M5, closed) == []
    state.apply(samples(2, part("late")))
    assert [one.partition_ms for one in find_dirty(state, Level.M1, closed)] == [TEN_MS]
    state.apply(rolled(Level.M1, TEN_MS, "1-2"))
    assert find_dirty(state, Level.M1, closed) == []
    assert find_dirty(state, Level.M5, closed) == []
    assert covers(state, Level.M5, TEN_MS, TEN_MS + HOUR_MS, closed)
    assert not covers(state, Level.H1, TEN_MS, TEN_MS + HOUR_MS, closed)


def test_a_level_waits_for_what_was_never_made_below() -> None:
    """A day is not made of some of its hours while others can be made first."""
    hours = [TEN_MS, TEN_MS + HOUR_MS]
    state = applied(*(samples(n, part(f"p{n}", hour_ms=hour)) for n, hour in enumerate(hours, 1)))
    closed = TEN_MS + 2 * HOUR_MS
    for n, hour in enumerate(hours, 1):
        state.apply(rolled(Level.M1, hour, f"1-{n}", f"m{n}"))
    state.apply(rolled(Level.M5, hours[0], state.inputs(Level.M5, hours[0], 0, closed), "h1"))
    assert find_dirty(state, Level.H1, closed) == []
    state.apply(rolled(Level.M5, hours[1], state.inputs(Level.M5, hours[1], 0, closed), "h2"))
    assert [one.partition_ms for one in find_dirty(state, Level.H1, closed)] == [DAY_START_MS]


def test_a_day_is_made_when_it_is_over_and_an_hourly_level_before() -> None:
    """Today's 1h records are made hour by hour, today's 1d record not at all."""
    state = applied(
        rolled(Level.M5, TEN_MS, "x"),
        rolled(Level.H1, DAY_START_MS, "y"),
    )
    assert len(find_dirty(state, Level.H1, TEN_MS + HOUR_MS)) == 1
    assert find_dirty(state, Level.D1, TEN_MS + HOUR_MS) == []
    assert len(find_dirty(state, Level.D1, DAY_START_MS + DAY_MS)) == 1
    assert state.inputs(Level.D1, DAY_START_MS + DAY_MS, 0, DAY_START_MS) == NO_INPUTS


def test_an_hourly_level_lags_by_the_hours_that_wait_and_not_by_the_day() -> None:
    """A store that begins at ten is not ten hours behind at eleven; late samples make all wait."""
    state = applied(rolled(Level.M5, TEN_MS, "1-x", "a"))
    eleven, twelve = TEN_MS + HOUR_MS, TEN_MS + 2 * HOUR_MS

    def lag_ms(open_from: int) -> int:
        return facts_of(state, open_from).levels[Level.H1].lag_ms

    assert lag_ms(eleven) == HOUR_MS
    state.apply(rolled(Level.H1, DAY_START_MS, state.inputs(Level.H1, DAY_START_MS, 0, eleven)))
    assert lag_ms(eleven) == 0
    state.apply(rolled(Level.M5, eleven, "1-y", "b"))
    assert lag_ms(twelve) == HOUR_MS
    state.apply(rolled(Level.M5, TEN_MS, "1-z", "c"))
    assert lag_ms(twelve) == 2 * HOUR_MS


def test_another_version_of_the_code_makes_everything_dirty() -> None:
    """A snapshot of an older one has all shards looked at again."""
    state = applied(samples(1, part("a")), rolled(Level.M1, TEN_MS, "1-1"))
    assert find_dirty(state, Level.M1, TEN_MS + HOUR_MS) == []
    again = StoreState.from_json(state.to_json() | {"code": "0"})
    assert (TEN_MS, 0) in again.suspects[Level.M1]


def test_parts_are_merged_when_it_is_worth_it() -> None:
    """Many of any size, few of like size; not a crumb beside a loaf."""
    state = applied(samples(1, part("loaf", 1000)), samples(2, part("crumb", 10)))
    assert plan_compaction(state, TEN_MS, 0) is None
    state.apply(samples(3, part("slice", 300)))
    due = plan_compaction(state, TEN_MS, 0)
    assert due is not None
    assert "like size" in due.reason
    crumbs = [samples(n, part(f"c{n}", 1)) for n in range(2, COMPACT_PARTS + 1)]
    many = plan_compaction(applied(samples(1, part("loaf", 10**6)), *crumbs), TEN_MS, 0)
    assert many is not None
    assert many.parts == COMPACT_PARTS


def test_batches_are_forgotten_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of ids is bounded."""
    assert BATCHES_REMEMBERED == 100_000
    monkeypatch.setattr("fleet.metrics.store_state.BATCHES_REMEMBERED", 2)
    state = applied(*(samples(n) for n in range(1, 5)))
    assert list(state.batches) == ["b3", "b4"]


def test_claims_say_what_is_wrong() -> None:
    """Lag, refusals, lateness and damage, each with its numbers and severity."""
    open_from = TEN_MS + 9 * HOUR_MS
    fine = facts_of(applied(samples(1)), open_from)
    assert check_lag(fine, Level.M1).passed
    assert check_refused(fine).passed
    assert check_late(fine).passed
    assert check_late(facts_of(StoreState(), open_from)).passed
    bad = facts_of(
        applied(samples(1, part("a"), counted=Counted(10, 1, 2, late=5, conflicts=3))), open_from
    )
    lag = check_lag(bad, Level.M1)
    assert (lag.passed, lag.severity, lag.numbers["lag_s"]) == (False, Severity.ERROR, 9 * 3600)
    refused = check_refused(bad)
    assert (refused.passed, refused.numbers["future"], refused.numbers["expired"]) == (False, 1, 2)
    assert check_late(bad).numbers["late_share"] == 0.5
    assert check_damage((), 5).passed
    healed = check_damage((Damage("k", "1m", True, "flipped"),), 5)
    lost = check_damage((Damage("k", "raw", False, "flipped"),), 5)
    assert (healed.severity, lost.severity) == (Severity.WARN, Severity.ERROR)
    assert (healed.passed, lost.passed) == (False, False)
