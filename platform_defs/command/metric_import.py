"""`stateroom metrics import`: samples of a Prometheus server or of CSV files into the store.

Each piece is committed by itself under a name that its content or place gives it: an import that
broke off is run again, and stores nothing twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fleet.errors import StateroomError
from platform_defs.command import exit_codes
from platform_defs.command.metric_access import opened_metric_store
from platform_defs.command.metric_answers import moment
from platform_defs.command.moments import parse_moment
from platform_defs.settings import load_settings

if TYPE_CHECKING:
    from fleet.metrics.samples import SampleBatch
    from fleet.ports.metric_source import MetricSource
    from fleet.ports.metric_store import MetricStore

PROBLEMS_SHOWN = 10
EVER = "1970-01-01T00:00:00Z"
"""Before every sample: files are taken whole."""

_from = click.option("--from", "from_", metavar="TIME", help="Begin; default 1 day ago.")
_to = click.option("--to", metavar="TIME", help="End; default now.")
_resume = click.option("--resume", default="", help="Go on where an import broke off.")


@click.group(name="import")
def import_() -> None:
    """Bring samples from elsewhere into the metric store; run twice, they are stored once.

    \b
    Examples:
      stateroom metrics import prometheus http://127.0.0.1:9090 --from "7 days ago"
      stateroom metrics import csv ./export/layout.toml
    """  # noqa: D301


@import_.command()
@click.argument("url")
@click.option("--series", "selector", help="Only these, as a selector: 'up{job=\"node\"}'.")
@_from
@_to
@_resume
def prometheus(
    url: str, selector: str | None, from_: str | None, to: str | None, resume: str
) -> None:
    """Read raw samples of a server that speaks Prometheus' API.

    \b
    Examples:
      stateroom metrics import prometheus http://127.0.0.1:9090 --from "7 days ago"
      stateroom metrics import prometheus http://127.0.0.1:9090 --series 'up{job="node"}'
    """  # noqa: D301
    from fleet.promql.parsing import parse_selector
    from resources.metrics.prometheus_api import PrometheusApi
    from resources.metrics.prometheus_asking import EVERYTHING
    from resources.metrics.prometheus_server import PrometheusSource

    matchers = EVERYTHING if selector is None else parse_selector(selector)
    _run(PrometheusSource(PrometheusApi(url), matchers), from_ or "1 day ago", to, resume)


@import_.command()
@click.argument("layout", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_from
@_to
@_resume
def csv(layout: Path, from_: str | None, to: str | None, resume: str) -> None:
    """Read the CSV files beside a LAYOUT; every row is checked before the first is stored.

    \b
    Examples:
      stateroom metrics import csv ./export/layout.toml
    """  # noqa: D301
    from resources.metrics.csv_import import csv_source

    _run(csv_source(layout), from_ or EVER, to, resume)


@import_.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_from
@_to
@_resume
def gentd26(folder: Path, from_: str | None, to: str | None, resume: str) -> None:
    """Read the files of alibaba/clusterdata, cluster-trace-v2026-GenAI, as they are published.

    \b
    Examples:
      stateroom metrics import gentd26 ./cluster-trace-v2026-GenAI
    """  # noqa: D301
    from resources.metrics.csv_import import gentd26_source

    _run(gentd26_source(folder), from_ or EVER, to, resume)


def _run(source: MetricSource, from_: str, to: str | None, resume: str) -> None:
    now = datetime.now(UTC)
    start, end = parse_moment("--from", from_, now), now
    if to is not None:
        end = parse_moment("--to", to, now)
    settings = load_settings()
    store = opened_metric_store(settings)
    start_ms, end_ms = (round(at.timestamp() * 1000) for at in (start, end))
    found = import_pieces(source, store, start_ms, end_ms, resume)
    kept = "" if found.stored == found.numbers else f"; {found.stored} are stored"
    of = "of" if found.samples else "nothing from"
    first_ms, last_ms = (found.first_ms, found.last_ms) if found.samples else (start_ms, end_ms)
    click.echo(
        f"{found.samples} samples in {found.pieces} pieces, {of} {moment(first_ms)} to "
        f"{moment(last_ms)}{kept}"
    )
    if found.numbers and not found.stored:
        click.echo(
            f"All of them lie before metrics.first_day ({settings.metrics.first_day}), or before "
            "what retention has kept. Set metrics.first_day to their first day, and "
            "metrics.keep_raw_days high enough, before they are imported.",
            err=True,
        )
        raise SystemExit(exit_codes.FINDING)


class Imported(NamedTuple):
    """What an import has done."""

    samples: int
    """Read, native histograms among them."""
    numbers: int
    """Of these, those that are no histograms."""
    stored: int
    """Of the numbers, now or by an earlier import; what is said twice is stored once."""
    pieces: int
    first_ms: int
    """Time of the earliest sample; 0 without any."""
    last_ms: int


def import_pieces(
    source: MetricSource, store: MetricStore, start_ms: int, end_ms: int, resume: str = ""
) -> Imported:
    """Store all pieces of a source, one commit each.

    Raises:
        StateroomError: what the source or the store raises; standard error says how to go on.
    """
    samples = numbers = stored = pieces = problems = 0
    times: list[int] = []
    try:
        for piece in source.read(start_ms, end_ms, resume):
            if len(piece.batch):
                commit = store.append(piece.batch, piece.batch_id)
                numbers += len(piece.batch.ts_ms)
                stored += sum(part.rows for part in commit.parts)
            resume = piece.resume
            samples, pieces = samples + len(piece.batch), pieces + 1
            times = _first_and_last(piece.batch, times)
            for problem in piece.problems:
                problems += 1
                if problems <= PROBLEMS_SHOWN:
                    click.echo(problem, err=True)
    except StateroomError:
        if pieces:
            click.echo(f"{stored} samples are stored; go on with --resume '{resume}'", err=True)
        raise
    if problems > PROBLEMS_SHOWN:
        click.echo(f"... and {problems - PROBLEMS_SHOWN} more problems", err=True)
    return Imported(samples, numbers, stored, pieces, *(times or (0, 0)))


def _first_and_last(batch: SampleBatch, known: list[int]) -> list[int]:
    """The earliest and the latest time of a batch and of what was known before; none of nothing."""
    columns = [batch.ts_ms] + ([] if batch.histograms is None else [batch.histograms.ts_ms])
    found = [int(edge) for one in columns if len(one) for edge in (one.min(), one.max())]
    return [min(known + found), max(known + found)] if known or found else []
