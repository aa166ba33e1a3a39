"""When an earlier cut may be gone on from: never on a doubt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import CorruptObjectError
from fleet.inventory import AgentStateInfo
from fleet.state_cuts import (
    ChangeCursor,
    CutFacts,
    columns_of,
    cursor_fields,
    cursor_of,
    explain_broken,
    state_columns,
)

CURSOR = ChangeCursor(41, "token", "moves")
KNOWN = CutFacts("token", "moves", has_entry=True)
AT = datetime(2026, 11, 21, 9, 30, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "facts", "reason"),
    [
        (CURSOR, KNOWN, ""),
        (None, KNOWN, "no earlier cut is known"),
        (CURSOR, KNOWN._replace(token="other"), "it is another one, or was put back"),
        (CURSOR, KNOWN._replace(token=""), "it is another one, or was put back"),
        (CURSOR._replace(token=""), KNOWN._replace(token=""), "it is another one, or was put back"),
        (CURSOR, KNOWN._replace(moves="later"), "a state was deleted, or an agent changed"),
        (CURSOR._replace(moves=""), KNOWN, "a state was deleted, or an agent changed"),
        (CURSOR, KNOWN._replace(has_entry=False), "no longer holds entry 41"),
    ],
)
def test_a_cut_is_gone_on_from_only_where_nothing_speaks_against_it(
    since: ChangeCursor | None, facts: CutFacts, reason: str
) -> None:
    """Each single doubt is a reason of its own; without any there is none."""
    found = explain_broken(since, facts)
    assert reason in found
    assert bool(found) == bool(reason)


@given(st.builds(ChangeCursor, st.integers(0, 2**63 - 1), st.text(), st.text()))
def test_a_cursor_comes_back_from_a_record_as_it_was(cursor: ChangeCursor) -> None:
    """By its fields, whatever else stands in the entry."""
    assert cursor_of({"taken_at": "then", "cursor": cursor_fields(cursor)}) == cursor


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"change_id": 41},
        {"cursor": None},
        {"cursor": "41"},
        {"cursor": {"change_id": "41", "token": "t", "moves": "m"}},
        {"cursor": {"change_id": 41, "moves": "m"}},
        {"cursor": {"change_id": 41, "token": "t", "moves": None}},
    ],
)
def test_an_entry_of_another_version_names_no_cursor(entry: dict[str, object] | None) -> None:
    """Then every state is compared, which is always right."""
    assert cursor_of(entry) is None


def test_columns_hold_what_the_records_say() -> None:
    """In the same order; a digest that is none is named with its agent."""
    infos = [
        AgentStateInfo(f"agent-{n}", "net", "eu", n, 1, n * 10, f"{n:064x}", AT) for n in (1, 2)
    ]
    columns = columns_of(infos)
    assert list(columns.agent_ids) == ["agent-1", "agent-2"]
    assert (list(columns.versions), list(columns.sizes)) == ([1, 2], [10, 20])
    assert columns.digests == bytes(31) + b"\x01" + bytes(31) + b"\x02"
    assert set(columns.updated_us) == {1_795_253_400_000_007}
    for digest in ("", "zz" * 32, "00" * 31, "00" * 33):
        with pytest.raises(CorruptObjectError, match="agent a"):
            state_columns([("a", 1, 1, digest, 0)])
