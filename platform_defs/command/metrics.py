"""`stateroom metrics`: ask the fleet's numbers in PromQL, list series, see how rollups stand."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fleet.errors import NotFoundError
from fleet.metrics.labels import labels_text
from platform_defs.command.metric_access import existing_metric_store
from platform_defs.command.metric_import import import_
from platform_defs.command.output import colours_wanted, table, to_json
from platform_defs.settings import load_settings

if TYPE_CHECKING:
    from fleet.ports.metric_store import MetricReader, SelectedSeries
    from fleet.promql.answer import Answer
    from platform_defs.command.metric_times import QueryTimes

SERIES_SHOWN = 50

_json = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group()
def metrics() -> None:
    """Ask the fleet's numbers, as they are measured and as they were.

    \b
    Examples:
      stateroom metrics query 'sum by (region) (rate(agent_tasks_total[5m]))'
      stateroom metrics query 'up' --from "6 hours ago" --plot
      stateroom metrics series 'agent_tasks_total{region="us-west-2"}'
      stateroom metrics status
    """  # noqa: D301


@metrics.command()
@click.argument("query")
@click.option("--at", metavar="TIME", help="Moment of an instant query; default now.")
@click.option("--from", "from_", metavar="TIME", help="Begin of a range.")
@click.option("--to", metavar="TIME", help="End of a range; default now.")
@click.option(
    "--step", metavar="LENGTH", help="Between two steps, such as 5m; default a round one."
)
@click.option(
    "--no-align", is_flag=True, help="Take --from as it is, where rollups may not answer."
)
@click.option("--plot", is_flag=True, help="Draw lines in the terminal.")
@click.option("--limit", type=click.IntRange(1), help="Elements or series of a printed table.")
@_json
def query(
    query: str,
    at: str | None,
    from_: str | None,
    to: str | None,
    step: str | None,
    no_align: bool,
    plot: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Answer one PromQL expression, and say which level answered and whether it is exact.

    \b
    Examples:
      stateroom metrics query 'rate(agent_tasks_total{region="us-west-2"}[1h])'
      stateroom metrics query 'topk(5, agent_memory_usage_bytes)' --at 2026-11-20T14:00:00Z
      stateroom metrics query 'sum(rate(agent_tasks_total[5m]))' --from "1 day ago" --plot
      stateroom metrics query 'max_over_time(up[1d])' --from "30 days ago" --step 1d --json
    """  # noqa: D301
    if plot and as_json:
        raise click.UsageError("--plot and --json exclude each other")
    from fleet.promql.parsing import parse
    from platform_defs.command.metric_times import query_times

    now = datetime.now(UTC)
    times = query_times(now, at, from_, to, step, aligned=not no_align, plotted=plot)
    parse(query)
    reader = existing_metric_store(load_settings())
    answer = _asked(reader, query, times)
    _say(answer, reader, times, plot=plot, limit=limit, as_json=as_json)


def _asked(reader: MetricReader, query: str, times: QueryTimes) -> Answer:
    from fleet.promql.engine import PromqlEngine

    engine = PromqlEngine(reader)
    if times.is_range:
        return engine.range(query, times.start_ms, times.end_ms, times.step_ms)
    return engine.answer(query, times.start_ms)


def _say(
    answer: Answer,
    reader: MetricReader,
    times: QueryTimes,
    *,
    plot: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    from fleet.promql.answer import AnswerKind
    from platform_defs.command.metric_answers import (
        answer_json,
        answer_plot,
        answer_table,
        uses_text,
    )

    if as_json:
        click.echo(to_json(answer_json(answer)))
        return
    if answer.kind is AnswerKind.VECTOR and not answer.labels:
        _say_why_nothing(answer, reader, times)
    elif plot:
        width = shutil.get_terminal_size((100, 24)).columns
        click.echo(answer_plot(answer, width=width, colours=colours_wanted()))
    else:
        click.echo(answer_table(answer, limit))
    said = uses_text(answer)
    if said:
        click.echo(said)


def _say_why_nothing(answer: Answer, reader: MetricReader, times: QueryTimes) -> None:
    """An empty answer is an answer; what was asked for and is not there is an error.

    Raises:
        NotFoundError: a selector finds nothing; the message says what there is instead.
    """
    from fleet.promql.nothing import explain_nothing

    starts = [use.start_ms for use in answer.uses] or [times.start_ms]
    ends = [use.end_ms for use in answer.uses] or [times.end_ms]
    reasons = explain_nothing(reader, answer.query, min(starts), max(ends))
    if reasons:
        raise NotFoundError(
            "; ".join(reasons), hint="`stateroom metrics series` lists the series there are."
        )
    click.echo("no element: every selector has samples, and the expression leaves none")


@metrics.command()
@click.argument("matcher", default='{__name__=~".+"}')
@click.option(
    "--limit", type=click.IntRange(1), help=f"Show at most so many; default {SERIES_SHOWN}."
)
@_json
def series(matcher: str, limit: int | None, as_json: bool) -> None:
    """List series that a selector chooses; without one, every metric with its number of series.

    \b
    Examples:
      stateroom metrics series
      stateroom metrics series 'agent_tasks_total{region=~"us-.*"}'
      stateroom metrics series '{agent="us-west-2-cpu-1"}' --json
    """  # noqa: D301
    from fleet.promql.parsing import parse_selector

    matchers = parse_selector(matcher)
    reader = existing_metric_store(load_settings())
    found = reader.select(matchers, 0, round(datetime.now(UTC).timestamp() * 1000))
    if not len(found.ids):
        raise NotFoundError(
            f"no series of {matcher}", hint="`stateroom metrics series` lists the metrics."
        )
    if as_json:
        click.echo(to_json([_series_json(found, row) for row in range(len(found.ids))[:limit]]))
    elif matcher == '{__name__=~".+"}':
        click.echo(_metric_table(found))
    else:
        click.echo(_series_table(found, limit or SERIES_SHOWN))


def _series_json(found: SelectedSeries, row: int) -> dict[str, object]:
    info = found.infos[row]
    return {"id": int(found.ids[row]), **info._asdict(), "labels": dict(info.labels)}


def _series_table(found: SelectedSeries, limit: int) -> str:
    rows = [
        (labels_text(info.labels), info.type.value, info.unit or None, info.help or None)
        for info in found.infos[:limit]
    ]
    text = table(("series", "type", "unit", "help"), rows)
    more = len(found.ids) - limit
    return f"{text}\n... {more} more (--limit {len(found.ids)} shows all)" if more > 0 else text


def _metric_table(found: SelectedSeries) -> str:
    from collections import Counter

    from fleet.metrics.labels import metric_of

    counts = Counter(metric_of(info.labels) for info in found.infos)
    infos = {metric_of(info.labels): info for info in found.infos}
    rows = [
        (name, counts[name], infos[name].type.value, infos[name].unit or None, infos[name].help)
        for name in sorted(counts)
    ]
    return table(("metric", "series", "type", "unit", "help"), rows)


@metrics.command()
@_json
def status(as_json: bool) -> None:
    """Tell how far each level of rollups is built, and what waits to be made.

    \b
    Examples:
      stateroom metrics status
      stateroom metrics status --json
    """  # noqa: D301
    from platform_defs.command.metric_status import read_status, status_json, status_text

    found = read_status(existing_metric_store(load_settings()))
    click.echo(to_json(status_json(found)) if as_json else status_text(found))


metrics.add_command(import_)
