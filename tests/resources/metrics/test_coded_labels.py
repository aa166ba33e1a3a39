"""Columns of labels that the catalogue gives are the labels of the series, also across segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import TooLargeError
from fleet.metrics.labels import METRIC_NAME, Matcher, MatchKind, labels_of, series_id
from fleet.metrics.samples import SampleBatch, SeriesInfo
from fleet.ports.metric_store import CodedLabels
from fleet.promql.engine import PromqlEngine
from fleet.promql.nothing import explain_nothing
from resources.metrics import series_catalogue
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


def test_more_series_than_may_be_named_are_still_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and quantiles over nodes name none of them; who lists them all is told the limit."""
    monkeypatch.setattr(series_catalogue, "NAMED_MAX", 3)
    store = metric_store()
    store.append(batch_of("m", [{"node": str(n), "le": str(n % 2)} for n in range(4)]), "one")
    engine = PromqlEngine(store)
    answer = engine.instant("sum by (le) (m)", TEN_MS + 2000)
    assert dict(zip(answer.labels, answer.values.tolist(), strict=True)) == {
        (("le", "0"),): 4.0,
        (("le", "1"),): 6.0,
    }
    best = engine.instant("max without (node) (m)", TEN_MS + 2000).values
    assert sorted(best.tolist()) == [3.0, 4.0]
    assert engine.instant("topk(1, m)", TEN_MS + 2000).values.tolist() == [4.0]
    infos = store.select(EVERY, 0, TEN_MS * 2).infos
    assert [len(infos), len(infos[:3])] == [4, 3]
    with pytest.raises(TooLargeError, match=r"4 series .* one by one; the limit is 3"):
        list(infos)
    (sentence,) = explain_nothing(store, 'm{le="2"}', TEN_MS, TEN_MS + 2000)
    assert "none has le='2'" in sentence
