"""Names are safe as file names, labels, keys and URL segments."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.names import NAME_MAX_CHARS, is_name, validate_name, validate_text

ALPHABET = set(string.ascii_letters + string.digits + "._-")


@given(st.text(max_size=NAME_MAX_CHARS + 2))
def test_a_name_never_holds_a_character_outside_the_alphabet(value: str) -> None:
    """Whatever passes is made of letters, digits and three marks, and never climbs a path."""
    if is_name(value):
        assert set(value) <= ALPHABET
        assert ".." not in value
        assert 1 <= len(value) <= NAME_MAX_CHARS


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a..b", "../etc", "a/b", "a\x00b", "a\n", "-a", "a-", "é", "a" * 129]
)
def test_a_dangerous_name_is_refused_with_field_and_value(value: str) -> None:
    """Path traversal, control characters and blanks are named in the error."""
    with pytest.raises(InvalidInputError) as caught:
        validate_name("agent_id", value)
    assert caught.value.field == "agent_id"
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", ["a", "A1", "node-1.eu_2", "a" * 128])
def test_an_ordinary_name_passes_unchanged(value: str) -> None:
    """Validation returns its input."""
    assert validate_name("agent_id", value) == value


@given(st.text(st.characters(exclude_categories=(), include_characters="\x00\ud800")))
def test_text_passes_exactly_when_every_store_can_hold_it(value: str) -> None:
    """UTF-8 must be able to encode it, and PostgreSQL holds no NUL."""
    try:
        storable = b"\x00" not in value.encode()
    except UnicodeEncodeError:
        storable = False
    if storable:
        assert validate_text("note.text", value) is value
    else:
        with pytest.raises(InvalidInputError, match=r"note\.text"):
            validate_text("note.text", value)
