"""Parses what one target exposes, scrape after scrape; what stays the same is not parsed again.

A target says nearly the same lines each time, only with other values. So the parser remembers the
text of each series with its identity, and of a whole body the texts in order: when they are all as
before, nothing but the numbers is read. A body is taken whole or refused whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress, repeat
from typing import TYPE_CHECKING, NamedTuple

from fleet.errors import InvalidInputError
from fleet.metrics.exposition.created import CreatedGroups
from fleet.metrics.exposition.exposed import NO_TIMESTAMP, Exposition, first_of_each
from fleet.metrics.exposition.families import COUNTING, Family, family_of, parse_families
from fleet.metrics.exposition.lines import (
    LINE_MAX_BYTES,
    Pairs,
    check_exemplar,
    parse_line,
    parse_series,
    wrong_line,
)
from fleet.metrics.exposition.numbers import (
    ExpositionFormat,
    has_odd,
    is_number,
    is_odd_non_number,
    normalize_nan,
    parse_number,
    parse_numbers,
    parse_timestamp_ms,
)
from fleet.metrics.labels import Labels, labels_of, metric_of, series_id
from fleet.metrics.samples import SeriesInfo

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

CACHE_SLACK = 1000
"""Spellings may be remembered that are twice the lines of the last body and these more."""

_UNKNOWN = -(2**63)
_COMMENT = -1
"""Slots of lines beside identities of series: not known, no sample; smaller ones are groups of
series that began together."""

LabelChange = Callable[[str, Pairs], Labels]
"""Makes a series' labels of the metric's name and the others in the line."""


class _Careful(NamedTuple):
    """What a line says that is more than a series and a plain number."""

    slot: int
    value: float
    ts_ms: int | None = None
    exemplar: bool = False


class _Body(NamedTuple):
    """A body taken apart at the last space of each line."""

    lines: list[bytes]
    heads: list[bytes]
    tails: list[bytes]
    slots: list[int]
    careful: dict[int, _Careful]
    """By index of the line."""


class _Template(NamedTuple):
    """A body without its numbers, and what it gave."""

    heads: list[bytes]
    is_sample: list[bool]
    is_other: list[bool]
    others: tuple[bytes, ...]
    """Tails of all lines that are no samples: metadata and `_created`."""
    kept: BoolArray | None
    """Which samples are not repeated; None: none is."""
    exposition: Exposition


def plain_labels(name: str, pairs: Pairs) -> Labels:
    """The labels as the line says them."""
    return labels_of(name, pairs)


class ExpositionParser:
    """The parser of one target; keep it, and each body costs a fraction of the first.

    Args:
        form: the format. A target that changes it gets another parser.
        change: what makes a series' labels of those in the line; it may add those of the target.
        interval_ms: between two bodies, for `SeriesInfo`; None where it is not known.
    """

    def __init__(
        self,
        form: ExpositionFormat,
        change: LabelChange = plain_labels,
        interval_ms: int | None = None,
    ) -> None:
        """Know nothing yet."""
        self.form = form
        self._interval_ms = interval_ms
        self._change = change
        self._slots: dict[bytes, int] = {}
        self._series: dict[int, SeriesInfo] = {}
        self._comments: list[bytes] = []
        self._families: dict[str, Family] = {}
        self._created = CreatedGroups(_COMMENT - 1)
        self._tells_created = False
        self._template: _Template | None = None

    def parse(self, body: bytes) -> Exposition:
        """Read a body.

        Raises:
            InvalidInputError: it breaks the format; the field is the line.
        """
        lines, heads, tails = _split(body)
        found = self._as_before(heads, tails)
        if found is not None:
            return found
        self._template = None
        if self.form is ExpositionFormat.OPENMETRICS:
            check_end(lines)
            if not self._tells_created and b"_created" in body:
                self._tells_created = True
                self._change_families(self._families)
        self._read_comments(lines)
        return self._put_together(self._take_apart(lines, heads, tails))

    def parse_as_before(self, body: bytes) -> Exposition | None:
        """Read a body that is as the last one but for its numbers, in a fraction of the time.

        Returns:
            None for any other body; `parse` reads that.
        """
        if self._template is None:
            return None
        _, heads, tails = _split(body)
        return self._as_before(heads, tails)

    def _as_before(self, heads: list[bytes], tails: list[bytes]) -> Exposition | None:
        template = self._template
        if template is None or heads != template.heads:
            return None
        return _numbers_as_before(template, tails)

    def _read_comments(self, lines: list[bytes]) -> None:
        """Learn the families; series whose family changed are forgotten, to be read again."""
        numbered = [(number, line) for number, line in enumerate(lines, 1) if _is_comment(line)]
        if self.form is ExpositionFormat.OPENMETRICS:
            numbered.pop()
        comments = [line for _, line in numbered]
        if comments == self._comments:
            return
        families = parse_families(numbered, self.form)
        if families != self._families:
            self._change_families(families)
        self._comments = comments

    def _change_families(self, families: dict[str, Family]) -> None:
        before, self._families = self._families, families
        names = {metric_of(info.labels) for info in self._series.values()}
        changed = {name for name in names if family_of(name, before) != family_of(name, families)}
        if self.form is ExpositionFormat.OPENMETRICS:
            changed = names
        self._series = {
            one: info for one, info in self._series.items() if metric_of(info.labels) not in changed
        }
        self._slots = {head: slot for head, slot in self._slots.items() if slot in self._series}
        self._created = CreatedGroups(_COMMENT - 1)

    def _take_apart(self, lines: list[bytes], heads: list[bytes], tails: list[bytes]) -> _Body:
        """Find the series of each line; what is new or odd is read with care."""
        slots = list(map(self._slots.get, heads, repeat(_UNKNOWN)))
        wanted = [index for index, slot in enumerate(slots) if slot == _UNKNOWN]
        if len(wanted) < len(slots):
            known = [slot != _UNKNOWN for slot in slots]
            if has_odd(compress(tails, known)):
                known_at = compress(range(len(tails)), known)
                wanted += [index for index in known_at if is_odd_non_number(tails[index])]
        careful: dict[int, _Careful] = {}
        for index in wanted:
            line = lines[index]
            if len(line) > LINE_MAX_BYTES:
                raise wrong_line(index + 1, line, f"a line of at most {LINE_MAX_BYTES} bytes")
            if _is_comment(line) or (not line.strip(b" \t") and self._skips_blank):
                slots[index] = _COMMENT
                continue
            try:
                slot = self._usual_slot(heads[index], tails[index])
                if slot is None:
                    careful[index] = self._read_line(line, index + 1)
                    slot = careful[index].slot
            except InvalidInputError as error:
                raise _in_line(index + 1, line, error) from error
            slots[index] = slot
        return _Body(lines, heads, tails, slots, careful)

    @property
    def _skips_blank(self) -> bool:
        return self.form is ExpositionFormat.TEXT

    def _usual_slot(self, head: bytes, tail: bytes) -> int | None:
        """The slot of a new series that is spelt the usual way; None where care is needed."""
        if head in self._slots or not is_number(tail):
            return None
        try:
            found = parse_series(head)
        except UnicodeDecodeError:
            return None
        if found is None:
            return None
        slot = self._slots[head] = self._slot_of(*found)
        return slot

    def _read_line(self, line: bytes, number: int) -> _Careful:
        quick = self._timed(line, number)
        if quick is not None:
            return quick
        found = parse_line(line, number, self.form)
        slot = self._slots.get(found.series)
        if slot is None:
            slot = self._slots[found.series] = self._slot_of(found.name, found.pairs)
        return _Careful(slot, found.value, found.ts_ms, found.exemplar)

    def _timed(self, line: bytes, number: int) -> _Careful | None:
        """A known series with a time or an exemplar behind its value; None: read it whole."""
        at = line.find(b" # {") if self.form is ExpositionFormat.OPENMETRICS else -1
        head, _, tail = (line if at < 0 else line[:at]).rpartition(b" ")
        slot, ts_ms, value = self._slots.get(head), None, tail
        try:
            if slot is None:
                head, _, value = head.rpartition(b" ")
                slot = self._slots.get(head)
                if slot is None:
                    return None
                ts_ms = parse_timestamp_ms(tail, self.form)
            read = parse_number(value)
        except ValueError:
            return None
        if at >= 0:
            check_exemplar(line[at:], number)
        return _Careful(slot, read, ts_ms, at >= 0)

    def _slot_of(self, name: str, pairs: Pairs) -> int:
        """The identity of a series, or the group that a `_created` series speaks of."""
        family_name, family = family_of(name, self._families) or ("", Family())
        counts = self._tells_created and family.word in COUNTING
        if counts and name == f"{family_name}_created":
            return self._created.group(family_name, pairs)
        labels = self._change(name, pairs)
        identity = series_id(labels)
        info = SeriesInfo(labels, family.type, family.unit, family.help, self._interval_ms)
        if self._series.setdefault(identity, info).labels != labels:
            raise InvalidInputError("series", name, "an identity that no other series has")
        if counts and not (family.word == "summary" and name == family_name):
            self._created.join(family_name, pairs, identity)
        return identity

    def _put_together(self, body: _Body) -> Exposition:
        import numpy as np

        slots = np.array(body.slots, np.int64)
        is_sample = slots >= 0
        ids: Int64Array = slots[is_sample]
        values, ts_ms = _numbers(body, np.flatnonzero(is_sample).tolist())
        kept = first_of_each(ids, ts_ms)
        groups: list[int] = np.flatnonzero(slots < _COMMENT).tolist()
        created = [(body.slots[index], _created_ms(body, index)) for index in groups]
        created_ids, created_ms = self._created.columns(created, set(body.slots))
        found = Exposition(
            series_ids=ids if kept is None else ids[kept],
            values=values if kept is None else values[kept],
            ts_ms=ts_ms if kept is None or ts_ms is None else ts_ms[kept],
            series=self._series,
            created_ids=created_ids,
            created_ms=created_ms,
            lines=len(ids),
            exemplars=sum(one.exemplar for one in body.careful.values()),
        )
        if all(body.heads[index] in self._slots for index in body.careful):
            is_other = (~is_sample).tolist()
            others = tuple(compress(body.tails, is_other))
            bare = replace(found, ts_ms=None, exemplars=0)
            self._template = _Template(body.heads, is_sample.tolist(), is_other, others, kept, bare)
        self._forget(body)
        return found

    def _forget(self, body: _Body) -> None:
        """Drop what was remembered of series that are no longer exposed, when it is much."""
        if len(self._slots) <= 2 * len(body.heads) + CACHE_SLACK:
            return
        there = set(body.slots)
        self._slots = {head: slot for head, slot in self._slots.items() if slot in there}
        self._series = {one: info for one, info in self._series.items() if one in there}
        self._created.forget_except(there)


def check_end(lines: Sequence[bytes]) -> None:
    """Refuse OpenMetrics whose end is missing or not the end.

    Raises:
        InvalidInputError: names the line.
    """
    if b"# EOF" not in lines:
        last = lines[-1] if lines else b""
        raise wrong_line(max(1, len(lines)), last, "'# EOF' as the last line; the rest is missing")
    behind = lines.index(b"# EOF") + 1
    if behind < len(lines):
        raise wrong_line(behind + 1, lines[behind], "nothing behind '# EOF'")


def _split(body: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Lines, what of each stands before its last space, and what behind it."""
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    parts = [line.rpartition(b" ") for line in lines]
    return lines, [part[0] for part in parts], [part[2] for part in parts]


def _numbers_as_before(template: _Template, tails: list[bytes]) -> Exposition | None:
    """The numbers of a body that is as the last one; None where a line needs care."""
    if tuple(compress(tails, template.is_other)) != template.others:
        return None
    values = parse_numbers(list(compress(tails, template.is_sample)))
    if values is None:
        return None
    kept = template.kept
    return replace(template.exposition, values=values if kept is None else values[kept])


def _numbers(body: _Body, indexes: list[int]) -> tuple[FloatArray, Int64Array | None]:
    """Values and times of the samples; `indexes` says in which lines they stand."""
    import numpy as np

    careful = body.careful
    texts = [b"0" if index in careful else body.tails[index] for index in indexes]
    values = parse_numbers(texts)
    if values is None:
        bad = next(i for i, text in zip(indexes, texts, strict=True) if not is_number(text))
        raise wrong_line(bad + 1, body.lines[bad], "a number, +Inf, -Inf or NaN as value")
    if not careful:
        return values, None
    ts_ms = np.full(len(values), NO_TIMESTAMP, np.int64)
    timed = False
    for place, index in enumerate(indexes):
        one = careful.get(index)
        if one is not None:
            values[place] = one.value
            if one.ts_ms is not None:
                ts_ms[place], timed = one.ts_ms, True
    normalize_nan(values)
    return values, ts_ms if timed else None


def _created_ms(body: _Body, index: int) -> int:
    """When a group began; the line's value is seconds since 1970."""
    careful, allowed = body.careful.get(index), "seconds since 1970 at which counting began"
    try:
        seconds = parse_number(body.tails[index]) if careful is None else careful.value
    except ValueError as error:
        raise wrong_line(index + 1, body.lines[index], allowed) from error
    if not -(2.0**40) < seconds < 2.0**40:
        raise wrong_line(index + 1, body.lines[index], allowed)
    return int(seconds * 1000)


def _in_line(number: int, line: bytes, error: InvalidInputError) -> InvalidInputError:
    """An error of the line; rules of labels do not know in which line they were broken."""
    if error.field == f"line {number}":
        return error
    return wrong_line(number, line, f"{error.field} within the rules; {error}")


def _is_comment(line: bytes) -> bool:
    return line.startswith(b"#") or line.lstrip(b" \t").startswith(b"#")
