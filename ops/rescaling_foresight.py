"""Forecasts of workloads that wish for a predictive floor, from the decisions in the lake.

What a workload needed is what its leading metric asked for: load by target, times the agents that
were ready. One query an hour answers for all workloads; without the lake there is no forecast, and
the rule says so in each decision.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from fleet.errors import StateroomError
from fleet.ports.lake import Lake
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.foresight import Forecast, LoadHistory, forecast
from fleet.rescaling.policy import PredictiveFloor
from fleet.rescaling.tables import SCALING_DECISIONS

HOUR_S = 3600
_RETRY = timedelta(minutes=5)
Key = tuple[str, str]

NEEDS = f"""
    SELECT workload, region, epoch_ms(date_trunc('hour', last_at)) // 1000 AS hour_s,
           max(load * ready) AS need
    FROM {SCALING_DECISIONS}_history
    WHERE load IS NOT NULL AND isfinite(load) AND last_at >= TIMESTAMPTZ '{{since}}'
    GROUP BY ALL ORDER BY ALL
"""  # noqa: S608  # names of this program, and a time


class Forecasts:
    """Forecasts, made anew each hour; the memory of one controller.

    Args:
        open_lake: opens the lake at the first question; None: there is none.
        declaration: says who wishes for foresight.
    """

    def __init__(
        self, open_lake: Callable[[], Lake] | None, declaration: RescalingDeclaration
    ) -> None:
        """Ask nothing yet."""
        self._open_lake = open_lake
        self._wishes = {
            name: one.predictive for name, one in declaration.workloads.items() if one.predictive
        }
        self._made: Mapping[Key, Forecast] = {}
        self._due: datetime | None = None
        self.problem = ""
        """Why there are none; empty when there are, or nobody wishes for any."""

    def of(self, key: Key, now: datetime) -> Forecast | None:
        """The forecast of a workload in a region; None when nobody wishes for it, or knows."""
        if key[0] not in self._wishes or self._open_lake is None:
            return None
        if self._due is None or now >= self._due:
            self._make(self._open_lake, now)
        return self._made.get(key)

    def _make(self, open_lake: Callable[[], Lake], now: datetime) -> None:
        weeks = max(one.weeks for one in self._wishes.values()) + 1
        since = now - timedelta(weeks=weeks)
        try:
            lake = open_lake()
            rows = []
            if SCALING_DECISIONS in lake.tables():
                rows = lake.query(NEEDS.format(since=since.isoformat())).to_pylist()
        except StateroomError as error:
            self.problem = f"no forecast can be made: {error}"
            self._due = now + _RETRY
            return
        self.problem = ""
        self._due = now + timedelta(seconds=HOUR_S)
        needs: dict[Key, dict[int, float]] = defaultdict(dict)
        for row in rows:
            needs[row["workload"], row["region"]][int(row["hour_s"])] = float(row["need"])
        self._made = {
            key: _forecast(found, self._wishes[key[0]], now)
            for key, found in needs.items()
            if key[0] in self._wishes
        }


def _forecast(needs: Mapping[int, float], policy: PredictiveFloor, now: datetime) -> Forecast:
    """From hours that are known; those between them are not."""
    first, last = min(needs), max(needs)
    steps: Iterable[int] = range(first, last + 1, HOUR_S)
    start = datetime.fromtimestamp(first, UTC)
    return forecast(LoadHistory(start, HOUR_S, [needs.get(at) for at in steps]), policy, now)
