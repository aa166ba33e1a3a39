"""An approval reads back as it was given; what only looks like one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.approvals import Approval, decode_approval, encode_approval, fold_approvals
from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.vault_log import EvidenceRecord, UndeleteRecord

texts = st.text(min_size=1).filter(str.strip)
approvals = st.builds(
    Approval, texts, st.lists(texts, max_size=4).map(sorted).map(tuple), texts, texts
)


@settings(deadline=None)
@given(approvals)
def test_an_approval_reads_back(approval: Approval) -> None:
    """Whatever its texts hold."""
    assert decode_approval(encode_approval(approval)) == approval


@settings(deadline=None)
@given(st.lists(approvals, max_size=6))
def test_all_approved_ids_are_found_and_the_newest_word_on_a_snapshot_counts(
    given_ones: list[Approval],
) -> None:
    """Among records that are none."""
    records = [encode_approval(one) for one in given_ones]
    found = fold_approvals([UndeleteRecord("x"), *records, EvidenceRecord("note", "{}")])
    assert found.forgets == {name for one in given_ones for name in one.snapshots}
    words = {one.subject: f"{one.by}: {one.reason}" for one in given_ones if not one.snapshots}
    assert found.snapshots == words


@pytest.mark.parametrize("name", ["subject", "by", "reason"])
def test_an_approval_without_subject_person_or_reason_is_refused(name: str) -> None:
    """The error names what is missing."""
    approval = Approval("s", (), "ada", "why")._replace(**{name: " "})
    with pytest.raises(InvalidInputError, match=rf"approval\.{name}"):
        encode_approval(approval)


@pytest.mark.parametrize(
    "detail",
    [
        "",
        "[]",
        "{}",
        '{"approve":"s","by":"a","reason":"r"}',
        '{"approve":1,"by":"a","reason":"r","snapshots":[]}',
        '{"approve":"s","by":"a","reason":"r","snapshots":[1]}',
        '{"approve":"s","by":"a","reason":"r","snapshots":null}',
    ],
)
def test_a_record_that_calls_itself_an_approval_and_is_none_is_corrupt(detail: str) -> None:
    """It is not passed over: somebody's word may be lost."""
    with pytest.raises(CorruptObjectError, match="approval record"):
        decode_approval(EvidenceRecord("approve", detail))
