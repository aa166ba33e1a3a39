"""Claims about vector indexes: from standings in every run, from ids hourly, bytes nightly.

What costs a look at every id or byte is not asked after every refresh of thirty seconds.
"""

from collections.abc import Callable, Iterator, Mapping

import dagster as dg

from fleet.inventory_checks import CheckVerdict
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.vectors.health import check_freshness, check_recall, check_scrubs
from ops.evidence import check_result
from ops.outcomes import outcomes
from ops.vector_health import judge_ids, judge_sizes, look_at_health, scrub_indexes
from ops.vector_jobs import INDEX
from resources.vectors.network_indexes import NetworkIndexes

STANDING_CLAIMS = {
    "every_index_finds_what_it_should": (
        "Recall reaches the network's target; an index that does not is not published."
    ),
    "no_note_waits_too_long": "Every note is inside its index within `vectors.behind_max_s`.",
}
CONTENT_CLAIMS = {
    "indexes_hold_the_notes_that_exist": "No id inside is that of no note; no note is left out.",
    "indexes_keep_their_size": "Bytes per row stay what they were in the generation before.",
}
BYTE_CLAIMS = {
    "stored_bytes_are_what_was_published": (
        "Every byte of every kept generation is read and compared with its SHA-256."
    ),
}
"""Claims by what they read: the control store, all ids, all bytes; claim -> what it means."""

Judge = Callable[[ControlStore, NetworkIndexes, Clock], Mapping[str, CheckVerdict]]


def build_vector_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group; none blocks."""
    return [
        _checks("check_vector_index", STANDING_CLAIMS, _judge_standings),
        _checks("check_vector_index_content", CONTENT_CLAIMS, _judge_content),
        _checks("check_vector_index_bytes", BYTE_CLAIMS, _judge_bytes),
    ]


def claims(names: Mapping[str, str]) -> dg.AssetSelection:
    """Some of the claims, for a job."""
    return dg.AssetSelection.checks(*(dg.AssetCheckKey(dg.AssetKey(INDEX), one) for one in names))


def _checks(step: str, meanings: Mapping[str, str], judge: Judge) -> dg.AssetChecksDefinition:
    """One step that judges claims together."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(name, asset=INDEX, description=meaning, blocking=False)
            for name, meaning in meanings.items()
        ],
        can_subset=True,
        name=step,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        control_store: dg.ResourceParam[ControlStore],
        network_indexes: dg.ResourceParam[NetworkIndexes],
        clock: dg.ResourceParam[Clock],
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            verdicts = judge(control_store, network_indexes, clock)
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(INDEX), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return check


def _judge_standings(
    store: ControlStore, indexes: NetworkIndexes, clock: Clock
) -> Mapping[str, CheckVerdict]:
    found = look_at_health(store, indexes, clock.now())
    verdicts = (check_recall(found), check_freshness(found))
    return dict(zip(STANDING_CLAIMS, verdicts, strict=True))


def _judge_content(
    store: ControlStore, indexes: NetworkIndexes, _: Clock
) -> Mapping[str, CheckVerdict]:
    verdicts = (judge_ids(store, indexes), judge_sizes(indexes))
    return dict(zip(CONTENT_CLAIMS, verdicts, strict=True))


def _judge_bytes(
    store: ControlStore, indexes: NetworkIndexes, clock: Clock
) -> Mapping[str, CheckVerdict]:
    """Reads before it judges: the claim is about bytes as they are now."""
    scrub_indexes(store, indexes, clock)
    now = clock.now()
    verdict = check_scrubs(look_at_health(store, indexes, now), now)
    return dict(zip(BYTE_CLAIMS, (verdict,), strict=True))
