"""Service level objectives: what is promised, how fast its error budget burns, what is left of it.

An error ratio is a quotient of summed increases, never an average of ratios; where nothing was
measured there is no ratio, and that is a state of its own: neither kept nor missed.

Source: Google, The Site Reliability Workbook, chapter 5 (multiwindow, multi-burn-rate alerts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from fleet.alerts.rules import AlertingRule, RecordingRule, RuleGroup
from fleet.errors import InvalidInputError
from fleet.names import is_name

RATIO = "objective:error_ratio"
"""Series of the error ratio of an objective over a window."""
BURN_ALERT, NO_DATA_ALERT = "ErrorBudgetBurn", "ObjectiveWithoutData"
RUNBOOK = "docs/runbook_alerts.md"
LATENCY_BOUNDS_MS = (
    5, 10, 25, 50, 100, 200, 300, 500, 750, 1000, 2500, 5000, 10_000, 30_000, 60_000,
)  # fmt: skip
"""Bounds of agents' histograms: between two of them nobody counts."""
TARGET_MIN, TARGET_MAX = 0.94, 0.99999
"""Below, an outage of everything would not burn 14.4 times too fast: 0.06 x 14.4 is 0.86."""
WINDOW_DAYS = 30
_ROUNDING = 1e-9


class ObjectiveKind(StrEnum):
    """What is promised."""

    AVAILABILITY = "availability"
    """Requests are answered without an error."""
    LATENCY = "latency"
    """Requests are answered within `latency_ms`."""
    ERROR_RATE = "error_rate"
    """Tasks end without an error."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise about a service (a workload), a network, or everything.

    Raises:
        InvalidInputError: names the field that makes no sense.
    """

    name: str
    kind: ObjectiveKind
    target: float
    """Share of good events: 0.999."""
    network: str = ""
    service: str = ""
    """Workload that serves it; '' for all of the network."""
    region: str = ""
    latency_ms: int = 0
    """Of a latency objective: one of `LATENCY_BOUNDS_MS`."""
    window_days: int = WINDOW_DAYS

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, missed or alerted on."""
        for field in ("name", "network", "service", "region"):
            value = getattr(self, field)
            if (value or field == "name") and not is_name(value):
                raise InvalidInputError(f"objectives.{field}", value, "a name")
        if not TARGET_MIN <= self.target <= TARGET_MAX:
            allowed = f"a share from {TARGET_MIN} to {TARGET_MAX}"
            raise InvalidInputError("objectives.target", self.target, allowed)
        if (self.kind is ObjectiveKind.LATENCY) != (self.latency_ms in LATENCY_BOUNDS_MS):
            allowed = f"one of {LATENCY_BOUNDS_MS} for latency, and 0 for others"
            raise InvalidInputError("objectives.latency_ms", self.latency_ms, allowed)
        if not 1 <= self.window_days <= 366:
            raise InvalidInputError("objectives.window_days", self.window_days, "1 to 366")

    @property
    def budget(self) -> float:
        """Share of bad events that the target leaves."""
        return 1.0 - self.target

    @property
    def window(self) -> str:
        """Window of the budget, as PromQL writes it."""
        return f"{self.window_days}d"


class Burn(NamedTuple):
    """An alert that fires when both windows burn faster than `factor` times the even rate."""

    factor: float
    long: str
    short: str
    """Ends the alert soon after the errors have ended."""
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "critical"),
    Burn(6.0, "6h", "30m", "critical"),
    Burn(1.0, "3d", "6h", "warning"),
)
"""2 % of a 30-day budget in an hour, 5 % in six, 10 % in three days. Source: above, table 5-8."""


def total_expr(objective: Objective, window: str) -> str:
    """PromQL for the number of events within a window."""
    metric = {
        ObjectiveKind.AVAILABILITY: "agent_requests_total",
        ObjectiveKind.LATENCY: "agent_request_duration_seconds_count",
        ObjectiveKind.ERROR_RATE: "agent_tasks_total",
    }[objective.kind]
    return _increase(metric, objective, window)


def bad_expr(objective: Objective, window: str) -> str:
    """PromQL for the number of bad events; nothing is no number where none was ever counted."""
    if objective.kind is ObjectiveKind.LATENCY:
        good = _increase(
            "agent_request_duration_seconds_bucket", objective, window, _bound(objective.latency_ms)
        )
        return f"({total_expr(objective, window)} - {good})"
    bad = {
        ObjectiveKind.AVAILABILITY: "agent_request_errors_total",
        ObjectiveKind.ERROR_RATE: "agent_task_errors_total",
    }[objective.kind]
    # A counter of errors may not exist before the first error: no errors of some events are none.
    return f"({_increase(bad, objective, window)} or 0 * {total_expr(objective, window)})"


def ratio_expr(objective: Objective, window: str) -> str:
    """PromQL for the share of bad events; without an element where there was no event."""
    return f"{bad_expr(objective, window)} / ({total_expr(objective, window)} > 0)"


def _increase(metric: str, objective: Objective, window: str, more: str = "") -> str:
    chosen = {
        "network": objective.network,
        "workload": objective.service,
        "region": objective.region,
    }
    matchers = [f'{name}="{value}"' for name, value in chosen.items() if value]
    inner = ",".join([*matchers, more] if more else matchers)
    return f"sum(increase({metric}{{{inner}}}[{window}]))"


def _bound(latency_ms: int) -> str:
    """The matcher of a bucket; `1` and `1.0` are the same bound, as different clients write it."""
    text = f"{latency_ms / 1000:g}".replace(".", "[.]")
    return f'le=~"{text}([.]0)?"'


def objective_group(objective: Objective) -> RuleGroup:
    """The rules of an objective: its ratios, its burn alerts, and the alert on missing data.

    Evaluated each full minute, so that rollups can answer the long windows.
    """
    windows = dict.fromkeys(window for burn in BURNS for window in (burn.short, burn.long))
    recorded = [
        RecordingRule(
            RATIO,
            ratio_expr(objective, window),
            (("objective", objective.name), ("window", window)),
        )
        for window in windows
    ]
    alerts = [_burn_rule(objective, burn) for burn in BURNS]
    return RuleGroup(
        f"objective-{objective.name}",
        (*recorded, *alerts, _no_data_rule(objective)),
        file="objectives",
    )


def objective_groups(objectives: Iterable[Objective]) -> tuple[RuleGroup, ...]:
    """The rules of all objectives, a group for each.

    Raises:
        InvalidInputError: two have one name.
    """
    groups = tuple(objective_group(one) for one in objectives)
    names = [group.name for group in groups]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError("objectives", twice, "each name once")
    return groups


def _burn_rule(objective: Objective, burn: Burn) -> AlertingRule:
    threshold = repr(round(burn.factor * objective.budget, 12))
    long, short = (
        f'{RATIO}{{objective="{objective.name}",window="{window}"}} > {threshold}'
        for window in (burn.long, burn.short)
    )
    promised = f"{objective.target * 100:g} %"
    return AlertingRule(
        BURN_ALERT,
        f"{long} and on (objective) {short}",
        labels=(("burn", f"{burn.factor:g}"), *_place(objective), ("severity", burn.severity)),
        annotations=(
            (
                "description",
                (
                    f"{{{{ $value | humanizePercentage }}}} of the last {burn.long} were bad; "
                    f"{promised} good are promised over {objective.window_days} days."
                ),
            ),
            ("runbook_url", f"{RUNBOOK}#{BURN_ALERT.lower()}"),
            (
                "summary",
                f"Objective {objective.name} burns its error budget {burn.factor:g} times too fast",
            ),
        ),
    )


def _no_data_rule(objective: Objective) -> AlertingRule:
    return AlertingRule(
        NO_DATA_ALERT,
        f'absent({RATIO}{{objective="{objective.name}",window="1h"}})',
        for_ms=30 * 60_000,
        labels=(*_place(objective), ("severity", "warning")),
        annotations=(
            ("description", "No event was counted within an hour: neither good nor bad."),
            ("runbook_url", f"{RUNBOOK}#{NO_DATA_ALERT.lower()}"),
            ("summary", f"Objective {objective.name} is not measured"),
        ),
    )


def _place(objective: Objective) -> tuple[tuple[str, str], ...]:
    found = (
        ("network", objective.network),
        ("region", objective.region),
        ("service", objective.service),
    )
    return tuple((name, value) for name, value in found if value)


class BudgetState(StrEnum):
    """How an objective stands."""

    KEPT = "kept"
    AT_RISK = "at risk"
    """Kept so far, and burning so fast that an alert fires or soon will."""
    MISSED = "missed"
    """More than the budget of the window is spent."""
    NO_DATA = "no data"


class ErrorBudget(NamedTuple):
    """What is left of an objective's error budget at a moment."""

    objective: str
    state: BudgetState
    total: float | None
    """Events of the window; None where none was counted."""
    bad: float | None
    error_ratio: float | None
    left_ratio: float | None
    """Share of the budget that is left: 1 untouched, 0 just spent, below 0 missed."""
    burn_rates: Mapping[str, float | None]
    """By window: how many times faster than even the budget burns; None without data."""


def judge_budget(
    objective: Objective,
    total: float | None,
    bad: float | None,
    ratios: Mapping[str, float | None],
) -> ErrorBudget:
    """How an objective stands.

    Args:
        objective: the promise.
        total: events of its window; None or 0 where nothing was counted.
        bad: bad ones among them; None where that cannot be said.
        ratios: error ratio by window of the burn alerts; None without data.
    """
    burns = {
        window: None if ratio is None else ratio / objective.budget
        for window, ratio in ratios.items()
    }
    if not total or bad is None:
        return ErrorBudget(objective.name, BudgetState.NO_DATA, None, None, None, None, burns)
    ratio = min(1.0, max(0.0, bad / total))
    left = 1.0 - ratio / objective.budget
    state = BudgetState.KEPT
    if left < -_ROUNDING:
        state = BudgetState.MISSED
    elif any(_burns(burns, burn) for burn in BURNS):
        state = BudgetState.AT_RISK
    return ErrorBudget(objective.name, state, total, bad, ratio, left, burns)


def _burns(burns: Mapping[str, float | None], burn: Burn) -> bool:
    both = (burns.get(burn.long), burns.get(burn.short))
    return all(one is not None and one > burn.factor for one in both)
