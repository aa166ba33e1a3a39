"""Records each partition of a run; one that fails does not keep the others from being recorded.

Dagster materializes every partition of a run when the op's output appears. When a partition has
failed there is no output, so the others are materialized one by one.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

from fleet.errors import StateroomError, TransientError
from ops.outcomes import failure_of, may_retry, retry_of

Recorded = Iterator[dg.AssetMaterialization | dg.Output[None]]


def record_partitions(
    context: dg.AssetExecutionContext,
    subject: str,
    dimension: str,
    record: Callable[[str], Mapping[str, Any]],
) -> Recorded:
    """Record each partition of the run; a failed one fails the run after the others are recorded.

    Args:
        context: of the op, inside an asset that is partitioned.
        subject: what is recorded, for the reasons: the table's name.
        dimension: what a partition is: `region` or `network`.
        record: writes one partition, and returns what its materialization shows.

    Raises:
        dg.RetryRequested: a partition failed for a transient reason, and retries are left.
        dg.Failure: a partition failed; the reason names it.
    """
    recorded: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, StateroomError] = {}
    for partition in context.partition_keys:
        try:
            recorded[partition] = record(partition)
        except StateroomError as error:
            failed[partition] = error
            context.log.exception("%s of %s %s. %s", subject, dimension, partition, error.hint)
    if not failed:
        for partition, evidence in recorded.items():
            context.add_asset_metadata(evidence, partition_key=partition)
        yield dg.Output(None)
        return
    first = next(iter(failed.values()))
    transient = any(isinstance(error, TransientError) for error in failed.values())
    retry_number = context.op_execution_context.retry_number
    if transient and may_retry(retry_number):
        raise retry_of(retry_number) from first
    for partition, evidence in recorded.items():
        yield dg.AssetMaterialization(
            asset_key=context.asset_key, partition=partition, metadata=evidence
        )
    raise _failure(subject, dimension, failed) from first


def _failure(subject: str, dimension: str, failed: Mapping[str, StateroomError]) -> dg.Failure:
    """One failure for all failed partitions; each is named with its error and hint."""
    if len(failed) == 1:
        ((partition, error),) = failed.items()
        failure = failure_of(error)
        failure.description = f"{subject} of {dimension} {partition}: {error}"
        return failure
    said = "; ".join(f"{partition}: {error}" for partition, error in failed.items())
    hints = {error.hint for error in failed.values() if error.hint}
    metadata: dict[str, Any] = {
        "hint": " ".join(sorted(hints)) or "none",
        f"failed_{dimension}s": len(failed),
    }
    return dg.Failure(f"{subject} of {said}", metadata=metadata, allow_retries=False)
