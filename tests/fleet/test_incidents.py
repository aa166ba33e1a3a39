"""Which changes of an incident are allowed, and which incident a person means."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, LeaseLostError, NotFoundError, VersionConflictError
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    decide_incident_update,
    incident_id,
    open_header,
    select_incident,
)
from fleet.operator_orders import (
    Maintenance,
    find_maintenance,
    maintenance_subject,
    select_live_maintenances,
)
from tests.fleet.incident_records import AT, ended, header_of, later

changes = st.builds(
    lambda state, term, revision, ended_s, outcome, wait: header_of()._replace(
        state=state,
        term=term,
        revision=revision,
        ended_at=None if ended_s is None else later(ended_s),
        outcome=outcome,
        waits_for=wait,
    ),
    st.sampled_from(IncidentState),
    st.integers(0, 6),
    st.integers(1, 3),
    st.none() | st.integers(0, 9),
    st.sampled_from(["", " ", "over"]),
    st.sampled_from(["", "plan"]),
)


@given(changes, changes)
def test_a_change_is_allowed_exactly_when_every_rule_holds(
    stored: IncidentHeader, wanted: IncidentHeader
) -> None:
    """The rules one by one, as a list of conditions."""
    over = wanted.state == IncidentState.ENDED
    allowed = [
        wanted.term >= stored.term,
        wanted.revision == stored.revision,
        stored.state != IncidentState.ENDED,
        (stored.state, wanted.state) != (IncidentState.ACTING, IncidentState.OPEN),
        over == (wanted.ended_at is not None),
        over == bool(wanted.outcome.strip()),
        not (over and wanted.waits_for),
    ]
    assert (decide_incident_update(stored, wanted) is None) == all(allowed)


def test_the_right_to_act_is_judged_before_everything_else() -> None:
    """A replaced controller must learn that it was replaced, not that it should try again."""
    stored = ended(header_of())._replace(term=9, revision=5)
    assert isinstance(decide_incident_update(stored, header_of()), LeaseLostError)
    newer = header_of()._replace(term=9)
    assert isinstance(decide_incident_update(stored, newer), VersionConflictError)
    same = newer._replace(revision=5)
    assert isinstance(decide_incident_update(stored, same), InvalidInputError)
    assert isinstance(decide_incident_update(None, same), NotFoundError)


def test_an_id_says_kind_subject_and_second_in_utc() -> None:
    """The same moment in another zone is the same id, and a given id is taken as it is."""
    opening = IncidentOpening(IncidentKind.REGION, "eu", "eu", "why", AT)
    assert incident_id(opening) == "region-eu-20260301T031204"
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    assert incident_id(opening._replace(opened_at=elsewhere)) == incident_id(opening)
    assert open_header(opening._replace(incident_id="mine")).incident_id == "mine"


def test_a_person_means_an_incident_by_id_beginning_or_subject() -> None:
    """A subject means its newest incident; what is ambiguous is refused with what there is."""
    newest, older, other = header_of(opened_s=60), header_of(), header_of("node-30")
    found = [newest, older, other]
    assert select_incident(found, "node-3") is newest
    assert select_incident(found, older.incident_id) is older
    assert select_incident(found, "node-node-30") is other
    with pytest.raises(NotFoundError, match="node-node-3-20260301T031304"):
        select_incident(found, "node-node-3-")
    for wanted in ("", "nothing"):
        with pytest.raises(NotFoundError, match="none"):
            select_incident(found, wanted)


def test_a_mark_covers_its_node_or_its_whole_region_until_its_end() -> None:
    """The end is exclusive; the node's own mark is named before its region's."""
    mark = Maintenance("node/n1", AT, later(60), "kim", "disk")
    wide = Maintenance("region/eu", AT, later(90), "lee", "power")
    assert find_maintenance([wide, mark], "n1", "eu", later(59)) == mark
    assert find_maintenance([wide, mark], "n1", "eu", later(60)) == wide
    assert find_maintenance([wide, mark], "n2", "eu", later(90)) is None
    assert find_maintenance([mark], "n2", "eu", AT) is None
    assert select_live_maintenances([mark, wide], later(60)) == [wide]
    assert maintenance_subject("region", "eu") == "region/eu"
    with pytest.raises(InvalidInputError, match="node or region"):
        maintenance_subject("rack", "r1")


def test_a_naive_time_is_no_moment() -> None:
    """It would mean another moment on every machine."""
    opening = IncidentOpening(IncidentKind.NODE, "n", "eu", "why", datetime(2026, 3, 1))  # noqa: DTZ001
    with pytest.raises(InvalidInputError, match="aware"):
        open_header(opening)
