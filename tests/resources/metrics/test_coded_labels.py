"""Columns of labels that the catalogue gives are the labels of the series, also across segments."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind, labels_of, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.ports.metric_store import CodedLabels
from fleet.promql.engine import PromqlEngine
from tests.fakes.metric_reader import InMemoryMetricReader
from tests.resources.metrics.metric_stores import TEN_MS, metric_store

label_sets = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "z"])),
    min_size=1,
    max_size=8,
    unique_by=lambda one: tuple(sorted(one.items())),
)
EVERY = (Matcher(METRIC_NAME, MatchKind.REGEX, ".+"),)


def batch_of(metric: str, labels: list[dict[str, str]]) -> SampleBatch:
    """One sample of each series."""
    infos = [SeriesInfo(labels_of(metric, one)) for one in labels]
    ids = np.array([series_id(info.labels) for info in infos], np.int64)
    times = np.full(len(ids), TEN_MS + 1000, np.int64)
    series = dict(zip(ids.tolist(), infos, strict=True))
    return SampleBatch(ids, times, np.arange(len(ids)) + 1.0, series)


@given(batches=st.lists(st.tuples(st.sampled_from(["m", "n"]), label_sets), min_size=1, max_size=4))
def test_columns_are_the_labels_and_answers_those_of_the_twin(
    batches: list[tuple[str, list[dict[str, str]]]],
) -> None:
    """Every column of every selection; a grouped answer equals that of the store of lists."""
    store, twin = metric_store(), InMemoryMetricReader()
    for number, (metric, labels) in enumerate(batches):
        batch = batch_of(metric, labels)
        store.append(batch, str(number))
        for identity, ts, value in zip(batch.series_ids, batch.ts_ms, batch.values, strict=True):
            kept = batch.series[int(identity)].labels
            twin.points.pop(int(identity), None)
            twin.add(kept, [(int(ts), float(value))])
    found = store.select(EVERY, 0, TEN_MS * 2)
    assert isinstance(found.infos, CodedLabels)
    rows = [dict(info.labels) for info in found.infos]
    assert set(found.infos.label_names()) >= {name for row in rows for name in row}
    for name in (METRIC_NAME, "a", "b", "c", "nope"):
        codes, texts = found.infos.label_column(name)
        assert [texts[code] for code in codes] == [row.get(name, "") for row in rows]
    for query in ("m", "sum by (a) (m)", 'count without (b, c) ({__name__=~".+"})', "topk(2, n)"):
        ours = PromqlEngine(store).instant(query, TEN_MS + 2000)
        theirs = PromqlEngine(twin).instant(query, TEN_MS + 2000)
        assert dict(zip(ours.labels, ours.values.tolist(), strict=True)) == dict(
            zip(theirs.labels, theirs.values.tolist(), strict=True)
        )
