"""The times of a query: what was typed becomes an instant or a range of steps. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError
from platform_defs.command.moments import parse_moment, parse_span

STEPS_WANTED = 120
"""Steps of a range without --step, at most: what a terminal shows."""
NICE_STEPS_S = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Steps that are taken then; those from 60 on lie on the borders of rollups."""


class QueryTimes(NamedTuple):
    """When a query is evaluated."""

    start_ms: int
    end_ms: int
    step_ms: int
    """0 for an instant query."""

    @property
    def is_range(self) -> bool:
        """Whether there are several steps."""
        return self.step_ms > 0


def query_times(
    now: datetime,
    at: str | None,
    from_: str | None,
    to: str | None,
    step: str | None,
    *,
    aligned: bool,
    plotted: bool,
) -> QueryTimes:
    """What the options of a query say.

    Args:
        now: what `ago` counts from.
        at: moment of an instant query; None for now.
        from_: begin of a range; None for an instant query, or with a plot an hour before `to`.
        to: its end; None for now.
        step: between two steps; None for a round one.
        aligned: whether begin and end are moved back to multiples of the step, where rollups can
            answer.
        plotted: whether lines are wanted: then a range even without `from_`.

    Raises:
        InvalidInputError: a time is no time, or begin and end are the wrong way round.
    """
    is_range = plotted or any(option is not None for option in (from_, to, step))
    if not is_range:
        moment = now if at is None else parse_moment("--at", at, now)
        return QueryTimes(_ms(moment), _ms(moment), 0)
    if at is not None:
        raise InvalidInputError("--at", at, "a single moment; a range has --from and --to")
    end = now if to is None else parse_moment("--to", to, now)
    start = end - timedelta(hours=1) if from_ is None else parse_moment("--from", from_, now)
    if start > end:
        raise InvalidInputError("--from", from_, f"a time not after --to ({end.isoformat()})")
    step_ms = _nice_step_ms(_ms(end) - _ms(start)) if step is None else step_of(step)
    if not aligned:
        return QueryTimes(_ms(start), _ms(end), step_ms)
    return QueryTimes(_ms(start) // step_ms * step_ms, _ms(end) // step_ms * step_ms, step_ms)


def step_of(text: str) -> int:
    """A step in milliseconds: `5m` as PromQL writes it, or `5 minutes`.

    Raises:
        InvalidInputError: it is neither, or nothing.
    """
    import promql_parser

    allowed = "a time longer than nothing, such as 15s, 5m or 2 hours"
    try:
        length = promql_parser.parse_duration(text.strip())
    except ValueError:
        try:
            length = parse_span("--step", text)
        except InvalidInputError as error:
            raise InvalidInputError("--step", text, allowed) from error
    step_ms = length // timedelta(milliseconds=1)
    if step_ms < 1:
        raise InvalidInputError("--step", text, allowed)
    return step_ms


def _nice_step_ms(length_ms: int) -> int:
    for step_s in NICE_STEPS_S:
        if length_ms <= STEPS_WANTED * step_s * 1000:
            return step_s * 1000
    days = -(-length_ms // (STEPS_WANTED * 86_400_000))
    return days * 86_400_000


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
