"""`stateroom scaling simulate`: recorded load through the scaler, before anybody relies on it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click

from fleet.errors import InvalidInputError, NotFoundError
from fleet.rescaling.context import ScalingContext
from fleet.rescaling.load_trace import LoadTrace
from fleet.rescaling.policy import WorkloadScaling
from fleet.rescaling.replay import (
    Replayed,
    ServiceModel,
    peak_replicas,
    replay,
    replay_static,
    smallest_static,
)
from fleet.rescaling.spec import ControllerOptions, TargetType
from platform_defs.command.operator_input import json_option, unknown
from platform_defs.command.output import colours_wanted, table, to_json
from platform_defs.command.plot import LINES_MAX, PlotLine, plot

SHOWN = (
    "fleet", "replica h", "cost", "% of peak fleet", "min", "max", "short s", "late s", "late %",
    "longest wait s", "changes", "flaps",
)  # fmt: skip
POINTS_MAX = 1000
"""Of a plot: more than a terminal has dots."""
RATE, LENGTH = "rate", "length"
_PATH = click.Path(path_type=Path, dir_okay=False)


class _Wish(NamedTuple):
    """What is to be replayed, and what it is called."""

    name: str
    scaling: WorkloadScaling


class _Fleets(NamedTuple):
    """What was replayed."""

    static: list[Replayed]
    """That for the peak first."""
    scaled: list[Replayed]


@click.command()
@click.option(
    "--spec",
    "specs",
    multiple=True,
    type=_PATH,
    help="autoscaling/v2 HorizontalPodAutoscaler, YAML or JSON; twice to compare two.",
)
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    metavar="NAME",
    help="A workload of the settings, with all rules of its [scaling].",
)
@click.option("--load", required=True, type=_PATH, help="CSV: time,value; or arrivals.")
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="Rows that count; others are left out."
)
@click.option(
    "--count",
    type=click.Choice(("requests", "tokens")),
    default="requests",
    show_default=True,
    help="Of arrivals.",
)
@click.option(
    "--load-is",
    type=click.Choice((RATE, LENGTH)),
    default=RATE,
    show_default=True,
    help="A rate waits in a queue; a length (sessions, slots) is served or not.",
)
@click.option(
    "--replica-capacity",
    type=float,
    metavar="LOAD",
    help="Load that one replica serves; default the target for each pod.",
)
@click.option("--start-s", type=float, default=30.0, show_default=True, help="A start takes.")
@click.option(
    "--metric-delay-s", type=float, default=15.0, show_default=True, help="Age of what is measured."
)
@click.option(
    "--metric-window-s", type=float, default=60.0, show_default=True, help="What it averages."
)
@click.option(
    "--wait-max-s",
    type=float,
    default=30.0,
    show_default=True,
    help="Longest wait that is not late.",
)
@click.option(
    "--price-per-hour", type=float, default=1.0, show_default=True, help="Of one replica."
)
@click.option("--gpu", is_flag=True, help="Agents hold GPUs: longer windows before they go.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="The load so many times, one after the other.",
)
@click.option("--plot/--no-plot", "draws", default=True, help="Draw replicas over time.")
@json_option
def simulate(  # noqa: PLR0917 - click passes each option
    specs: Sequence[Path],
    workloads: Sequence[str],
    load: Path,
    where: Sequence[str],
    count: str,
    load_is: str,
    replica_capacity: float | None,
    start_s: float,
    metric_delay_s: float,
    metric_window_s: float,
    wait_max_s: float,
    price_per_hour: float,
    gpu: bool,
    repeat: int,
    draws: bool,
    as_json: bool,
) -> None:
    """Replay recorded load: replicas, cost and late work, against a static fleet.

    Every 15 s the engine that scales the fleet decides by what would have been measured then.

    \b
    Examples:
      stateroom scaling simulate --spec hpa.yaml --load day.csv --replica-capacity 12
      stateroom scaling simulate --spec hpa.yaml --spec bolder.yaml --load day.csv
      stateroom scaling simulate --workload chat --load day.csv --replica-capacity 5 --json
    """  # noqa: D301
    from resources.load_traces import read_load_trace

    wishes = [*_of_files(specs), *_of_workloads(workloads)]
    if not wishes:
        raise click.UsageError("give --spec FILE or --workload NAME")
    conditions = _conditions(where)
    trace = read_load_trace(load, count=count, where=conditions).repeated(repeat)
    capacity = _capacity(wishes) if replica_capacity is None else replica_capacity
    model = ServiceModel(
        replica_capacity=capacity,
        start_s=start_s,
        metric_delay_s=metric_delay_s,
        metric_window_s=metric_window_s,
        price_per_hour=price_per_hour,
        wait_max_s=wait_max_s,
        queues=load_is == RATE,
    )
    context = ScalingContext(is_gpu=gpu, options=ControllerOptions(scale_to_zero=True))
    fleets = _Fleets(
        _statics(trace, model),
        [replay(wish.scaling, trace, model, context, wish.name) for wish in wishes],
    )
    if as_json:
        click.echo(to_json(_document(trace, model, fleets)))
        return
    for line in _report(trace, model, fleets):
        click.echo(line)
    if draws:
        click.echo(_drawn(trace, model, fleets))


def _of_files(paths: Sequence[Path]) -> list[_Wish]:
    """The autoscalers of files; each is called by its file where several are given."""
    from fleet.rescaling.reading import parse_autoscaler

    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            hint = "`--spec` takes a HorizontalPodAutoscaler of autoscaling/v2."
            raise NotFoundError(f"no file {path}", hint=hint) from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError("--spec", str(path), "a file of YAML or JSON") from error
        options = ControllerOptions(scale_to_zero=True)
        read = parse_autoscaler(text, options, str(path))
        found += [
            _Wish(spec.name if len(paths) == len(read) == 1 else f"{path.name}: {spec.name}",
                  WorkloadScaling(spec.target_name or spec.name, spec))
            for spec in read
        ]  # fmt: skip
    return found


def _of_workloads(names: Sequence[str]) -> list[_Wish]:
    """Workloads of the settings with all their rules."""
    if not names:
        return []
    from platform_defs.declared_scaling import declared_scaling
    from platform_defs.settings import load_settings

    declared = declared_scaling(load_settings()).workloads
    for name in names:
        if name not in declared:
            hint = "docs/rescaling.md says how a workload is scaled."
            raise unknown("scaled workload", name, declared, hint)
    return [_Wish(name, declared[name]) for name in names]


def _conditions(where: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in where:
        column, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError("--where", text, "COLUMN=VALUE")
        found[column] = value
    return found


def _capacity(wishes: Sequence[_Wish]) -> float:
    """What a replica serves where nobody has said it: what is wished of each."""
    for wish in wishes:
        for metric in wish.scaling.spec.metrics:
            if metric.target_type is TargetType.AVERAGE_VALUE:
                return metric.target / 1000
    raise click.UsageError("--replica-capacity is needed: no metric has a target for each pod")


def _statics(trace: LoadTrace, model: ServiceModel) -> list[Replayed]:
    """Fleets of one size: for the peak, and the smallest that keeps the waits."""
    peak, smallest = peak_replicas(trace, model), smallest_static(trace, model)
    found = [replay_static(trace, model, peak, "static, for the peak")]
    if smallest != peak:
        found.append(replay_static(trace, model, smallest, "static, smallest without late work"))
    return found


def _report(trace: LoadTrace, model: ServiceModel, fleets: _Fleets) -> list[str]:
    """What was replayed, and how it went."""
    peak = fleets.static[0]
    length = timedelta(seconds=trace.duration_s)
    mean = sum(trace.load) / len(trace.load)
    rows = [_row(one, peak) for one in (*fleets.static, *fleets.scaled)]
    told = f"load {mean:.4g} on average, {trace.peak:.4g} at most"
    lines = [
        f"{trace.name}: {length} from {trace.start:%Y-%m-%d %H:%M:%S}Z, {told}",
        f"a replica serves {model.replica_capacity:g}, from {model.start_s:g} s after its order on",
        "",
        table(SHOWN, rows, colours=colours_wanted()),
        "",
    ]
    lines += [_verdict(one, peak) for one in fleets.scaled]
    if len(fleets.scaled) == 2:
        lines.append(_verdict(fleets.scaled[1], fleets.scaled[0]))
    return lines


def _row(one: Replayed, peak: Replayed) -> tuple[object, ...]:
    return (
        one.name,
        round(one.replica_hours, 1),
        round(one.cost, 2),
        round(100 * one.cost / peak.cost) if peak.cost else None,
        min(one.replicas),
        max(one.replicas),
        one.short_s,
        one.violated_s,
        round(_late_percent(one), 3),
        _finite(one.wait_s),
        one.changes,
        one.flaps,
    )


def _late_percent(one: Replayed) -> float:
    return 100 * one.late / one.offered if one.offered else 0.0


def _finite(wait_s: float) -> float | None:
    return round(wait_s, 1) if wait_s != float("inf") else None


def _verdict(one: Replayed, other: Replayed) -> str:
    """One fleet against another, in a sentence."""
    late = one.violated_s - other.violated_s
    told = (
        "no more late work" if not late else f"{abs(late)} s {'more' if late > 0 else 'less'} late"
    )
    if not other.cost:
        return f"{one.name} against {other.name}: {told}"
    saved = 100 * (1 - one.cost / other.cost)
    word = "cheaper" if saved >= 0 else "dearer"
    return f"{one.name} is {abs(saved):.1f} % {word} than {other.name}, {told}"


def _document(trace: LoadTrace, model: ServiceModel, fleets: _Fleets) -> dict[str, Any]:
    """Everything, with the replicas of each step."""
    peak = fleets.static[0]
    return {
        "load": {
            "name": trace.name,
            "start": trace.start,
            "step_s": trace.step_s,
            "steps": len(trace.load),
            "peak": trace.peak,
        },
        "model": {name: getattr(model, name) for name in model.__dataclass_fields__},
        "fleets": [
            {
                **{name: getattr(one, name) for name in one.__dataclass_fields__},
                "wait_s": _finite(one.wait_s),
                "replica_hours": one.replica_hours,
                "cost_of_peak_fleet": one.cost / peak.cost if peak.cost else None,
            }
            for one in (*fleets.static, *fleets.scaled)
        ],
    }


def _drawn(trace: LoadTrace, model: ServiceModel, fleets: _Fleets) -> str:
    """Replicas over time, beside those that the load needs."""
    width = -(-len(trace.load) // POINTS_MAX)
    starts = range(0, len(trace.load), width)
    begin_ms = int(trace.start.timestamp() * 1000)
    times = [begin_ms + index * trace.step_s * 1000 for index in starts]
    needed = [max(trace.load[at : at + width]) / model.replica_capacity for at in starts]
    lines = [PlotLine("replicas that the load needs", needed)]
    lines += [
        PlotLine(one.name, [max(one.replicas[at : at + width]) for at in starts])
        for one in fleets.scaled
    ]
    columns = shutil.get_terminal_size((100, 24)).columns
    return plot(times, lines[:LINES_MAX], width=columns, colours=colours_wanted())
