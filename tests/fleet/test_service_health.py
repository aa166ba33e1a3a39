"""Whom readers are given: checks, silence, the panic rule, and what freezes it all."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.service_health import (
    EMBEDDED_SERVICES,
    PRODUCTION_SERVICES,
    CheckState,
    RenewalAges,
    ServicePolicy,
    ServiceView,
    note_check,
    plan_view,
    validate_service_policy,
)
from fleet.services import CheckHealth, Endpoint, Registration

POLICY = ServicePolicy()


def entry(
    number: int, *, gray: bool = False, renewals: int = 0, epoch: int = 1, failing: bool = False
) -> Registration:
    """An entry of agent a<number>."""
    endpoint = Endpoint("svc", f"a{number}", "n", "eu", "10.0.0.1", 80, epoch)
    health = CheckHealth.FAILING if failing else CheckHealth.PASSING
    return Registration(endpoint, renewals, health=health, gray=gray, reason="why")


def view(
    entries: list[Registration],
    silent_s: dict[str, float] | None = None,
    *,
    trusted: bool = True,
    before: ServiceView | None = None,
) -> ServiceView:
    """The view of a service."""
    return plan_view("svc", 1, entries, silent_s or {}, POLICY, trusted=trusted, before=before)


def served(found: ServiceView) -> list[str]:
    """Agents that readers get."""
    return [one.endpoint.agent_id for one in found.served]


def test_gray_and_silent_entries_are_withheld_with_their_reasons() -> None:
    """A minute of silence exactly is still allowed."""
    found = view([entry(n, gray=n == 1) for n in range(6)], {"a2": 61.0, "a3": 60.0})
    assert served(found) == ["a0", "a3", "a4", "a5"]
    assert found.withheld == {"a1": "gray: why", "a2": "silent for 61 s, allowed 60 s"}
    assert (found.kept, found.notes) == ({}, ())


def test_failed_checks_alone_withhold_nobody() -> None:
    """Not one, and not all of them: a blind checker must not empty a service."""
    assert len(served(view([entry(n, failing=True) for n in range(4)]))) == 4


def test_the_panic_rule_keeps_half_and_says_so() -> None:
    """The surest go first: gray ones, then the longest silent."""
    entries = [entry(n, gray=n == 4) for n in range(5)]
    found = view(entries, {"a0": 100.0, "a1": 300.0, "a2": 200.0})
    assert served(found) == ["a0", "a2", "a3"]
    assert set(found.withheld) == {"a1", "a4"}
    assert found.kept["a2"] == "silent for 200 s, allowed 60 s; served by the panic rule"
    assert found.notes == ("panic rule: 4 of 5 entries should be withheld, 2 may be",)


def test_the_only_endpoint_is_never_withheld() -> None:
    """However gray."""
    assert served(view([entry(0, gray=True)], {"a0": 9999.0})) == ["a0"]
    assert served(view([])) == []


def test_while_not_trusted_nobody_is_newly_withheld() -> None:
    """And who was withheld before stays so: frozen means as it was."""
    entries = [entry(n) for n in range(6)]
    before = view(entries, {"a0": 70.0})
    frozen = view(entries, {"a0": 80.0, "a1": 80.0}, trusted=False, before=before)
    assert set(frozen.withheld) == {"a0"}
    assert frozen.kept == {
        "a1": "silent for 80 s, allowed 60 s; registry or controller is not healthy"
    }
    assert frozen.notes == ("frozen: 1 entries stay that would have been withheld",)
    assert served(view(entries, {"a0": 80.0}, trusted=False)) == [f"a{n}" for n in range(6)]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 300), st.booleans()), max_size=30),
    st.booleans(),
)
def test_never_fewer_than_half_are_served(
    shapes: list[tuple[bool, float, bool]], trusted: bool
) -> None:
    """Whatever verdicts, silences and checks say; everybody is served, withheld, never both."""
    entries = [entry(n, gray=gray, failing=bad) for n, (gray, _, bad) in enumerate(shapes)]
    silent_s = {f"a{n}": silence for n, (_, silence, _) in enumerate(shapes)}
    found = view(entries, silent_s, trusted=trusted)
    assert len(found.served) >= math.ceil(len(entries) / 2)
    assert sorted([*served(found), *found.withheld]) == sorted(silent_s)
    assert set(found.kept) <= set(served(found))
    if not trusted:
        assert not found.withheld
    for one in entries:
        innocent = not one.gray and silent_s[one.endpoint.agent_id] <= POLICY.entry_ttl_s
        assert not (innocent and one.endpoint.agent_id in found.withheld)


def test_one_result_against_the_tide_changes_no_health() -> None:
    """Three failures fail, two successes pass again."""
    state = CheckState()
    seen = []
    for passed in (True, True, False, False, True, False, False, False, True, True):
        state = note_check(POLICY, state, passed=passed)
        seen.append(state.health)
    unknown, good, bad = CheckHealth.UNKNOWN, CheckHealth.PASSING, CheckHealth.FAILING
    assert seen == [unknown, good, good, good, good, good, good, bad, bad, good]


def test_silence_is_measured_from_the_last_change_that_we_saw() -> None:
    """By our own clock, once two looks have found it."""
    ages = RenewalAges(POLICY)
    ages.see([entry(0, renewals=5)], 100.0)
    assert ages.silent_s("svc/a0", 150.0) == 0.0
    ages.see([entry(0, renewals=5)], 150.0)
    assert ages.silent_s("svc/a0", 150.0) == 0.0
    ages.see([entry(0, renewals=5)], 180.0)
    assert ages.silent_s("svc/a0", 180.0) == 80.0
    ages.see([entry(0, renewals=6)], 190.0)
    assert ages.silent_s("svc/a0", 230.0) == 0.0
    assert ages.silent_s("svc/unknown", 230.0) == 0.0


def test_one_look_after_an_outage_that_nobody_noticed_ages_nobody() -> None:
    """The registry was down between two looks and is just back: all counters stand still."""
    ages = RenewalAges(POLICY)
    ages.see([entry(0)], 0.0)
    ages.see([entry(0)], 600.0)
    assert ages.silent_s("svc/a0", 600.0) == 0.0
    ages.see([entry(0, renewals=1)], 660.0)
    assert ages.silent_s("svc/a0", 660.0) == 0.0


def test_after_a_restart_all_ages_begin_again() -> None:
    """Whoever was cut off gets the time to renew; who was withheld before that does not."""
    ages = RenewalAges(POLICY)
    for now_s in (0.0, 40.0, 80.0):
        ages.see([entry(0)], now_s)
    assert ages.silent_s("svc/a0", 80.0) == 80.0
    ages.restart(80.0)
    for now_s in (81.0, 120.0):
        ages.see([entry(0)], now_s)
    assert ages.silent_s("svc/a0", 120.0) == 40.0
    ages.restart(120.0, but={"svc/a0"})
    assert ages.silent_s("svc/a0", 121.0) == 41.0


def test_a_new_epoch_is_a_new_life_and_a_forgotten_entry_has_no_age() -> None:
    """Also when its counter goes on."""
    ages = RenewalAges(POLICY)
    for now_s in (0.0, 40.0, 80.0):
        ages.see([entry(0)], now_s)
    ages.see([entry(0, epoch=2)], 90.0)
    assert ages.silent_s("svc/a0", 200.0) == 0.0
    ages.forget(["svc/a0", "svc/never"])
    assert ages.silent_s("svc/a0", 200.0) == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"check_interval_s": 0.0},
        {"cache_ttl_s": math.inf},
        {"check_timeout_s": 11.0},
        {"entry_ttl_s": 40.0},
        {"failures_to_fail": 0},
        {"successes_to_pass": 0},
        {"served_min_share": 0.4},
        {"served_min_share": 1.1},
    ],
)
def test_a_policy_whose_numbers_do_not_fit_is_refused(changes: dict[str, float]) -> None:
    """With the field's name; the shipped ones fit."""
    with pytest.raises(InvalidInputError) as caught:
        validate_service_policy(replace(POLICY, **changes))
    assert caught.value.field in changes
    for policy in (PRODUCTION_SERVICES, EMBEDDED_SERVICES):
        assert validate_service_policy(policy) is policy
