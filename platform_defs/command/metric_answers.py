"""How answers to queries are written: tables, lines, JSON, and what they stand on. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from fleet.metrics.labels import Labels, labels_text
from fleet.promql.answer import Answer, AnswerKind, SelectorUse
from platform_defs.command.moments import utc_text
from platform_defs.command.output import cell_text, table
from platform_defs.command.plot import LINES_MAX, PlotLine, letter, plot

COLUMNS_SHOWN = 8
"""Series of a printed range; more are counted, or asked for with --limit."""
ROWS_SHOWN = 50
"""Elements of a printed instant query."""
FOUR_DIGITS = 1000.0
"""From here on four digits of a table are all before the point."""
WHOLE_MAX = 1e15
"""From here on doubles have digits that nobody measured; tables write powers of ten."""


def answer_table(answer: Answer, limit: int | None) -> str:
    """An instant answer: one element a line. A range: one step a line, one series a column."""
    if answer.kind is AnswerKind.STRING:
        return answer.text
    if len(answer.times_ms) == 1:
        return _instant_table(answer, limit or ROWS_SHOWN)
    return _range_table(answer, limit or COLUMNS_SHOWN)


def _instant_table(answer: Answer, limit: int) -> str:
    names = sorted({name for labels in answer.labels for name, _ in labels})
    shown = range(min(limit, len(answer.labels)))
    rows = [
        [*(dict(answer.labels[row]).get(name) for name in names), _figure(answer.values[row, 0])]
        for row in shown
    ]
    text = table([*names, "value"], rows)
    return text + _rest(len(answer.labels), limit, "elements")


def _range_table(answer: Answer, limit: int) -> str:
    shown = range(min(limit, len(answer.labels)))
    common, rests = _without_common([answer.labels[row] for row in shown])
    times = [moment(int(at)) for at in answer.times_ms]
    rows = [[at, *(_cell(answer, row, step) for row in shown)] for step, at in enumerate(times)]
    parts = [f"all: {common}"] if common else []
    parts.append(table(["time", *(letter(row) for row in shown)], rows))
    if len(answer.labels) > 1 or not common:
        parts += [f"{letter(row)}  {rests[row]}" for row in shown]
    return "\n".join(parts) + _rest(len(answer.labels), limit, "series")


def _cell(answer: Answer, row: int, step: int) -> Any:
    return _figure(answer.values[row, step]) if answer.present[row, step] else None


def _figure(value: float) -> int | float | str:
    """A value for a table, which keeps four digits of a fraction: all before the point stay."""
    found = number(value)
    if not isinstance(found, float) or abs(found) >= WHOLE_MAX:
        return found
    return round(found) if abs(found) >= FOUR_DIGITS or found.is_integer() else found


def number(value: float) -> float | str:
    """A value as JSON holds it; what is no finite number as PromQL writes it."""
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def _rest(count: int, limit: int, what: str) -> str:
    if count <= limit:
        return ""
    return f"\n... {count - limit} more {what} (--limit {count} shows all)"


def _without_common(rows: Sequence[Labels]) -> tuple[str, list[str]]:
    """The labels that all rows share, and the others of each."""
    common = set.intersection(*(set(labels) for labels in rows)) if rows else set()
    if len(rows) < 2:
        common = set()
    rests = [_safe(tuple(pair for pair in labels if pair not in common)) for labels in rows]
    return _safe(tuple(sorted(common))) if common else "", rests


def _safe(labels: Labels) -> str:
    """Labels without marks that would control a terminal."""
    return cell_text(labels_text(labels))


def answer_plot(answer: Answer, *, width: int, colours: bool) -> str:
    """The first lines of a range, drawn; how many there are more."""
    shown = range(min(LINES_MAX, len(answer.labels)))
    common, rests = _without_common([answer.labels[row] for row in shown])
    lines = [
        PlotLine(
            rests[row],
            [
                float(value) if there else None
                for value, there in zip(answer.values[row], answer.present[row], strict=True)
            ],
        )
        for row in shown
    ]
    drawn = plot([int(at) for at in answer.times_ms], lines, width=width, colours=colours)
    more = len(answer.labels) - len(shown)
    parts = [f"{answer.query}  {common}".rstrip(), drawn]
    if more:
        parts.append(f"... {more} more series; topk({LINES_MAX}, ...) chooses the largest")
    return "\n".join(parts)


def uses_text(answer: Answer) -> str:
    """Which level answered which selector, and whether exactly; '' for what reads nothing."""
    lines = []
    for selector, group in groupby(answer.uses, key=lambda use: use.selector):
        parts = list(dict.fromkeys(group))
        series = max(use.series for use in parts)
        said = "; ".join(_use_text(use, series, alone=len(parts) == 1) for use in parts)
        lines.append(f"{selector}: {series} series, answered by {said}")
    return "\n".join(dict.fromkeys(lines))


def _use_text(use: SelectorUse, series: int, *, alone: bool) -> str:
    level = "raw samples" if use.level is None else f"rollups of {use.level_text}"
    if use.series < series:
        level = f"(of {use.series}) {level}"
    until = "" if alone else f" until {moment(use.end_ms)}"
    return f"{level}{until}, {f'NOT exact: {use.reason}' if use.reason else 'exact'}"


def answer_json(answer: Answer) -> Mapping[str, Any]:
    """The whole answer, for `to_json`; values as in Prometheus' API, those not finite as text."""
    return {
        "query": answer.query,
        "kind": answer.kind.value,
        "exact": answer.exact,
        "warnings": list(answer.warnings),
        "selectors": [
            {
                "selector": use.selector,
                "level": use.level_text,
                "from": moment(use.start_ms),
                "to": moment(use.end_ms),
                "series": use.series,
                "exact": not use.reason,
                "reason": use.reason,
            }
            for use in answer.uses
        ],
        "result": answer.text if answer.kind is AnswerKind.STRING else _json_rows(answer),
    }


def _json_rows(answer: Answer) -> list[Mapping[str, Any]]:
    times = [moment(int(at)) for at in answer.times_ms]
    return [
        {
            "labels": dict(labels),
            "values": [
                [at, number(value)]
                for at, value, there in zip(times, values, present, strict=True)
                if there
            ],
        }
        for labels, values, present in zip(
            answer.labels, answer.values, answer.present, strict=True
        )
    ]


def moment(at_ms: int) -> str:
    """A time in UTC, with milliseconds where it has some; a number where no calendar holds it."""
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
    if at_ms % 1000 == 0:
        return utc_text(at)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
