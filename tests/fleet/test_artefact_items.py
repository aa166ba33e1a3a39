"""Items of artefacts: ids that cannot collide, paths that cannot climb out, a rule about time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.artefact_items import (
    RACY_NS,
    ROOT,
    ItemAttributes,
    decode_attributes,
    encode_attributes,
    is_unchanged,
    item_id_of,
    path_of,
)
from fleet.errors import CorruptObjectError

NAMES = st.binary(min_size=1, max_size=8).map(
    lambda one: one.replace(b"\x00", b"n").replace(b"/", b"s").replace(b".", b"d")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join) | st.just(ROOT)


@given(one=PATHS, other=PATHS)
def test_every_path_comes_back_from_its_id_and_no_two_share_one(one: bytes, other: bytes) -> None:
    """Whatever bytes the names are made of; the id is text that every store can hold."""
    first, second = item_id_of("a", one), item_id_of("a", other)
    assert path_of(first) == one
    assert (first == second) == (one == other)
    first.encode()


@pytest.mark.parametrize(
    "path", ["", "/", "/etc/passwd", "..", "a/../../b", "a//b", "a/", "./a", "a/.", "\x00%2E%2E/x"]
)
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    """Also in the escaped form."""
    with pytest.raises(CorruptObjectError, match="outside its artefact"):
        path_of(f"a/{path}")


ATTRIBUTES = st.builds(
    ItemAttributes,
    type=st.sampled_from(["file", "folder", "link"]),
    mode=st.integers(0, 0o7777),
    mtime_ns=st.integers(-(2**62), 2**62),
    stamp=st.lists(st.integers(0, 2**64), max_size=9).map(tuple),
    chunker=st.sampled_from(["", "fixed-64KiB"]),
    hard_link=st.lists(st.integers(0, 2**64), max_size=2).map(tuple),
)


@given(attributes=ATTRIBUTES)
def test_attributes_come_back(attributes: ItemAttributes) -> None:
    """Defaults are left out, and are there again."""
    assert decode_attributes(encode_attributes(attributes), "a/b") == attributes


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"type":"pipe"}', '{"type":"file","stamp":["x"]}', '{"x":1}']
)
def test_damaged_attributes_are_refused(text: str) -> None:
    """Never half read."""
    with pytest.raises(CorruptObjectError):
        decode_attributes(text, "a/b")


SEEN = ItemAttributes("file", mode=0o644, stamp=(5, 10**18, 7, 10**18), changed_ns=10**18)


@pytest.mark.parametrize(
    ("after_ns", "expected"), [(RACY_NS + 1, True), (RACY_NS, False), (0, False), (-1, False)]
)
def test_a_file_is_unread_only_when_its_times_were_old_when_they_were_seen(
    after_ns: int, expected: bool
) -> None:
    """Two seconds and no less; a time from the future never counts as old."""
    before = SEEN._replace(seen_ns=SEEN.changed_ns + after_ns)
    assert is_unchanged(before, SEEN._replace(seen_ns=2 * 10**18)) is expected


@pytest.mark.parametrize(
    "change", [{"stamp": (6, 10**18, 7, 10**18)}, {"mode": 0o600}, {"uid": 5}, {"stamp": ()}]
)
def test_any_difference_makes_a_file_read(change: dict[str, object]) -> None:
    """What has no stamp is always read."""
    before = SEEN._replace(seen_ns=2 * 10**18)
    assert is_unchanged(before, SEEN)
    assert not is_unchanged(before, SEEN._replace(**change))
    if "stamp" in change:
        assert not is_unchanged(before._replace(**change), SEEN._replace(stamp=()))
