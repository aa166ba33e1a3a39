"""The real store answers as Prometheus does: from its raw parts, and from what it rolled up."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from fleet.metrics.labels import Labels, series_id
from fleet.metrics.levels import DAY_MS, HOUR_MS
from fleet.metrics.samples import MetricType, SampleBatch, SeriesInfo
from fleet.promql.engine import PromqlEngine
from fleet.promql.semantics import PROMETHEUS_2
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.part_files import PartFiles
from resources.object_store.directory import DirectoryObjectStore
from tests.fakes.clock import ManualClock
from tests.fleet.promql.oracle import Rows, answered, frozen
from tests.fleet.promql.oracle_data import START_MS, Ask, Points, aligned_asks, all_series, raw_asks
from tests.fleet.promql.test_oracle import COUNTED, RULES_OF_RECORDS, compare_with_oracle
from tests.resources.metrics.metric_stores import make_all

END_MS = START_MS + 3 * DAY_MS


def batch_of(series: list[tuple[Labels, Points]]) -> SampleBatch:
    """Everything, in no order of time."""
    infos = {series_id(labels): SeriesInfo(labels, MetricType.COUNTER) for labels, _ in series}
    rows = [(series_id(labels), ts, v) for labels, points in series for ts, v in points]
    ids, times, values = zip(*rows, strict=True)
    return SampleBatch(
        np.array(ids, np.int64), np.array(times, np.int64), np.array(values, np.float64), infos
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectMetricStore:
    """All families of the oracle, three days later, all levels made."""
    folder = tmp_path_factory.mktemp("metrics")
    clock = ManualClock(datetime.fromtimestamp(END_MS / 1000, UTC))
    objects = DirectoryObjectStore(folder)
    store = ObjectMetricStore(
        objects, PartFiles(objects, folder), shards=2, now=clock.now, first_ms=START_MS - DAY_MS
    )
    store.append(batch_of(list(all_series())), "everything")
    make_all(store)
    return store


@pytest.fixture(scope="module")
def answers() -> dict[str, Rows]:
    """What Prometheus said."""
    return frozen()


def test_rollups_of_the_store_give_the_answers_of_prometheus(
    store: ObjectMetricStore, answers: dict[str, Rows]
) -> None:
    """Every function and window, each by the level it should be answered from."""
    engine = PromqlEngine(store, semantics=RULES_OF_RECORDS)
    for level, ask in aligned_asks():
        ours, answer = answered(engine, ask)
        assert answer.exact
        first, *others = answer.uses
        assert first.level_text == level, ask
        # counters whose resets round are read again: to the bit while samples are kept
        assert not others or ask.query.startswith(COUNTED)
        compare_with_oracle(ours, answers[ask.key], ask, COUNTED)


def test_raw_parts_of_the_store_give_the_answers_of_prometheus(
    store: ObjectMetricStore, answers: dict[str, Rows]
) -> None:
    """What only raw samples answer, stale markers among them."""
    engine = PromqlEngine(store, semantics=PROMETHEUS_2)
    asks: list[Ask] = [*raw_asks(), *(ask for _, ask in list(aligned_asks())[::7])]
    for ask in asks:
        ours, answer = answered(engine, ask)
        assert answer.exact
        compare_with_oracle(ours, answers[ask.key], ask)


def test_the_last_hours_are_answered_from_what_is_there(store: ObjectMetricStore) -> None:
    """A range up to now stands on rollups as far as they go, and on raw samples behind."""
    answer = PromqlEngine(store).range(
        "increase(m[1h])", START_MS + 40 * HOUR_MS, END_MS + HOUR_MS, HOUR_MS
    )
    levels = [(use.level_text, use.end_ms) for use in answer.uses]
    assert levels[0][0] == "1h"
    assert levels[-1] == ("raw", END_MS + HOUR_MS)
    assert answer.exact
