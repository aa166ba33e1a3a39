"""When a refresh is due, and what is said of indexes: tables of cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError, InvalidInputError, SchemaMismatchError
from fleet.inventory_checks import Severity
from fleet.leases import Lease
from fleet.metrics.exported.table import grouped
from fleet.metrics.exported.vectors import FAMILIES, index_readings
from fleet.ports.note_store import NoteBacklog
from fleet.vectors.declaration import AdoptedDeclaration, NetworkVectors, VectorDeclaration
from fleet.vectors.health import (
    SCRUB_AGE_MAX,
    GenerationSize,
    IdDrift,
    IndexHealth,
    all_health,
    check_freshness,
    check_ids,
    check_recall,
    check_scrubs,
    check_sizes,
    index_health,
    refresh_due,
)
from fleet.vectors.records import VectorPolicy
from fleet.vectors.refresh_due import AGAIN_S, RefreshThresholds, Waiting, decide_due
from fleet.vectors.standing import (
    IndexFacts,
    IndexStanding,
    RefreshResult,
    ScrubFacts,
    read_standing,
    standing_text,
    with_result,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FACTS = IndexFacts(
    generation="g",
    kind="flat",
    factory="Flat",
    ntotal=12,
    rows=12,
    live=9,
    recall=0.97,
    recall_low=0.96,
    recall_high=0.98,
    recall_target=0.95,
    size_bytes=9000,
    dimensions=256,
    built_at=NOW - timedelta(minutes=5),
    build_s=0.2,
    newest_note_at=NOW - timedelta(minutes=6),
    backend="faiss-cpu",
    backend_reason="policy off",
)
DECLARED = NetworkVectors(network_id="net")


def backlog(
    standing: IndexStanding, waiting: int = 0, waited_s: float = 0.0, builder: Lease | None = None
) -> NoteBacklog:
    """What waits in `net`."""
    oldest = NOW - timedelta(seconds=waited_s) if waiting else None
    return NoteBacklog("net", standing, waiting, oldest, 99, builder)


def health(standing: IndexStanding, waiting: int = 0, waited_s: float = 0.0) -> IndexHealth:
    """How `net` stands."""
    return index_health(backlog(standing, waiting, waited_s), DECLARED, NOW)


@pytest.mark.parametrize(
    ("waiting", "waited_s", "live", "failed_s", "due", "why"),
    [
        (0, 0, 0, None, False, "no note waits"),
        (1, 29, 10, None, False, "due after 30 s"),
        (1, 30, 10, None, True, "30 s are enough"),
        (10_000, 0, 10**6, None, True, "10000 are enough"),
        (9_999, 0, 10**6, None, False, "due after"),
        (1_000, 0, 5_000, None, True, "10% of 5000 are enough"),
        (999, 0, 5_000, None, False, "due after"),
        (1_000, 0, 20_000, None, False, "due after"),
        (9_999, 600, 10, AGAIN_S - 1, False, "tried again in 1 s"),
        (1, 600, 10, AGAIN_S, True, "30 s are enough"),
        (1, 600, 10, -10, False, "tried again in 310 s"),
        (1, 600, 10, -86_400, True, "30 s are enough"),
    ],
)
def test_a_refresh_is_due_by_count_share_or_age_and_waits_after_a_failure(
    waiting: int, waited_s: float, live: int, failed_s: float | None, due: bool, why: str
) -> None:
    """One threshold is enough; a failure holds all of them back, unless a clock was set back."""
    oldest = NOW - timedelta(seconds=waited_s) if waiting else None
    failed = None if failed_s is None else NOW - timedelta(seconds=failed_s)
    verdict = decide_due(Waiting(waiting, oldest), live, RefreshThresholds(), NOW, failed_at=failed)
    assert verdict.is_due is due
    assert why in verdict.reason


@pytest.mark.parametrize(
    "wrong",
    [{"notes": 0}, {"share": 0.0}, {"share": 1.5}, {"age_s": 0.0}, {"age_s": 900.0}],
)
def test_thresholds_that_are_never_or_always_met_are_refused(wrong: dict[str, float]) -> None:
    """Each with its field and value."""
    with pytest.raises(InvalidInputError, match=r"vectors\."):
        RefreshThresholds(**wrong)  # type: ignore[arg-type]


def test_names_of_indexes_stand_once_and_unknown_networks_are_told() -> None:
    """Metrics and reports go by these names."""
    with pytest.raises(InvalidInputError, match="'net'"):
        VectorDeclaration(networks=(DECLARED,), adopted=(AdoptedDeclaration(name="net", path="x"),))
    declaration = VectorDeclaration(networks=(DECLARED,), bucket="b", prefix="p/")
    assert (declaration.network("net"), declaration.place) == (DECLARED, "s3://b/p/")
    with pytest.raises(InvalidInputError, match="one of: net"):
        declaration.network("other")


def test_nothing_is_asked_for_while_a_builder_is_at_it() -> None:
    """A live lease says so; one that was released or ran out does not."""
    standing = IndexStanding("net", facts=FACTS)
    lease = Lease("vector_index/net", "host/7", 3, 30.0, NOW, NOW + timedelta(seconds=30))
    asked = [
        refresh_due(backlog(standing, 5, 60, builder), DECLARED, NOW).is_due
        for builder in (None, lease, lease._replace(holder=""), lease._replace(expires_at=NOW))
    ]
    assert asked == [True, False, True, True]
    assert index_health(backlog(standing, 5, 60, lease), DECLARED, NOW).is_building


def test_a_refused_index_is_an_error_that_says_why() -> None:
    """Also one that was published before its target was raised; a good or empty one passes."""
    refused = with_result(IndexStanding("net"), RefreshResult.REFUSED, "best is 0.9", NOW)
    verdict = check_recall([health(refused)])
    assert (verdict.passed, verdict.severity) == (False, Severity.ERROR)
    assert "not published: best is 0.9" in verdict.reason
    strict = NetworkVectors(network_id="net", policy=VectorPolicy(recall_target=0.99))
    raised = index_health(backlog(IndexStanding("net", facts=FACTS)), strict, NOW)
    assert "recall 0.9700, now 0.99 is wanted" in check_recall([raised]).reason
    assert raised.problems() == ["recall 0.9700, wanted 0.99"]
    assert check_recall([health(IndexStanding("net", facts=FACTS))]).numbers["recall_min"] == 0.97
    empty = FACTS._replace(recall=None, recall_low=None, recall_high=None)
    assert check_recall([health(IndexStanding("net", facts=empty))]).passed


def test_a_note_that_waits_too_long_makes_its_index_stale() -> None:
    """With how the last refresh ended, or that there was none."""
    assert check_freshness([health(IndexStanding("net"), 3, 900)]).passed
    never = check_freshness([health(IndexStanding("net"), 3, 901)])
    assert "3 notes wait, the first for 901 s; never refreshed" in never.reason
    failed = with_result(IndexStanding("net"), RefreshResult.FAILED, "no model", NOW)
    found = health(failed, 3, 901)
    assert "failed: no model" in check_freshness([found]).reason
    assert len(found.problems()) == 2


def test_ids_sizes_and_bytes_are_judged_by_what_was_read() -> None:
    """Each claim names what breaks it."""
    sound = IdDrift("net", 20, (), 0, (), 0)
    assert check_ids([sound]).passed
    both = IdDrift("net", 20, ("a",), 1, ("b", "c"), 2)
    assert check_ids([both]).numbers["offenders"] == 2
    sizes = [
        GenerationSize("net", "g1", "Flat", 2000, 2_000_000),
        GenerationSize("net", "g2", "HNSW28,SQ8", 2000, 1_000_000),
        GenerationSize("net", "g3", "Flat", 4000, 9_000_000),
        GenerationSize("net", "tiny", "Flat", 10, 9_000_000),
    ]
    drifted = check_sizes(sizes)
    assert (drifted.passed, drifted.severity) == (False, Severity.WARN)
    assert "1000 bytes per row in g1, 2250 in g3" in drifted.reason
    assert check_sizes(sizes[:2]).passed
    published = IndexStanding("net", facts=FACTS)
    assert check_scrubs([health(published), health(IndexStanding("net"))], NOW).passed
    assert not check_scrubs([health(published)], NOW + SCRUB_AGE_MAX).passed
    damaged = published._replace(scrub=ScrubFacts(NOW, 1, 9000, ("part differs",), 1))
    assert "1 damaged: part differs" in check_scrubs([health(damaged)], NOW).reason
    assert health(damaged).problems() == ["1 damaged: part differs"]


def test_networks_that_are_not_declared_are_nobodys_to_index() -> None:
    """Their notes stay where they are."""
    found = all_health(
        [backlog(IndexStanding("net")), backlog(IndexStanding("gone"))._replace(network_id="gone")],
        VectorDeclaration(networks=(DECLARED,)),
        NOW,
    )
    assert [one.network_id for one in found] == ["net"]


def test_the_exporter_tells_what_is_known_and_nothing_else() -> None:
    """Every family has a reading once all is known; a new network has neither recall nor age."""
    full = with_result(
        IndexStanding("net", facts=FACTS, scrub=ScrubFacts(NOW - timedelta(hours=1), 1, 9000)),
        RefreshResult.PUBLISHED,
        "why",
        NOW,
    )
    found = grouped(index_readings([health(full, 2, 7)], NOW))
    assert set(found) == {family.name for family in FAMILIES}
    values = {name: one[0].value for name, one in found.items()}
    assert values["stateroom_index_age_seconds"] == 300
    assert values["stateroom_index_behind_seconds"] == 7
    assert values["stateroom_index_dead_ratio"] == 0.25
    fresh = grouped(index_readings([health(IndexStanding("net"))], NOW))
    assert set(fresh) == {
        f"stateroom_index_{one}"
        for one in (
            "behind_seconds",
            "max_age_seconds",
            "waiting_notes",
            "recall_floor_ratio",
            "refreshes_total",
        )
    }


def test_refreshes_are_counted_from_0_by_every_end_they_may_have() -> None:
    """A counter that appeared with the first failure would have no rate."""
    ended = with_result(IndexStanding("net"), RefreshResult.FAILED, "why", NOW)
    for standing, failed in ((IndexStanding("net"), 0), (ended, 1)):
        found = grouped(index_readings([health(standing)], NOW))["stateroom_index_refreshes_total"]
        counts = {one.labels: one.value for one in found}
        assert counts == {
            ("net", result.value): failed if result is RefreshResult.FAILED else 0
            for result in RefreshResult
        }


TIMES = st.none() | st.datetimes(timezones=st.just(UTC))


@given(
    st.integers(0, 2**40),
    TIMES,
    st.sampled_from([None, *RefreshResult]),
    st.text(),
    st.booleans(),
)
def test_a_standing_comes_back_as_it_was_written(
    change: int, at: datetime | None, result: RefreshResult | None, reason: str, scrubbed: bool
) -> None:
    """Whatever stands in it."""
    standing = IndexStanding(
        "net",
        "m",
        change,
        3,
        at,
        change,
        FACTS if scrubbed else None,
        result,
        reason,
        at,
        {"published": 3},
        ScrubFacts(NOW, 2, 9, (reason,), 1) if scrubbed else None,
    )
    assert read_standing(standing_text(standing)) == standing


def test_a_standing_of_a_newer_program_and_a_torn_one_are_told_apart() -> None:
    """Neither is taken for an empty one: that would embed everything again in silence."""
    text = standing_text(IndexStanding("net"))
    with pytest.raises(SchemaMismatchError, match="format 2"):
        read_standing(text.replace('"format": 1', '"format": 2'))
    for torn in ("", "{}", "[]", text.replace('"network_id"', '"network"')):
        with pytest.raises(CorruptObjectError, match="cannot be read"):
            read_standing(torn)
