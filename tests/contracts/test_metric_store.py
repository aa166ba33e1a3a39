"""What every metric store must do, on a directory, on S3's protocol and in memory."""

from __future__ import annotations

import math
import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import CorruptObjectError, InvalidInputError, LakeUnavailableError, TooLargeError
from fleet.metrics.histogram_columns import latest_samples
from fleet.metrics.histogram_records import roll_up_histograms
from fleet.metrics.labels import Matcher, MatchKind
from fleet.metrics.levels import DAY_MS, HOUR_MS, MINUTE_MS, Level
from fleet.metrics.rolling_up import roll_up
from fleet.metrics.samples import STALE_BITS, SampleBatch, is_stale, stale_marker
from fleet.ports.object_store import ObjectStore
from resources.metrics.metric_store import ObjectMetricStore
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.retrying import Retrying
from resources.object_store.s3 import S3ObjectStore
from tests.fakes.clock import ManualClock
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.metrics.plain_histograms import one_by_one
from tests.fleet.metrics.plain_records import assert_alike, plain_of
from tests.resources.metrics.metric_stores import (
    NOON_MS,
    TEN_MS,
    append_many,
    batch,
    dirty_of,
    half_past_noon,
    ident,
    info,
    make_all,
    metric_store,
    rows_of,
    steady,
    with_histograms,
)
from tests.servers.moto_server import aws_client, moto_server

Open = Callable[..., ObjectMetricStore]


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A real HTTP server on loopback that speaks S3."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["directory", "s3", "memory"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again, each time as a new process would."""
    if request.param == "directory":
        root = tmp_path / "metrics"
        yield lambda **more: metric_store(DirectoryObjectStore(root), root=root, **more)
        return
    if request.param == "memory":
        objects: ObjectStore = InMemoryObjectStore()
        yield lambda **more: metric_store(objects, **more)
        return
    with aws_client("s3", request.getfixturevalue("s3_endpoint"), 30.0) as client:
        bucket = f"b{uuid.uuid4().hex}"
        client.create_bucket(Bucket=bucket)
        store = S3ObjectStore(client, bucket, "metrics/")
        yield lambda **more: metric_store(store, cache=tmp_path / "cache", **more)


def test_samples_come_back_in_order_with_every_bit(open_store: Open) -> None:
    """Out of order, of two hours, with markers and infinities; the range is (start, end]."""
    given = [
        (1, TEN_MS + HOUR_MS + 1, 4.5),
        (2, TEN_MS + 1, math.inf),
        (1, TEN_MS + HOUR_MS, -0.0),
        (1, TEN_MS + 5, stale_marker()),
        (1, TEN_MS, 1.0),
    ]
    open_store().append(batch(given), "one")
    ids = [ident("cpu", 1), ident("cpu", 2)]
    found = open_store().samples(np.array(sorted(ids)), TEN_MS, TEN_MS + HOUR_MS)
    one = found.series_ids == ids[0]
    assert found.ts_ms[one].tolist() == [TEN_MS + 5, TEN_MS + HOUR_MS]
    assert is_stale(found.values[one]).tolist() == [True, False]
    assert np.signbit(found.values[one][1])
    assert found.values.view(np.uint64)[one][0] == STALE_BITS
    assert found.values[~one].tolist() == [math.inf]
    assert found.series[ids[0]] == info("cpu", 1)
    assert open_store().samples(np.array([5]), TEN_MS, NOON_MS).series_ids.tolist() == []


def test_the_same_batch_again_is_answered_with_its_first_commit(open_store: Open) -> None:
    """Also by another process; nothing is stored, commits have no gap."""
    first = open_store(writer="a").append(batch(steady(1, TEN_MS, 1)), "one")
    other = open_store(writer="b")
    assert other.append(batch(steady(3, TEN_MS, 1)), "one") == first
    second = other.append(batch(steady(2, TEN_MS, 1)), "two")
    assert [one.number for one in open_store().commits()] == [1, 2]
    assert list(open_store().commits(after=1)) == [second]
    assert list(open_store().commits(after=2)) == []
    assert (first.writer, second.writer) == ("a", "b")


def test_of_two_values_at_one_time_the_last_committed_counts(open_store: Open) -> None:
    """Within a batch the later one; the differing ones are counted."""
    store = open_store()
    store.append(batch([(1, TEN_MS + 1, 1.0), (1, TEN_MS + 1, 2.0), (1, TEN_MS + 2, 7.0)]), "one")
    assert [row[2] for row in rows_of(store, [ident("cpu", 1)], TEN_MS, NOON_MS)] == [2.0, 7.0]
    store.append(batch([(1, TEN_MS + 1, 3.0), (1, TEN_MS + 2, 7.0)]), "two")
    assert [row[2] for row in rows_of(store, [ident("cpu", 1)], TEN_MS, NOON_MS)] == [3.0, 7.0]
    with store.log.reading() as state:
        assert (state.counted.duplicates, state.counted.conflicts) == (1, 1)
    assert sum(one.conflicts for one in make_all(store)) == 1


def test_the_far_future_is_refused_by_count(open_store: Open) -> None:
    """An hour ahead is a clock that is wrong; the rest of the batch is stored."""
    clock = half_past_noon()
    now_ms = NOON_MS + HOUR_MS // 2
    store = open_store(clock=clock)
    store.append(batch([(1, now_ms + HOUR_MS, 1.0), (1, now_ms + HOUR_MS + 1, 2.0)]), "one")
    with store.log.reading() as state:
        assert state.counted.refused_future == 1
    assert len(rows_of(store, [ident("cpu", 1)], 0, now_ms + DAY_MS)) == 1


@pytest.mark.parametrize("ts_ms", [-(2**63), 1 - 2**63, -(2**62), -(10**15), 2**63 - 1])
def test_a_time_that_no_calendar_has_is_refused_by_count(open_store: Open, ts_ms: int) -> None:
    """A target may say any 64 bits; the rest of its batch is stored, histograms too."""
    store = open_store()
    odd = with_histograms(batch([(node, TEN_MS + HOUR_MS, 1.0) for node in range(5)]))
    assert odd.histograms is not None
    before = len(odd)
    odd.ts_ms[0] = odd.histograms.ts_ms[0] = ts_ms
    store.append(odd, "one")
    with store.log.reading() as state:
        found = state.counted
    assert (found.stored, found.refused_future + found.refused_expired) == (before - 2, 2)
    assert len(rows_of(store, [ident("cpu", node) for node in range(5)], TEN_MS, NOON_MS)) == 4


def test_what_breaks_a_rule_is_refused_and_nothing_is_stored(open_store: Open) -> None:
    """Types, lengths, identities without or with other labels, an empty batch id."""
    store = open_store()
    sound = batch(steady(1, TEN_MS, 1))
    broken = [
        SampleBatch(sound.series_ids, sound.ts_ms[:-1], sound.values, sound.series),
        SampleBatch(sound.series_ids, sound.ts_ms, sound.values.astype(np.float32), sound.series),  # type: ignore[arg-type]
        SampleBatch(sound.series_ids, sound.ts_ms, sound.values),
        SampleBatch(sound.series_ids, sound.ts_ms, sound.values, {ident("cpu", 0): info("x", 9)}),
    ]
    for each in broken:
        with pytest.raises(InvalidInputError):
            store.append(each, "one")
    with pytest.raises(InvalidInputError, match="batch_id"):
        store.append(sound, "")
    assert list(store.commits()) == []
    assert store.append(sound, "one").number == 1


def test_two_label_sets_with_one_identity_are_refused(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both; it does not matter which process brought the first."""
    open_store().append(batch(steady(1, TEN_MS, 1)), "one")
    taken = ident("cpu", 0)
    monkeypatch.setattr("resources.metrics.appending.series_id", lambda labels: taken)
    other = SampleBatch(
        np.array([taken]), np.array([TEN_MS + 1]), np.array([1.0]), {taken: info("other", 5)}
    )
    with pytest.raises(InvalidInputError, match=r'other\{node="n5"\}.*cpu\{node="n0"\}'):
        open_store().append(other, "two")
    assert len(open_store().commits()) == 1


def test_a_query_chooses_series_like_prometheus(open_store: Open) -> None:
    """By metric, by equal and unequal labels, by regular expressions, by what is absent."""
    store = open_store()
    store.append(batch(steady(12, TEN_MS, 1)), "one")
    store.append(batch(steady(3, TEN_MS, 1), name="memory"), "two")

    def chosen(*matchers: Matcher) -> list[str]:
        found = open_store().select(matchers, TEN_MS, NOON_MS)
        assert found.ids.tolist() == sorted(found.ids.tolist())
        return sorted("/".join(value for _, value in one.labels) for one in found.infos)

    metric = Matcher("__name__", MatchKind.EQUAL, "cpu")
    assert len(chosen(metric)) == 12
    assert chosen(metric, Matcher("node", MatchKind.REGEX, "n1.")) == ["cpu/n10", "cpu/n11"]
    assert chosen(Matcher("node", MatchKind.EQUAL, "n2")) == ["cpu/n2", "memory/n2"]
    assert len(chosen(metric, Matcher("node", MatchKind.NOT_EQUAL, "n2"))) == 11
    assert len(chosen(metric, Matcher("zone", MatchKind.EQUAL, ""))) == 12
    assert chosen(metric, Matcher("zone", MatchKind.NOT_EQUAL, "")) == []
    assert chosen(
        Matcher("__name__", MatchKind.REGEX, "mem.*"), Matcher("node", MatchKind.NOT_REGEX, "n[12]")
    ) == ["memory/n0"]
    assert chosen(Matcher("__name__", MatchKind.EQUAL, "no such metric!")) == []


def test_a_query_of_too_many_series_is_refused(open_store: Open) -> None:
    """The message says how many."""
    store = open_store()
    store.append(batch(steady(5, TEN_MS, 1)), "one")
    store._selected_max = 4
    with pytest.raises(TooLargeError, match="5 series"):
        store.select([Matcher("__name__", MatchKind.EQUAL, "cpu")], 0, 1)


def test_what_is_known_of_a_series_may_change(open_store: Open) -> None:
    """The row committed last counts; samples stay."""
    store = open_store()
    store.append(batch(steady(2, TEN_MS, 1)), "one")
    again = batch(steady(2, TEN_MS + MINUTE_MS, 1), sketched=True)
    store.append(again, "two")
    found = open_store().select([Matcher("node", MatchKind.EQUAL, "n1")], 0, 1)
    assert [one.sketched for one in found.infos] == [True]
    assert len(found.ids) == 1


def test_rollups_are_what_the_samples_give(open_store: Open) -> None:
    """At each level, by a process that only reads."""
    clock = half_past_noon()
    store = open_store(clock=clock)
    given = steady(4, TEN_MS, 120)
    store.append(batch(given, sketched=True), "one")
    clock.advance(86_400)
    made = make_all(store)
    assert {one.level for one in made} == set(Level)
    reader = open_store(clock=clock)
    ids = np.unique(batch(given).series_ids)
    samples = reader.samples(ids, 0, NOON_MS)
    for level in Level:
        start, end = TEN_MS // DAY_MS * DAY_MS, TEN_MS // DAY_MS * DAY_MS + DAY_MS
        found = reader.records(ids, level, start, end)
        wanted = roll_up(samples.series_ids, samples.ts_ms, samples.values, level)
        # days are kept with fewer bits of the spread
        spread = 2.0**-36 if level == Level.D1 else 1e-12
        assert_alike(plain_of(found), plain_of(wanted), spread=spread)
        assert found.expected.tolist() == [level / 15_000] * len(found)
        assert reader.covers(level, start, end)
    hours = reader.sketches(ids, Level.H1, TEN_MS, NOON_MS)
    assert hours.counts.sum() == len(given)
    with pytest.raises(InvalidInputError, match="multiples"):
        reader.records(ids, Level.H1, TEN_MS + 1, NOON_MS)
    with pytest.raises(InvalidInputError, match="5m"):
        reader.sketches(ids, Level.M1, TEN_MS, NOON_MS)


def test_native_histograms_are_kept_and_rolled_up(open_store: Open) -> None:
    """Beside the samples of their batch, by a process that only reads, at each level."""
    clock = half_past_noon()
    store = open_store(clock=clock)
    given = with_histograms(batch(steady(4, TEN_MS, 90)))
    assert given.histograms is not None
    ids = np.unique(given.histograms.series_ids)
    store.append(given, "one")
    store.append(given, "again")
    clock.advance(86_400)
    make_all(store)
    reader = open_store(clock=clock)
    found = reader.histograms(ids, 0, NOON_MS)
    wanted = latest_samples(given.histograms)
    assert len(found) == len(wanted) > 0
    assert found.ts_ms.tolist() == wanted.ts_ms.tolist()
    assert one_by_one(found.histograms) == one_by_one(wanted.histograms)
    assert len(reader.histograms(ids[:1], TEN_MS, TEN_MS + 60_000)) == 1
    for level in Level:
        start = TEN_MS // DAY_MS * DAY_MS
        records = reader.histogram_records(ids, level, start, start + DAY_MS)
        direct = roll_up_histograms(wanted, level)
        for name in ("series_ids", "ends_ms", "n", "first_ms", "last_ms", "resets"):
            assert getattr(records, name).tolist() == getattr(direct, name).tolist()
        assert one_by_one(records.last) == one_by_one(direct.last)
        assert one_by_one(records.reset_sum) == one_by_one(direct.reset_sum)


def test_a_level_covers_what_is_neither_dirty_nor_open(open_store: Open) -> None:
    """Late samples and open hours make it say no, rolling up makes it say yes again."""
    clock = half_past_noon()
    store = open_store(clock=clock)
    store.append(batch(steady(1, TEN_MS, 120)), "one")
    assert not store.covers(Level.M1, TEN_MS, NOON_MS)
    make_all(store)
    assert store.covers(Level.H1, TEN_MS, NOON_MS)
    assert not store.covers(Level.M1, TEN_MS, NOON_MS + MINUTE_MS)
    store.append(batch([(1, TEN_MS + 3, 1.0)]), "late")
    assert not store.covers(Level.M1, TEN_MS, TEN_MS + HOUR_MS)
    assert not store.covers(Level.H1, TEN_MS, TEN_MS + HOUR_MS)
    assert store.covers(Level.M5, TEN_MS + HOUR_MS, NOON_MS)
    assert dirty_of(store, Level.M1) == [TEN_MS]
    make_all(store)
    assert store.covers(Level.H1, TEN_MS, NOON_MS)
    with store.log.reading() as state:
        assert state.counted.late == 1 + 240 * 2


def test_the_open_bucket_is_answered_from_samples(open_store: Open) -> None:
    """From the first open hour on; nothing is built for it."""
    store = open_store()
    store.append(batch(steady(1, TEN_MS, 150)), "one")
    ids = np.array([ident("cpu", 0)])
    rows = store.open_records(ids, Level.H1)
    assert rows.ends_ms.tolist() == [NOON_MS + HOUR_MS]
    assert rows.n.tolist() == [120]
    make_all(store)
    assert len(store.records(ids, Level.M1, NOON_MS, NOON_MS + HOUR_MS)) == 0


def test_damage_is_an_error_that_names_the_object(open_store: Open) -> None:
    """Flipped, cut or missing bytes never become an answer."""
    store = open_store()
    part = store.append(batch(steady(3, TEN_MS, 10)), "one").parts[0]
    data = store.objects.get(part.key)
    flipped = bytes([data[0]]) + bytes([data[50] ^ 1]) + data[2:]
    for bad in (flipped, data[:-1], b""):
        store.objects.delete([part.key])
        store.objects.create(part.key, bad)
        with pytest.raises(CorruptObjectError, match=part.key):
            rows_of(open_store(), [ident("cpu", node) for node in range(3)], TEN_MS, NOON_MS)


def test_another_number_of_shards_is_refused(open_store: Open) -> None:
    """It is fixed when a store is made."""
    open_store(shards=3).append(batch(steady(1, TEN_MS, 1)), "one")
    with pytest.raises(InvalidInputError, match="shards"):
        open_store(shards=4).commits()


def test_writers_of_one_hour_lose_nothing(tmp_path: Path) -> None:
    """Processes race for every entry of the log; commits are numbered without gap or double."""
    writers = 3
    spawn = multiprocessing.get_context("spawn")
    root = tmp_path / "metrics"
    processes = [spawn.Process(target=append_many, args=(root, n, 8)) for n in range(writers)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(120)
    assert [each.exitcode for each in processes] == [0] * writers
    store = metric_store(DirectoryObjectStore(root), root=root)
    commits = store.commits()
    assert [one.number for one in commits] == list(range(1, 8 * writers + 1))
    assert {one.batch_id for one in commits} == {
        f"{w}-{n}" for w in range(writers) for n in range(8)
    }
    assert len(rows_of(store, [ident("cpu", n) for n in range(writers)], 0, NOON_MS)) == 8 * writers


def test_a_store_that_does_not_answer_is_named_and_can_be_asked_again() -> None:
    """Nothing listens there: the lake's error, chained."""
    with aws_client("s3", "http://127.0.0.1:9") as client:
        store = metric_store(S3ObjectStore(client, "b", retrying=Retrying(deadline_s=0.3)))
        with pytest.raises(LakeUnavailableError):
            store.append(batch(steady(1, TEN_MS, 1)), "one")


def test_a_clock_decides_what_is_open() -> None:
    """An hour is open until two minutes after its end."""
    clock = ManualClock()
    store = metric_store(clock=clock)
    store.append(batch(steady(1, TEN_MS, 119)), "one")
    assert store.open_from_ms() == NOON_MS - HOUR_MS
    clock.advance(119)
    assert dirty_of(store, Level.M1) == [TEN_MS]
    clock.advance(1)
    assert dirty_of(store, Level.M1) == [TEN_MS + HOUR_MS, TEN_MS]


def test_gauges_that_the_settings_name_have_sketches(open_store: Open) -> None:
    """From the next sample of each series on, until they are named no more; others have none."""
    asking = open_store(sketched=["cpu", "cpu_total"])
    open_store().append(batch(steady(2, TEN_MS, 1)), "before")
    for number, name in enumerate(("cpu", "memory")):
        rows = steady(2, TEN_MS + number * MINUTE_MS, 30)
        asking.append(batch(rows, name), name)
    make_all(asking)
    ids = {name: np.array([ident(name, 0), ident(name, 1)]) for name in ("cpu", "memory")}
    for name, wanted in (("cpu", True), ("memory", False)):
        found = open_store().select([Matcher("__name__", MatchKind.EQUAL, name)], 0, NOON_MS)
        assert [one.sketched for one in found.infos] == [wanted] * 2
        assert bool(len(open_store().sketches(ids[name], Level.M5, TEN_MS, NOON_MS))) == wanted
    asking.append(batch(steady(2, TEN_MS + HOUR_MS, 1)), "the same row")
    with asking.log.reading() as state:
        assert len(state.series) == 3
    open_store().append(batch(steady(2, TEN_MS + HOUR_MS, 2)), "no more")
    (one, _) = open_store().select([Matcher("__name__", MatchKind.EQUAL, "cpu")], 0, NOON_MS).infos
    assert not one.sketched
