"""Retries are for what may heal; everything else ends at once, in the error's own words."""

import dagster as dg
import pytest

from fleet.errors import CorruptObjectError, StoreUnavailableError
from ops.outcomes import RETRIES_MAX, outcomes


def test_a_transient_error_asks_for_a_retry_with_a_growing_delay() -> None:
    """The delay doubles; the cause is kept."""
    delays = []
    for attempt in range(RETRIES_MAX):
        with pytest.raises(dg.RetryRequested) as caught, outcomes(attempt):
            raise StoreUnavailableError("locked")
        delays.append(caught.value.seconds_to_wait)
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
    assert delays == [0.5, 1.0, 2.0]


def test_a_transient_error_after_the_last_retry_fails_with_its_words() -> None:
    """The operator reads the message and the next step, not an exhausted counter."""
    with pytest.raises(dg.Failure) as caught, outcomes(RETRIES_MAX):
        raise StoreUnavailableError("the store is locked", hint="See who holds it.")
    assert caught.value.description == "the store is locked"
    assert caught.value.metadata["hint"].value == "See who holds it."
    assert caught.value.metadata["error"].value == "StoreUnavailableError"


def test_a_permanent_error_is_never_retried() -> None:
    """Not even by a retry policy around the op."""
    with pytest.raises(dg.Failure) as caught, outcomes(0):
        raise CorruptObjectError("object x is damaged")
    assert caught.value.allow_retries is False
    assert caught.value.metadata["hint"].value == "none"


def test_a_defect_passes_through_unchanged() -> None:
    """A wrong program is neither retried nor dressed up."""
    with pytest.raises(ZeroDivisionError), outcomes(0):
        _ = 1 / 0


@pytest.mark.parametrize("failures", [1, RETRIES_MAX, RETRIES_MAX + 1])
def test_dagster_retries_as_often_as_promised(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An op that fails up to `RETRIES_MAX` times succeeds; once more, and the run fails."""
    monkeypatch.setattr("ops.outcomes.RETRY_DELAY_S", 0.0)
    attempts = []

    @dg.op
    def flaky(context: dg.OpExecutionContext) -> None:
        with outcomes(context.retry_number):
            attempts.append(context.retry_number)
            if len(attempts) <= failures:
                raise StoreUnavailableError("locked")

    @dg.job
    def once() -> None:
        flaky()

    result = once.execute_in_process(raise_on_error=False)
    assert result.success == (failures <= RETRIES_MAX)
    assert attempts == list(range(min(failures, RETRIES_MAX) + 1))
