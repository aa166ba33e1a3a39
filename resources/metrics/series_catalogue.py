"""Which series there are: millions of them in a few arrays, selected without building one of them.

Labels are kept as codes into two dictionaries, series ordered by identity, so a metric's series are
one range. A matcher is tried on each distinct value once. What came since the last big merge lies
in a second, small segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fleet.errors import InvalidInputError, TooLargeError
from fleet.metrics.labels import (
    METRIC_NAME,
    REST_BITS,
    Matcher,
    MatchKind,
    labels_of,
    labels_text,
    series_id,
)
from fleet.metrics.rolling_up import Intervals
from fleet.metrics.samples import MetricType, SeriesInfo, distinct
from fleet.ports.metric_store import SelectedSeries
from resources.metrics.series_parts import info_check, labels_check, merge_tables

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

    Int32Array = npt.NDArray[np.int32]

DELTA_SHARE = 8
"""The small segment is merged into the big one when it has an eighth of its rows."""
DELTA_ROWS = 20_000
"""Below this it is left alone whatever the other's size."""
SELECTED_MAX = 2_000_000
"""Series that one query may choose: what it computes of them takes some 100 bytes each."""
NAMED_MAX = 1_000_000
"""Series that one query may have named, with all of their labels: 1 KB each."""


class Segment:
    """Series of one merge, ordered by identity; unchangeable."""

    def __init__(self, table: pa.Table) -> None:
        """Take rows as `merge_tables` gives them."""
        self.table = table
        self.ids: Int64Array = _numbers(table, "series_id")
        self.labels_checks: Int64Array = _numbers(table, "labels_check")
        self.info_checks: Int64Array = _numbers(table, "info_check")
        names: Any = table.column("names").combine_chunks()
        self._offsets: Int64Array = names.offsets.to_numpy().astype(np.int64)
        self._names, self._name_texts = _encoded(names)
        self._values, self._value_texts = _encoded(table.column("values").combine_chunks())
        self._code_of = {text: code for code, text in enumerate(self._name_texts)}

    def __len__(self) -> int:
        """Number of series."""
        return len(self.ids)

    @cached_property
    def interval_ms(self) -> FloatArray:
        """Interval of each series, NaN where unknown."""
        column: Any = self.table.column("interval_ms").combine_chunks()
        found: FloatArray = column.cast("float64").fill_null(float("nan")).to_numpy()
        return found

    @cached_property
    def _owners(self) -> Int32Array:
        """Series of each label."""
        return np.repeat(np.arange(len(self.ids), dtype=np.int32), np.diff(self._offsets))

    def select(self, matchers: Sequence[Matcher]) -> Int64Array:
        """Positions of series that satisfy all matchers, ascending."""
        start, end = self._range(matchers)
        keep = np.ones(end - start, np.bool_)
        for matcher in matchers:
            keep &= self._matching(matcher, start, end)
        return start + np.flatnonzero(keep)

    def infos(self, positions: Int64Array) -> list[SeriesInfo]:
        """What is known of series."""
        import pyarrow as pa

        where: Any = pa.array(positions)
        rows = self.table.take(where).to_pydict()
        columns = zip(
            rows["names"], rows["values"], rows["type"], rows["unit"], rows["help"],
            rows["interval_ms"], rows["sketched"], strict=True,
        )  # fmt: skip
        return [
            SeriesInfo(
                tuple(zip(names, values, strict=True)),
                MetricType(kind),
                unit,
                text,
                interval_ms,
                sketched,
            )
            for names, values, kind, unit, text, interval_ms, sketched in columns
        ]

    def label_names(self, positions: Int64Array) -> list[str]:
        """Labels that series between the first and the last of some have."""
        if not len(positions):
            return []
        first = int(self._offsets[int(np.min(positions))])
        last = int(self._offsets[int(np.max(positions)) + 1])
        return [self._name_texts[code] for code in np.unique(self._names[first:last])]

    def label_codes(self, name: str, positions: Int64Array) -> tuple[Int64Array, list[str]]:
        """Values of one label of some series, as codes into texts; '' where there is none."""
        code = self._code_of.get(name)
        if code is None or not len(positions):
            return np.zeros(len(positions), np.int64), [""]
        start, end = int(np.min(positions)), int(np.max(positions)) + 1
        first, last = int(self._offsets[start]), int(self._offsets[end])
        at = np.flatnonzero(self._names[first:last] == code)
        distinct, inverse = np.unique(self._values[first:last][at], return_inverse=True)
        owners = np.searchsorted(self._offsets[start : end + 1] - first, at, side="right") - 1
        codes = np.zeros(end - start, np.int64)
        codes[owners] = inverse.reshape(-1) + 1
        return codes[positions - start], ["", *(self._value_texts[one] for one in distinct)]

    def find(self, ids: Int64Array) -> tuple[BoolArray, Int64Array]:
        """Which identities are here, and where (0 for those that are not)."""
        if not len(self.ids):
            return np.zeros(len(ids), np.bool_), np.zeros(len(ids), np.int64)
        at = np.searchsorted(self.ids, ids)
        at[at == len(self.ids)] = 0
        return self.ids[at] == ids, at

    def _range(self, matchers: Sequence[Matcher]) -> tuple[int, int]:
        """Where the series of the metric lie, when a matcher names one."""
        named = [
            one.value
            for one in matchers
            if one.name == METRIC_NAME and one.kind == MatchKind.EQUAL and one.value
        ]
        if not named:
            return 0, len(self.ids)
        try:
            prefix = series_id(labels_of(named[0])) >> REST_BITS
        except InvalidInputError:
            return 0, 0  # no series can have such a name
        first = prefix << REST_BITS
        start = np.searchsorted(self.ids, first, side="left")
        end = np.searchsorted(self.ids, first + (1 << REST_BITS) - 1, side="right")
        return int(start), int(end)

    def _matching(self, matcher: Matcher, start: int, end: int) -> BoolArray:
        """Which series of a range satisfy one matcher."""
        absent = matcher.matches("")
        keep = np.full(end - start, absent)
        code = self._code_of.get(matcher.name)
        if code is None or start == end:
            return keep
        first, last = int(self._offsets[start]), int(self._offsets[end])
        at = np.flatnonzero(self._names[first:last] == code)
        values = self._values[first:last][at]
        distinct = np.flatnonzero(np.bincount(values, minlength=len(self._value_texts)))
        verdicts = np.zeros(len(self._value_texts), np.bool_)
        verdicts[distinct] = [matcher.matches(self._value_texts[one]) for one in distinct.tolist()]
        keep[self._owners[first:last][at] - start] = verdicts[values]
        return keep


class SeriesCatalogue:
    """All series of a store, as of the parts that were added; safe to read from several threads."""

    def __init__(self) -> None:
        """No series."""
        self._segments: tuple[Segment, ...] = ()

    def __len__(self) -> int:
        """Number of series; one whose row changed since the last big merge counts twice."""
        return sum(len(one) for one in self._segments)

    def add(self, tables: Sequence[pa.Table]) -> None:
        """Take in the rows of further parts, in the order of commits."""
        if not tables:
            return
        if not self._segments:
            self._segments = (Segment(merge_tables(tables)),)
            return
        big, *small = self._segments
        delta = Segment(merge_tables([*(one.table for one in small), *tables]))
        if len(delta) > max(DELTA_ROWS, len(big) // DELTA_SHARE):
            self._segments = (Segment(merge_tables([big.table, delta.table])),)
        else:
            self._segments = (big, delta)

    def select(self, matchers: Sequence[Matcher], limit: int = SELECTED_MAX) -> SelectedSeries:
        """Series that satisfy all matchers, by identity; to name more than `NAMED_MAX` is refused.

        Raises:
            TooLargeError: more than `limit`.
            InvalidInputError: a regular expression does not parse.
        """
        found = [(one, one.select(matchers)) for one in self._segments]
        ids = distinct(np.concatenate([one.ids[at] for one, at in found] or [_NONE]))
        if len(ids) > limit:
            raise TooLargeError(
                f"the query chooses {len(ids)} series; the limit is {limit}",
                hint="Name a metric, or add matchers that leave fewer series.",
            )
        return SelectedSeries(ids, LazyInfos(self._segments, ids, NAMED_MAX))

    def infos(self, ids: Int64Array) -> Sequence[SeriesInfo]:
        """What is known of series, built when it is looked at; all must be in the catalogue."""
        return LazyInfos(self._segments, ids)

    def new_of(self, series: Mapping[int, SeriesInfo]) -> dict[int, SeriesInfo]:
        """Those of which something is new.

        Raises:
            InvalidInputError: an identity is taken by a series with other labels.
        """
        ids = np.fromiter(series, np.int64, len(series))
        fresh = dict(series)
        for segment in reversed(self._segments):
            known, at = segment.find(ids)
            for each in np.flatnonzero(known).tolist():
                one = int(ids[each])
                info = series[one]
                if segment.labels_checks[at[each]] != labels_check(info.labels):
                    self._refuse(one, info, segment, int(at[each]))
                if one in fresh and segment.info_checks[at[each]] == info_check(info):
                    del fresh[one]
            ids = ids[~known]
        return fresh

    def has(self, ids: Int64Array) -> BoolArray:
        """Which identities are known."""
        flags = np.zeros(len(ids), np.bool_)
        for segment in self._segments:
            flags |= segment.find(ids)[0]
        return flags

    def intervals(self, ids: Int64Array) -> Intervals:
        """Intervals of series, of those that are known.

        Args:
            ids: ascending.
        """
        interval_ms = np.full(len(ids), np.nan)
        for segment in self._segments:
            known, at = segment.find(ids)
            interval_ms[known] = segment.interval_ms[at[known]]
        return Intervals(ids, interval_ms)

    @staticmethod
    def _refuse(one: int, info: SeriesInfo, segment: Segment, at: int) -> None:
        other = segment.infos(np.array([at]))[0]
        raise InvalidInputError(
            "series",
            labels_text(info.labels),
            f"a series whose identity {one} is free; it belongs to {labels_text(other.labels)}",
            hint="Change one label of the new series; nothing of the batch was stored.",
        )


class LazyInfos(Sequence[SeriesInfo]):
    """What is known of many series; built once, when the first is looked at.

    Args:
        segments: of the catalogue.
        ids: the series; all are in it.
        limit: of more series only slices and columns of labels are given; None for no limit.
    """

    def __init__(
        self, segments: Sequence[Segment], ids: Int64Array, limit: int | None = None
    ) -> None:
        """Remember what is asked for."""
        self._segments = segments
        self._ids = ids
        self._limit = limit
        self._built: list[SeriesInfo] | None = None

    def __len__(self) -> int:
        """Number of series."""
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> SeriesInfo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SeriesInfo]: ...
    def __getitem__(self, index: int | slice) -> SeriesInfo | Sequence[SeriesInfo]:
        """One, or some; of some only those are built."""
        if isinstance(index, slice) and self._built is None:
            return list(LazyInfos(self._segments, self._ids[index]))
        return self._all()[index]

    def __iter__(self) -> Iterator[SeriesInfo]:
        """All, in order."""
        return iter(self._all())

    def label_names(self) -> Sequence[str]:
        """See `fleet.ports.metric_store.CodedLabels`."""
        found: set[str] = set()
        for segment in self._segments:
            known, at = segment.find(self._ids)
            found.update(segment.label_names(at[known]))
        return sorted(found)

    def label_column(self, name: str) -> tuple[Int64Array, Sequence[str]]:
        """See `fleet.ports.metric_store.CodedLabels`; no series is built."""
        texts = {"": 0}
        codes = np.zeros(len(self._ids), np.int64)
        for segment in self._segments:
            known, at = segment.find(self._ids)
            found, values = segment.label_codes(name, at[known])
            moved = [texts.setdefault(value, len(texts)) for value in values]
            codes[known] = np.array(moved, np.int64)[found]
        return codes, tuple(texts)

    def _all(self) -> list[SeriesInfo]:
        if self._limit is not None and len(self._ids) > self._limit:
            raise TooLargeError(
                f"{len(self._ids)} series are to be named one by one; the limit is {self._limit}",
                hint="Add matchers that leave fewer series, or aggregate: `sum by` names none.",
            )
        if self._built is None:
            found: dict[int, SeriesInfo] = {}
            for segment in self._segments:
                known, at = segment.find(self._ids)
                ids = self._ids[known].tolist()
                found.update(zip(ids, segment.infos(at[known]), strict=True))
            self._built = [found.get(one) or _unknown(one) for one in self._ids.tolist()]
        return self._built


def _unknown(one: int) -> SeriesInfo:
    raise InvalidInputError("series_id", one, "a series of the catalogue")


def _numbers(table: pa.Table, name: str) -> Any:
    return table.column(name).combine_chunks().to_numpy()


def _encoded(lists: Any) -> tuple[Int32Array, list[str]]:
    """Codes of all items of lists, and the texts that they stand for."""
    coded = lists.values.dictionary_encode()
    return coded.indices.to_numpy().astype(np.int32), coded.dictionary.to_pylist()


_NONE = np.empty(0, np.int64)
