"""Claims about metrics, judged from the log of the store as it is at the moment of the check."""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from assets.metrics import RETENTION, SAMPLES
from fleet.inventory_checks import CheckVerdict
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.store_facts import check_damage, check_lag, check_late, check_refused
from fleet.ports.clock import Clock
from fleet.ports.metric_keeper import MetricKeeper
from ops.evidence import check_result
from ops.metrics import VERIFIED_MAX
from ops.outcomes import outcomes

CLAIMS: Mapping[str, Mapping[str, str]] = {
    SAMPLES: {
        "every_sample_could_be_stored": "No sample was too far ahead or too old.",
        "most_samples_come_in_time": "Few samples come for hours that are rolled up already.",
    },
    RETENTION: {
        "stored_bytes_are_what_was_committed": (
            "A share of all objects is read anew each hour; damaged rollups are made anew."
        ),
    },
    **{
        level.asset: {
            "nothing_waits_to_be_made": f"No partition of {level.text} is dirty for long."
        }
        for level in Level
    },
}
"""Asset -> claim -> what it means."""

Judge = Callable[[MetricKeeper, Clock], Mapping[str, CheckVerdict]]


def build_metric_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group; none blocks."""
    judges: dict[str, Judge] = {SAMPLES: _judge_samples, RETENTION: _judge_bytes}
    judges |= {level.asset: _lag_judge(level) for level in Level}
    return [_checks(asset, judge) for asset, judge in judges.items()]


def _checks(asset: str, judge: Judge) -> dg.AssetChecksDefinition:
    """One step that judges all claims about an asset."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(name, asset=asset, description=meaning, blocking=False)
            for name, meaning in CLAIMS[asset].items()
        ],
        can_subset=True,
        name=f"check_{asset}",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        metric_keeper: dg.ResourceParam[MetricKeeper],
        clock: dg.ResourceParam[Clock],
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            verdicts = judge(metric_keeper, clock)
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(asset), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return check


def _judge_samples(keeper: MetricKeeper, _: Clock) -> Mapping[str, CheckVerdict]:
    facts = keeper.facts()
    return {
        "every_sample_could_be_stored": check_refused(facts),
        "most_samples_come_in_time": check_late(facts),
    }


def _judge_bytes(keeper: MetricKeeper, clock: Clock) -> Mapping[str, CheckVerdict]:
    hours = int(clock.now().timestamp()) * 1000 // HOUR_MS
    verified = keeper.verify(VERIFIED_MAX, hours * VERIFIED_MAX)
    verdict = check_damage(verified.damages, verified.objects)
    return {"stored_bytes_are_what_was_committed": verdict}


def _lag_judge(level: Level) -> Judge:
    def judge(keeper: MetricKeeper, _: Clock) -> Mapping[str, CheckVerdict]:
        return {"nothing_waits_to_be_made": check_lag(keeper.facts(), level)}

    return judge
