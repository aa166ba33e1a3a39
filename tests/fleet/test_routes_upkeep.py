"""Tables are given again when somebody would notice, within a bound, and otherwise never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.routes import Backend, RouteTable
from fleet.routes_upkeep import (
    AppliedTable,
    RouterStanding,
    UpkeepPolicy,
    is_to_be_told,
    note_router,
    plan_route_changes,
    steady_table,
    validate_upkeep_policy,
)

POLICY = UpkeepPolicy(interval_s=1.0, verify_s=60.0)


def backend(name: str, weight: int = 255, epoch: int = 1, address: str = "10.0.0.1") -> Backend:
    """An endpoint of a table."""
    return Backend(name, "eu", address, 8000, epoch, weight)


def table(*backends: Backend, service: str = "web", term: int = 1, revision: int = 1) -> RouteTable:
    """A table of a service."""
    return RouteTable(service, term, revision, backends)


def reasons(
    before: RouteTable | None, after: RouteTable, age_s: float = 1.0
) -> list[tuple[str, bool]]:
    """Why a table is given, and whether that is news."""
    applied = {} if before is None else {before.service: AppliedTable(before, 100.0)}
    plan = plan_route_changes([after], applied, 100.0 + age_s, POLICY)
    return [(one.reason, one.is_news) for one in plan.changes]


A, B = backend("a"), backend("b")
GOLDEN = [
    ("never given", None, table(A), [("it is not known what is in force", True)]),
    ("as it is", table(A), table(A), []),
    ("revision alone", table(A), table(A, revision=9), []),
    ("came", table(A), table(A, B), [("1 came (b)", True)]),
    ("left", table(A, B), table(A), [("1 left (b)", True)]),
    ("all left", table(A, B), table(), [("2 left (a, b)", True)]),
    ("moved", table(A), table(backend("a", epoch=2)), [("1 moved (a)", True)]),
    ("other address", table(A), table(backend("a", address="10.0.0.2")), [("1 moved (a)", True)]),
    ("shiver", table(A), table(backend("a", 240)), []),
    ("step", table(A), table(backend("a", 200)), [("1 weigh otherwise (a)", True)]),
    ("fails", table(backend("a", 9)), table(backend("a", 1)), [("1 weigh otherwise (a)", True)]),
    ("passes", table(backend("a", 1)), table(backend("a", 9)), [("1 weigh otherwise (a)", True)]),
    ("term", table(A), table(A, term=2), [("term 2 leads now", True)]),
]


@pytest.mark.parametrize(("before", "after", "want"), [one[1:] for one in GOLDEN],
                         ids=[one[0] for one in GOLDEN])  # fmt: skip
def test_a_table_is_given_for_a_reason(
    before: RouteTable | None, after: RouteTable, want: list[tuple[str, bool]]
) -> None:
    """Each difference that somebody would notice, and none other."""
    assert reasons(before, after) == want


def test_what_does_not_change_is_looked_at_again_in_time() -> None:
    """A router that was started anew has forgotten it."""
    assert reasons(table(A), table(A), 59.0) == []
    assert reasons(table(A), table(A), 60.0) == [("looked at again after 60 s", False)]


def test_many_agents_are_named_by_three() -> None:
    """A reason fits on a line."""
    many = table(*(backend(f"a{number}") for number in range(5)))
    assert reasons(table(), many) == [("5 came (a0, a1, a2, ...)", True)]


def test_a_look_gives_news_first_and_postpones_what_it_has_no_room_for() -> None:
    """The oldest verification comes first among those."""
    policy = UpkeepPolicy(interval_s=1.0, verify_s=60.0, tables_max=2)
    applied = {
        "old": AppliedTable(table(A, service="old"), 0.0),
        "older": AppliedTable(table(A, service="older"), -10.0),
        "new": AppliedTable(table(A, service="new"), 90.0),
    }
    wanted = [table(A, service="old"), table(A, service="older"), table(A, B, service="new")]
    plan = plan_route_changes(wanted, applied, 100.0, policy)
    assert [one.table.service for one in plan.changes] == ["new", "older"]
    assert (plan.unchanged, plan.postponed) == (0, 1)


weights = st.lists(st.integers(1, 255), min_size=1, max_size=4)


@given(weights, weights)
def test_a_table_that_was_given_is_not_given_again(before: list[int], after: list[int]) -> None:
    """Applying a plan leaves nothing to do, whatever the weights were."""
    known = AppliedTable(table(*(backend(f"a{n}", w) for n, w in enumerate(before))), 0.0)
    wanted = table(*(backend(f"a{n}", w) for n, w in enumerate(after)))
    steady = steady_table(wanted, known, POLICY.weight_step)
    plan = plan_route_changes([steady], {"web": known}, 1.0, POLICY)
    applied = {one.table.service: AppliedTable(one.table, 1.0) for one in plan.changes}
    again = steady_table(wanted, applied.get("web", known), POLICY.weight_step)
    assert plan_route_changes([again], {"web": known} | applied, 2.0, POLICY).changes == ()


@given(weights, st.integers(-25, 25))
def test_small_weights_changes_are_written_by_nobody(before: list[int], shift: int) -> None:
    """A weight below the step stays, unless it stands for failed checks."""
    known = AppliedTable(table(*(backend(f"a{n}", w) for n, w in enumerate(before))), 0.0)
    shifted = [min(255, max(1, weight + shift)) for weight in before]
    wanted = table(*(backend(f"a{n}", w) for n, w in enumerate(shifted)))
    steady = steady_table(wanted, known, POLICY.weight_step)
    for old, new, kept in zip(before, shifted, steady.backends, strict=True):
        is_kept = abs(new - old) < POLICY.weight_step and (old == 1) == (new == 1)
        assert kept.weight == (old if is_kept else new)


def test_a_table_that_is_not_known_is_taken_as_it_is() -> None:
    """There is nothing to be steady against."""
    assert steady_table(table(A), None, 25) == table(A)


def test_a_person_is_told_after_some_looks_or_when_the_circuit_is_open() -> None:
    """One hiccup wakes nobody; an answer ends the count."""
    standing = RouterStanding()
    told = []
    for _ in range(3):
        standing = note_router(standing, "no answer")
        told.append(is_to_be_told(standing, POLICY, is_open=False))
    assert told == [False, False, True]
    assert is_to_be_told(note_router(RouterStanding(), "open"), POLICY, is_open=True)
    assert note_router(standing, "") == RouterStanding()
    assert not is_to_be_told(RouterStanding(), POLICY, is_open=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [("interval_s", 0.0), ("verify_s", float("inf")), ("weight_step", 0), ("tables_max", 0),
     ("failures_to_tell", 0)],
)  # fmt: skip
def test_a_policy_that_never_ends_is_refused(field: str, value: float) -> None:
    """The field is named."""
    fields = {"interval_s": 1.0, "verify_s": 60.0, field: value}
    with pytest.raises(InvalidInputError, match=field):
        validate_upkeep_policy(UpkeepPolicy(**fields))  # type: ignore[arg-type]
