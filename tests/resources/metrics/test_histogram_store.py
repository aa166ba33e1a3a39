"""Native histograms through the store: kept, rolled up, merged, healed, let go, and answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from fleet.errors import InvalidInputError
from fleet.metrics.histogram_columns import HistogramSamples
from fleet.metrics.labels import labels_of, series_id
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo, empty_batch
from fleet.metrics.store_state import StoreState
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.pieces import copy_samples
from resources.metrics.prometheus_api import PrometheusApi
from resources.metrics.prometheus_server import PrometheusSource
from resources.metrics.upkeep import compact_hours, retain, verify_objects
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.fakes.object_store import InMemoryObjectStore
from tests.fleet.metrics.plain_histograms import NativeHistogram, in_columns, one_by_one
from tests.fleet.promql.native_data import START_MS, Points, native_series
from tests.fleet.promql.oracle import answered, differences
from tests.fleet.promql.oracle_data import Ask
from tests.resources.metrics.metric_stores import (
    TEN_MS,
    half_past_noon,
    histogram_at,
    make_all,
    metric_store,
)
from tests.servers import remote_write
from tests.servers.prometheus import prometheus_programs, running_prometheus

__all__ = ["prometheus_programs"]

ID = series_id(labels_of("h", {}))
MINUTE_MS = 60_000


def histograms(points: Mapping[int, NativeHistogram]) -> SampleBatch:
    """A batch of one series of histograms, and no number."""
    times = np.array(list(points), np.int64)
    found = HistogramSamples(np.full(len(points), ID), times, in_columns(list(points.values())))
    infos = {ID: SeriesInfo(labels_of("h", {}), MetricType.HISTOGRAM)}
    empty = empty_batch()
    return SampleBatch(empty.series_ids, empty.ts_ms, empty.values, infos, found)


def minutes(first: int, count: int) -> dict[int, NativeHistogram]:
    """A histogram each minute from ten o'clock on."""
    times = (TEN_MS + MINUTE_MS * at for at in range(first, first + count))
    return {ts_ms: histogram_at(ts_ms) for ts_ms in times}


def of_store(store: ObjectMetricStore) -> dict[int, NativeHistogram]:
    """All raw histograms of the series."""
    found = store.histograms(np.array([ID]), 0, TEN_MS + DAY_MS)
    return dict(zip(found.ts_ms.tolist(), one_by_one(found.histograms), strict=True))


def test_a_store_answers_as_the_twin_from_every_level() -> None:
    """Every family of the oracle, from open hours, raw samples and rollups alike."""
    store, twin = metric_store(), InMemoryMetricReader()
    for number, (labels, points) in enumerate(native_series()):
        twin.add_histograms(labels, points)
        store.append(batch_of({labels: points}), f"series-{number}")
    asks = [
        Ask(f"{query}[{window}])){end}", START_MS + HOUR_MS, START_MS + 80 * MINUTE_MS, step)
        for query, end in (
            ("histogram_quantile(0.9, sum by (family) (rate(h", ")"),
            ("histogram_count(increase(h", ""),
            ("histogram_sum(avg(rate(h", ")"),
        )
        for window, step in (("5m", 5 * MINUTE_MS), ("1h", HOUR_MS))
    ]
    asks = [one._replace(query=one.query.replace("]))))", "])))")) for one in asks]
    wanted = [answered(PromqlEngine(twin), ask)[0] for ask in asks]
    for rolled_up in (False, True):
        if rolled_up:
            assert sum(one.histograms for one in make_all(store)) > 0
        levels = set()
        for ask, theirs in zip(asks, wanted, strict=True):
            ours, answer = answered(PromqlEngine(store), ask)
            assert not differences(ours, theirs, 1e-9), ask.query
            assert theirs
            levels |= {use.level for use in answer.uses}
        assert levels == ({Level.M5, Level.H1} if rolled_up else {None})


def batch_of(series: Mapping[tuple[tuple[str, str], ...], Points]) -> SampleBatch:
    """Series of histograms as a batch."""
    infos = {series_id(labels): SeriesInfo(labels) for labels in series}
    rows = [(series_id(labels), *point) for labels, points in series.items() for point in points]
    found = HistogramSamples(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        in_columns([row[2] for row in rows]),
    )
    empty = empty_batch()
    return SampleBatch(empty.series_ids, empty.ts_ms, empty.values, infos, found)


def test_the_last_committed_histogram_counts_also_after_merging() -> None:
    """Late and repeated histograms; parts become one, a snapshot and a new process see the same."""
    objects = InMemoryObjectStore()
    store = metric_store(objects, shards=1)
    store.append(histograms(minutes(1, 40)), "one")
    other = histogram_at(TEN_MS + 9 * MINUTE_MS)
    changed = {TEN_MS + 5 * MINUTE_MS: other}
    store.append(histograms(changed), "two")
    store.append(histograms(minutes(41, 30)), "three")
    wanted = minutes(1, 70) | changed
    assert of_store(store) == wanted
    assert [one.histograms for one in compact_hours(store, 9)] == [True]
    store.log.write_snapshot()
    again = metric_store(objects, shards=1)
    assert of_store(again) == of_store(store) == wanted
    with store.log.reading() as state:
        fields = state.to_json()
        assert fields["format"] == 2
        assert StoreState.from_json(fields).to_json() == fields


def test_a_damaged_rollup_of_histograms_is_made_anew() -> None:
    """Found by its bytes, discarded by an entry of the log, and built again from the same parts."""
    objects = InMemoryObjectStore()
    store = metric_store(objects, shards=1)
    store.append(histograms(minutes(1, 50)), "one")
    make_all(store)
    key = next(key for key in objects.objects if key.startswith("histograms/5m/"))
    before = objects.objects[key]
    objects.objects[key] = before[:-1] + b"x"
    (damage,) = verify_objects(store, 0).damages
    assert (damage.key, damage.healed) == (key, True)
    make_all(store)
    assert not verify_objects(store, 0).damages
    live = [key for key in objects.objects if key.startswith("histograms/5m/")]
    assert before in {objects.objects[key] for key in live}


def test_retention_lets_histograms_go_when_their_rollups_are_built() -> None:
    """Raw parts first; an answer then comes from records, and says nothing of it."""
    clock = half_past_noon()
    objects = InMemoryObjectStore(clock.now)
    store = metric_store(objects, clock, shards=1)
    store.append(histograms(minutes(1, 60)), "one")
    clock.advance(20 * 86_400)
    policy = MetricPolicy(1, 30, 90, 400, 3650)
    retain(store, policy)
    assert of_store(store)
    query = "histogram_count(increase(h[5m]))"
    exact = PromqlEngine(store).answer(query, TEN_MS + 30 * MINUTE_MS).values
    make_all(store)
    retain(store, policy)
    clock.advance(2 * 86_400)
    retain(store, policy)
    assert of_store(store) == {}
    assert not [key for key in objects.objects if key.startswith("histograms/raw/")]
    answer = PromqlEngine(store).answer(query, TEN_MS + 30 * MINUTE_MS)
    assert np.allclose(answer.values, exact, rtol=1e-12)
    assert answer.exact


def test_a_batch_with_a_wrong_histogram_is_refused_whole() -> None:
    """Nothing of it is stored, not even its numbers."""
    store = metric_store()
    wrong = histograms({TEN_MS: histogram_at(TEN_MS)._replace(schema=11)})
    with pytest.raises(InvalidInputError, match="schema"):
        store.append(wrong, "one")
    assert not store.commits()


@pytest.mark.usefixtures("prometheus_programs")
def test_histograms_of_a_prometheus_server_are_answered_as_there() -> None:
    """Copied by remote read with the numbers beside them, rolled up, and asked of both."""
    chosen = {"reset", "fractions", "signed"}
    series = [one for one in native_series() if dict(one[0])["family"] in chosen]
    store = metric_store()
    with running_prometheus(flags=("--enable-feature=native-histograms",)) as server:
        for labels, points in series:
            part = [point for point in points if point[0] < START_MS + 40 * MINUTE_MS]
            remote_write.write(server, [(dict(labels), part)])
        remote_write.write(server, [({"__name__": "n"}, [(START_MS + MINUTE_MS, 7.0)])])
        source = PrometheusSource(PrometheusApi(server.url))
        copied = list(copy_samples(source, store, START_MS, START_MS + 2 * HOUR_MS))
        assert [one for piece in copied for one in piece.problems] == []
        at_ms = START_MS + 35 * MINUTE_MS
        make_all(store)
        for family in chosen:
            query = f'histogram_quantile(0.8, rate(h{{family="{family}"}}[5m]))'
            (row,) = server.get("/api/v1/query", {"query": query, "time": f"{at_ms / 1000}"})[
                "result"
            ]
            rules = PROMETHEUS_2._replace(left_closed=False)
            answer = PromqlEngine(store, semantics=rules).answer(query, at_ms)
            assert np.isclose(answer.values[0, 0], float(row["value"][1]), rtol=1e-9)
            assert {use.level for use in answer.uses} == {Level.M5}
    assert (
        sum(piece.samples for piece in copied)
        == sum(
            len([ts for ts, _ in points if ts < START_MS + 40 * MINUTE_MS]) for _, points in series
        )
        + 1
    )
