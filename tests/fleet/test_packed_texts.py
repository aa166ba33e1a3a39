"""Packed texts are a sequence like any other, in less memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.packed_texts import pack_texts

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=12)


@given(TEXTS, TEXTS, st.slices(12))
def test_packed_texts_read_as_the_list_they_were_made_of(
    texts: list[str], others: list[str], part: slice
) -> None:
    """By number from both ends, by slice, one after the other, compared."""
    packed = pack_texts(texts)
    assert list(packed) == texts
    assert [packed[at] for at in range(-len(texts), len(texts))] == [*texts, *texts]
    assert packed[part] == texts[part]
    assert (packed == pack_texts(others)) == (texts == others)
    assert hash(packed) == hash(pack_texts(texts))
    assert packed != texts
    for beyond in (len(texts), -len(texts) - 1):
        with pytest.raises(IndexError):
            packed[beyond]
    assert repr(packed).startswith(f"PackedTexts({len(texts)} texts")
