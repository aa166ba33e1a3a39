"""How an op ends when something it touches fails: the one place that decides about retries.

A `TransientError` is retried with a growing delay; when the retries are used up, and for every
`PermanentError`, the run fails with the error's own words and the operator's next step. Any other
exception is a defect of this program: it is not retried and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from fleet.errors import PermanentError, StateroomError, TransientError

RETRIES_MAX = 3
"""Attempts after the first; with the delays below they span some 4 s, longer than a failover of
the control store's connection and shorter than an operator's patience."""

RETRY_DELAY_S = 0.5
"""Before the first retry; doubles with each."""


def may_retry(retry_number: int) -> bool:
    """Tell whether another attempt is allowed after attempt `retry_number` (0 is the first)."""
    return retry_number < RETRIES_MAX


def retry_of(retry_number: int) -> dg.RetryRequested:
    """The request for the next attempt, to be raised `from` its cause."""
    delay_s = RETRY_DELAY_S * 2.0**retry_number
    return dg.RetryRequested(max_retries=RETRIES_MAX, seconds_to_wait=delay_s)


def failure_of(error: StateroomError) -> dg.Failure:
    """The end of the run, in the error's words, to be raised `from` it."""
    metadata = {"error": type(error).__name__, "hint": error.hint or "none"}
    return dg.Failure(str(error), metadata=metadata, allow_retries=False)


@contextmanager
def outcomes(retry_number: int) -> Iterator[None]:
    """Turn errors of the platform into what Dagster does next.

    Args:
        retry_number: `context.retry_number` of the op.

    Raises:
        dg.RetryRequested: a transient error, and retries are left.
        dg.Failure: a permanent error, or a transient one after the last retry.
    """
    try:
        yield
    except TransientError as error:
        if may_retry(retry_number):
            raise retry_of(retry_number) from error
        raise failure_of(error) from error
    except PermanentError as error:
        raise failure_of(error) from error
