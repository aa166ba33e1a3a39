"""What scrapes give is stored once, waits for a store that is away, and is counted."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fleet.alerts.groups import GroupProgram, GroupState
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LakeUnavailableError,
    SchemaMismatchError,
    StateroomError,
)
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.recent_samples import HELD_MS, RecentSamples
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.metrics.scraped_target import SaidOfSeries, ScrapeResult
from fleet.metrics.vectors import InstantVector
from fleet.ports.metric_store import RawCommit, RawPart
from ops.alert_evaluator import AlertTick
from ops.metric_collection import MetricCollection
from ops.rule_samples import RuleSamples
from tests.fakes.clock import ManualClock

UP = labels_of("up", {"job": "node"})


class Store(MemorySeries):
    """Takes batches by name, as the port says; away while it is told to be."""

    def __init__(self) -> None:
        """Empty and there."""
        super().__init__()
        self.away = False
        self.failure: StateroomError = LakeUnavailableError("disk full")
        self.refused: int | None = None
        self.answer_is_lost = False
        self.names: list[str] = []
        self.committed: list[SampleBatch] = []
        self.log: list[RawCommit] = []
        self.known: set[int] = set()
        """Series that batches have explained."""

    def append(self, batch: SampleBatch, batch_id: str) -> RawCommit:
        """Keep a batch once."""
        if self.away:
            raise self.failure
        if self.refused in batch.series_ids.tolist():
            raise InvalidInputError("series", self.refused, "an identity of its own")
        self.known |= batch.series.keys()
        for one in batch.series_ids.tolist():
            if one not in self.known:
                raise InvalidInputError("series", one, "an identity that is explained")
        if batch_id not in self.names:
            self.names.append(batch_id)
            self.committed.append(batch)
        if self.answer_is_lost:
            self.answer_is_lost = False
            raise LakeUnavailableError("connection lost")
        self.log.append(RawCommit(len(self.log) + 1, batch_id, "own", ManualClock().now(), ()))
        return self.log[-1]

    def append_by(self, writer: str, ts_ms: int, value: float) -> None:
        """What another process commits."""
        self.put(UP, ts_ms, value)
        part = RawPart("key", 0, 0, 1, 1, "", ts_ms, ts_ms)
        self.log.append(RawCommit(len(self.log) + 1, "x", writer, ManualClock().now(), (part,)))

    def commits(self, after: int = 0) -> Sequence[RawCommit]:
        """As the port says."""
        return self.log[after:]


class World:
    """A collection over such a store."""

    def __init__(self, waiting_max: int = 1_000) -> None:
        """Nothing was scraped."""
        self.clock = ManualClock()
        self.store = Store()
        self.now_ms = round(self.clock.now().timestamp() * 1000)
        self.recent = RecentSamples(self.store, self.now_ms)
        self.collection = MetricCollection(
            self.store, self.recent, self.clock, writer="own", waiting_max=waiting_max
        )

    def scrape(self, value: float = 1.0) -> None:
        """One sample, a second later."""
        self.clock.advance(1.0)
        self.now_ms += 1000
        self.collection.take(ScrapeResult(batch(self.now_ms, value), up=True))


def test_rules_see_what_another_writer_commits_for_these_minutes() -> None:
    """From the next commit on, the store answers for the times that it has more of."""
    world = World()
    ids = np.array([series_id(UP)])

    def seen(start_ms: int) -> list[float]:
        return world.recent.samples(ids, start_ms, world.now_ms).values.tolist()

    world.scrape()
    world.collection.commit()
    began_ms = world.now_ms - 1000
    world.scrape(2.0)
    world.store.append_by("other", world.now_ms - 500, 7.0)
    assert seen(began_ms) == [1.0]
    world.collection.commit()
    assert seen(began_ms) == [7.0], "the store of this test keeps what others put alone"
    assert seen(world.now_ms - 500) == [2.0]


def batch(ts_ms: int, value: float) -> SampleBatch:
    """One sample of `up`."""
    identity = series_id(UP)
    return SampleBatch(
        np.array([identity], np.int64),
        np.array([ts_ms], np.int64),
        np.array([value], np.float64),
        {identity: SeriesInfo(UP)},
    )


def test_scrapes_between_two_commits_are_one_batch() -> None:
    """And rules see them at once, from memory."""
    world = World()
    world.scrape()
    world.scrape()
    world.collection.commit()
    world.collection.commit()
    assert [len(one) for one in world.store.committed] == [2]
    assert world.collection.facts(3, 1).samples == 2
    ids = np.array([series_id(UP)], np.int64)
    assert len(world.recent.samples(ids, world.now_ms - 2000, world.now_ms)) == 2


def test_a_store_that_is_away_gets_everything_later_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is lost, nothing is doubled, and it is said once."""
    world = World()
    world.store.away = True
    for _ in range(3):
        world.scrape()
        world.collection.commit()
    assert world.store.committed == []
    assert world.collection.facts(1, 0).commits_failed == 3
    world.store.away = False
    world.collection.commit()
    assert [len(one) for one in world.store.committed] == [1, 1, 1]
    times = [int(one.ts_ms[0]) for one in world.store.committed]
    assert times == sorted(times)
    assert [record.getMessage() for record in caplog.records] == [
        "metric store: disk full",
        "metric store: takes samples again",
    ]


@pytest.mark.parametrize(
    "failure",
    [
        CorruptObjectError("series/x does not have the sha256 that the log says"),
        SchemaMismatchError("metric log has a format that this version does not know"),
        InvalidInputError("metrics.shards", 8, "4, as this store was made"),
    ],
)
def test_samples_wait_until_a_store_that_refuses_all_is_mended(failure: StateroomError) -> None:
    """It is the store that is wrong, not the samples: none of them is let go."""
    world = World()
    world.store.away, world.store.failure = True, failure
    world.scrape()
    world.collection.take(ScrapeResult(_of_two_series(world.now_ms), up=True))
    world.collection.commit()
    facts = world.collection.facts(1, 0)
    assert (facts.samples_dropped, facts.commits_failed) == (0, 1)
    world.store.away = False
    world.collection.commit()
    assert [len(one) for one in world.store.committed] == [3]


def _of_two_series(ts_ms: int) -> SampleBatch:
    """One sample each."""
    series = [labels_of("load", {"node": str(number)}) for number in range(2)]
    ids = np.array([series_id(one) for one in series], np.int64)
    infos = {series_id(one): SeriesInfo(one) for one in series}
    return SampleBatch(ids, np.full(2, ts_ms), np.ones(2), infos)


def test_a_commit_whose_answer_was_lost_is_not_made_twice() -> None:
    """The batch keeps its name."""
    world = World()
    world.scrape()
    world.store.answer_is_lost = True
    world.collection.commit()
    world.scrape()
    world.collection.commit()
    assert [len(one) for one in world.store.committed] == [1, 1]
    assert world.collection.facts(1, 0).samples == 2


def test_a_series_that_is_refused_for_good_keeps_no_other_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is found by halving, let go, counted and named; the next batches go the same way."""
    world = World()
    series = [labels_of("load", {"node": str(number)}) for number in range(7)]
    ids = np.array([series_id(one) for one in series], np.int64)
    infos = {series_id(one): SeriesInfo(one) for one in series}
    world.store.refused = int(ids[3])
    for _ in range(2):
        world.scrape()
        many = SampleBatch(ids, np.full(7, world.now_ms), np.ones(7), infos)
        world.collection.take(ScrapeResult(many, up=True))
        world.collection.commit()
    stored = np.concatenate([one.series_ids for one in world.store.committed])
    assert sorted(stored.tolist()) == sorted([*np.delete(ids, 3), series_id(UP)] * 2)
    facts = world.collection.facts(1, 0)
    assert (facts.samples, facts.samples_dropped, facts.commits_failed) == (14, 2, 0)
    assert caplog.text.count("refused for good") == 2


def told(batch: SampleBatch) -> set[str]:
    """Nodes of which a batch says what they are."""
    return {dict(info.labels).get("node", "up") for info in batch.series.values()}


def test_a_store_is_told_once_what_the_series_of_a_scrape_are() -> None:
    """As long as scrapes say it by the same object; millions of series are told in no time."""
    world = World()
    loads, others = (SaidOfSeries(_of_two_series(0).series) for _ in range(2))
    for series in (loads, loads, others, loads):
        world.now_ms += 1000
        samples = replace(_of_two_series(world.now_ms), series=series)
        world.collection.take(ScrapeResult(samples, up=True))
        world.scrape()
        world.collection.commit()
    said = [told(one) for one in world.store.committed]
    assert said == [{"0", "1", "up"}, {"up"}, {"0", "1", "up"}, {"up"}]
    assert [len(one) for one in world.store.committed] == [3] * 4


def test_what_a_store_was_not_told_after_all_is_told_with_the_next_batch() -> None:
    """Batches that were let go told nothing."""
    world = World(waiting_max=3)
    world.store.away = True
    loads = SaidOfSeries(_of_two_series(0).series)
    for _ in range(3):
        world.now_ms += 1000
        samples = replace(_of_two_series(world.now_ms), series=loads)
        world.collection.take(ScrapeResult(samples, up=True))
        world.collection.commit()
    world.store.away = False
    world.collection.commit()
    assert [told(one) for one in world.store.committed] == [{"0", "1"}]


def test_a_store_that_no_longer_knows_what_it_was_told_is_told_again() -> None:
    """It was restored from a backup, say: no sample is let go for it."""
    world = World()
    loads = SaidOfSeries(_of_two_series(0).series)
    for number in range(3):
        world.now_ms += 1000
        samples = replace(_of_two_series(world.now_ms), series=loads)
        world.collection.take(ScrapeResult(samples, up=True))
        if number == 1:
            world.store.known.clear()
        world.collection.commit()
    assert [told(one) for one in world.store.committed] == [{"0", "1"}, {"0", "1"}, set()]
    facts = world.collection.facts(1, 0)
    assert (facts.samples, facts.samples_dropped, facts.commits_failed) == (6, 0, 0)


def test_what_a_target_no_longer_says_is_kept_by_nobody() -> None:
    """A fleet whose series change with every scrape needs no more room than any other."""
    world = World()
    loads = SaidOfSeries(_of_two_series(0).series)
    watched = weakref.ref(loads)
    samples = replace(_of_two_series(world.now_ms), series=loads)
    world.collection.take(ScrapeResult(samples, up=True))
    world.collection.commit()
    del loads, samples
    world.store.committed.clear()
    assert watched() is None


def test_rules_find_series_that_memory_forgot_and_that_came_again() -> None:
    """Though the store is not told again what they are."""
    world = World()
    loads, ids = SaidOfSeries(_of_two_series(0).series), _of_two_series(0).series_ids
    for _ in range(2):
        world.now_ms += 1000
        world.clock.advance(1.0)
        samples = replace(_of_two_series(world.now_ms), series=loads)
        world.collection.take(ScrapeResult(samples, up=True))
        world.collection.commit()
        found = world.recent.select((), world.now_ms, world.now_ms + 1)
        assert found.ids.tolist() == sorted(ids.tolist())
        assert len(found.infos) == 2
        world.clock.advance(2 * HELD_MS / 1000)
        world.now_ms += 2 * HELD_MS
        world.collection.commit()
        assert not len(world.recent.select((), world.now_ms, world.now_ms + 1).ids)
    assert [told(one) for one in world.store.committed] == [{"0", "1"}, set()]


def test_what_waits_is_bounded_and_the_oldest_goes_first() -> None:
    """Counted, so that an alert can tell of it."""
    world = World(waiting_max=2)
    world.store.away = True
    for value in range(5):
        world.scrape(value)
        world.collection.commit()
    world.store.away = False
    world.collection.commit()
    assert [float(one.values[0]) for one in world.store.committed] == [3.0, 4.0]
    assert world.collection.facts(1, 0).samples_dropped == 3


def test_what_rules_record_is_seen_in_memory_once_it_is_kept() -> None:
    """Nothing is held in two places, nothing is missing between them."""
    world = World()
    samples = RuleSamples(world.store, "test", world.recent, world.recent.add)
    labels = labels_of("ALERTS", {"alertname": "Down"})
    samples.write(InstantVector([labels], np.array([1.0]), world.now_ms + 1))
    ids = np.array([series_id(labels)], np.int64)
    for kept in (0, 1):
        found = samples.reader.samples(ids, world.now_ms, world.now_ms + 10)
        assert found.values.tolist() == [1.0]
        assert len(world.store.committed) == kept
        samples.flush()


class Rules:
    """An evaluator that has ticked before."""

    def __init__(self, world: World) -> None:
        """Looks at the store while it ticks."""
        self.world = world
        self.seen: list[int] = []

    def tick(self) -> AlertTick:
        """Two alerts, one of which fires; the receiver did not take them, and said so slowly."""
        self.seen.append(len(self.world.store.committed))
        self.world.clock.advance(21.0)
        return AlertTick((), 2, 1, 0, "", ("2 alerts were not passed on: refused",), False)

    def programs(self) -> Sequence[tuple[GroupProgram, GroupState]]:
        """No group was due."""
        return []


def test_rules_are_evaluated_behind_the_commit_and_counted() -> None:
    """What they look at further back is in the store by then."""
    world = World()
    rules = world.collection.evaluator = Rules(world)
    world.scrape()
    world.collection.round()
    assert rules.seen == [1]
    facts = world.collection.facts(1, 0)
    assert (facts.alerts_pending, facts.alerts_firing, facts.deliveries_failed) == (1, 1, 1)
    assert facts.round_s == 21.0
