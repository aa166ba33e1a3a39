"""Asking a store again: bounded by one deadline, slower when it is overrun, never blindly."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Thread

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError, TooLargeError
from resources.object_store.retrying import CallLimit, Chance, Fault, Retrier, Retrying
from resources.object_store.s3_faults import classify_fault

POLICY = Retrying(deadline_s=30.0, first_delay_s=0.1, delay_max_s=4.0, calls_at_once_max=8)


class Time:
    """Seconds that pass when somebody sleeps or works."""

    def __init__(self) -> None:
        """Begin at nought."""
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


def retrier(time: Time, chance: Chance, seed: int = 1, policy: Retrying = POLICY) -> Retrier:
    """One whose every fault is of this kind."""

    def classify(error: Exception, what: str) -> Fault | None:
        if isinstance(error, KeyError):
            return None
        return Fault(StoreUnavailableError(f"{what}: {error}", hint="later"), chance)

    return Retrier(policy, classify, random.Random(seed), time.sleep, lambda: time.now_s)


def failing(time: Time, tries: int, cost_s: float = 0.0) -> Callable[[bool, float], str]:
    """Work that fails so many times, and then says whether it was told to be unsure."""
    left = [tries]

    def work(is_unsure: bool, _: float) -> str:
        time.now_s += cost_s
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("injected")
        return "unsure" if is_unsure else "sure"

    return work


@given(st.integers(0, 10_000), st.floats(0, 20), st.sampled_from([Chance.AGAIN, Chance.UNSURE]))
def test_a_call_ends_by_its_deadline_and_its_last_try(
    seed: int, cost_s: float, chance: Chance
) -> None:
    """Whatever a try costs and however the dice fall."""
    time = Time()
    with pytest.raises(StoreUnavailableError, match="log/1: injected"):
        retrier(time, chance, seed).run("log/1", failing(time, 10_000, cost_s))
    assert time.now_s <= POLICY.deadline_s + cost_s


def test_only_a_try_that_may_have_been_done_makes_the_next_one_unsure() -> None:
    """So that an existing object is taken for one's own only when it may be."""
    for chance, told in (
        (Chance.AGAIN, "sure"),
        (Chance.SLOWER, "sure"),
        (Chance.UNSURE, "unsure"),
    ):
        time = Time()
        assert retrier(time, chance).run("k", failing(time, 3)) == told


def test_what_cannot_be_helped_is_tried_once() -> None:
    """And what is not the store's passes unchanged."""
    time = Time()
    with pytest.raises(StoreUnavailableError):
        retrier(time, Chance.NONE).run("k", failing(time, 1))

    def broken(_: bool, __: float) -> None:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        retrier(time, Chance.AGAIN).run("k", broken)
    assert time.now_s == 0


def test_after_a_silent_deadline_each_call_tries_once_until_one_succeeds() -> None:
    """A long run against a dead store ends soon."""
    time = Time()
    calls = retrier(time, Chance.UNSURE)
    with pytest.raises(StoreUnavailableError):
        calls.run("k", failing(time, 10_000, 0.5))
    before_s = time.now_s
    for _ in range(100):
        with pytest.raises(StoreUnavailableError):
            calls.run("k", failing(time, 1, 0.5))
    assert time.now_s == before_s + 50
    calls.run("k", failing(time, 0))
    assert calls.run("k", failing(time, 2)) == "unsure"


def test_a_wave_of_refusals_halves_the_calls_once_and_success_brings_them_back() -> None:
    """Never below one, never above the most."""
    limit = CallLimit(8)
    for expected in (4, 2, 1, 1):
        began = limit.now
        for _ in range(5):
            limit.halve(began)
        assert limit.now == expected
    for _ in range(16 * 20):
        limit.succeeded()
    assert limit.now == 8


def test_no_more_calls_run_at_once_than_allowed() -> None:
    """With many threads."""
    limit = CallLimit(3)
    running, most = [0], [0]

    def call() -> None:
        for _ in range(20):
            with limit.slot():
                running[0] += 1
                most[0] = max(most[0], running[0])
                running[0] -= 1

    threads = [Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 3


@pytest.mark.parametrize(
    ("code", "status", "kind", "chance", "hint"),
    [
        ("SlowDown", 503, StoreUnavailableError, Chance.SLOWER, "overrun"),
        ("Whatever", 503, StoreUnavailableError, Chance.SLOWER, "overrun"),
        ("InternalError", 500, StoreUnavailableError, Chance.UNSURE, "health"),
        ("ConditionalRequestConflict", 409, StoreUnavailableError, Chance.AGAIN, "again"),
        ("ExpiredToken", 403, PermanentError, Chance.NONE, "renew"),
        ("RequestTimeTooSkewed", 403, PermanentError, Chance.NONE, "clock"),
        ("AccessDenied", 403, PermanentError, Chance.NONE, "policy"),
        ("QuotaExceeded", 403, PermanentError, Chance.NONE, "full"),
        ("Whatever", 507, PermanentError, Chance.NONE, "full"),
        ("EntityTooLarge", 400, TooLargeError, Chance.NONE, "32 MiB"),
        ("NoSuchBucket", 404, PermanentError, Chance.NONE, "bucket's name"),
        ("NoSuchKey", 404, NotFoundError, Chance.NONE, ""),
        ("Unheard", 418, PermanentError, Chance.NONE, "documentation"),
    ],
)
def test_each_answer_of_a_store_has_one_meaning(
    code: str, status: int, kind: type, chance: Chance, hint: str
) -> None:
    """The error names store and object, the hint the next step."""
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    fault = classify_fault(ClientError(response, "PutObject"), "s3://b/p/", "log/1")  # type: ignore[arg-type]
    assert fault is not None
    assert (type(fault.error), fault.chance) == (kind, chance)
    assert "store s3://b/p/: object log/1" in str(fault.error)
    assert hint in fault.error.hint


def test_a_silent_network_leaves_it_open_what_was_done() -> None:
    """Timeouts and resets; other exceptions are not the store's."""
    for error in (ReadTimeoutError(endpoint_url="x"), ConnectionResetError("x"), TimeoutError("x")):
        fault = classify_fault(error, "s3://b/", "k")
        assert fault is not None
        assert fault.chance is Chance.UNSURE
    assert classify_fault(ValueError("x"), "s3://b/", "k") is None
