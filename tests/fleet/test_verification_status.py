"""A failure ends when it is disproved, not when it is overlooked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.backup_evidence import LEVELS, VerificationEvidence
from fleet.verification_status import VerificationStatus, fold_verifications

AT = datetime(2026, 11, 20, tzinfo=UTC)


def look(hour: int, level: str, failure: str = "", *snapshots: str, **detail: Any) -> Any:
    """A verification of `s`, or of several snapshots."""
    failures = (failure,) if failure else ()
    if snapshots:
        detail["snapshots"] = list(snapshots)
    at = AT + timedelta(hours=hour)
    return VerificationEvidence("net", "eu", level, "s", at, 1.0, 1, 1, failures, "v", detail)


def status(*looks: VerificationEvidence) -> VerificationStatus:
    """Of `s`."""
    return fold_verifications(looks)["s"]


@pytest.mark.parametrize(
    ("failed", "passed", "cleared"),
    [
        ("V1", "V1", True),
        ("V3", "V1", False),
        ("V1", "V2", False),
        ("V1", "V3", True),
        ("V2", "V3", True),
        ("V3", "V4", True),
        ("V4", "V3", False),
        ("V5", "V5", True),
    ],
)
def test_which_pass_ends_which_failure(failed: str, passed: str, cleared: bool) -> None:
    """The same level does, and from V3 on a higher one: it reads every blob."""
    found = status(look(1, failed, "pack p"), look(2, passed))
    assert (found.failed_level == "") is cleared
    assert found.level == passed


def test_a_failure_is_dated_by_its_first_finding() -> None:
    """The seven days of G3 do not begin anew with each verification."""
    found = status(look(1, "V3", "pack p"), look(5, "V3", "pack q"))
    assert found.failed == {"V3": (AT + timedelta(hours=1), "pack p")}


def test_a_failure_takes_the_pass_of_its_level_back() -> None:
    """What was proven once no longer counts as proven."""
    assert status(look(1, "V1"), look(2, "V3"), look(3, "V3", "pack p")).passed == {
        "V1": AT + timedelta(hours=1)
    }


def test_evidence_holds_for_the_snapshots_that_it_names() -> None:
    """One look at three, of which one failed; the one that is only newest is not meant."""
    found = fold_verifications([look(1, "V1", "bad", "a", "b", "c", failed_snapshots=["b"])])
    assert {one: state.level for one, state in found.items()} == {"a": "V1", "b": "", "c": "V1"}
    assert found["b"].failed_level == "V1"
    everything = fold_verifications([look(1, "V1", "bad", "a", "b")])
    assert [one.failed_level for one in everything.values()] == ["V1", "V1"]


def test_evidence_that_holds_for_no_snapshot_changes_nothing() -> None:
    """A full disk of the tester's machine must not condemn a good backup, nor praise a bad one."""
    about_none = look(2, "V5", "disk full", snapshots=[])
    assert fold_verifications([about_none]) == {}
    assert status(look(1, "V3"), about_none) == status(look(1, "V3"))


def test_a_level_read_in_parts_passes_with_the_last_of_them() -> None:
    """Dated by the part that was read longest ago; a part says nothing of the others' damage."""
    week = [look(day, "V2", parts=[day]) for day in range(7)]
    assert "V2" not in status(*week[:6]).passed
    assert status(*week).passed == {"V2": AT}
    assert status(*week, look(8, "V2", parts=[0])).passed == {"V2": AT + timedelta(hours=1)}
    damaged = [*week, look(9, "V2", "bad", parts=[3, 4], failed_parts=[3])]
    assert status(*damaged).failed == {"V2": (AT + timedelta(hours=9), "bad")}
    assert status(*damaged, look(10, "V2", parts=[4])).failed_level == "V2"
    mended = status(*damaged, look(10, "V2", parts=[3]))
    assert (mended.failed, mended.passed) == ({}, {"V2": AT})
    assert status(*damaged, look(10, "V3")).failed == {}


def test_a_sample_that_found_nothing_proves_nothing() -> None:
    """Neither is the level passed, nor a failure ended; one that found damage counts."""
    assert fold_verifications([look(1, "V3", sample_share=0.01)])["s"].level == ""
    failing = status(look(1, "V3", "bad", sample_share=0.01), look(2, "V3", sample_share=0.01))
    assert failing.failed_level == "V3"
    assert status(look(1, "V3"), look(2, "V3", sample_share=0.01)).passed == {
        "V3": AT + timedelta(hours=1)
    }


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.booleans()), max_size=12))
def test_the_fold_agrees_with_a_twin_that_looks_back_from_the_end(
    looks: list[tuple[str, bool]],
) -> None:
    """Twin: a level fails if it failed after the last pass that could end that."""
    evidence = [look(n, level, "" if ok else "bad") for n, (level, ok) in enumerate(looks)]
    found = fold_verifications(evidence).get("s", VerificationStatus({}, {}))
    for level in LEVELS:
        enders = {level} | {one for one in LEVELS if one >= "V3" and one > level}
        last_pass = max((n for n, (w, ok) in enumerate(looks) if ok and w in enders), default=-1)
        fails = [n for n, (w, ok) in enumerate(looks) if not ok and w == level and n > last_pass]
        assert (level in found.failed) == bool(fails)
        own = [ok for w, ok in looks if w == level]
        assert (level in found.passed) == bool(own and own[-1])
