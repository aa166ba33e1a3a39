"""Keys: any one of them opens, a wrong one writes nothing, a shredded network stays shut."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError, PermanentError
from fleet.vault_keys import KeyEncryptionKey, decode_wrap, encode_wrap, unwrap_key, wrap_key
from fleet.vault_keyspace import make_ulid
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import (
    create_data_key,
    create_vault,
    load_data_key,
    read_kek_file,
    read_vault,
)

AT = datetime(2026, 11, 21, tzinfo=UTC)
REGION, OFFLINE, NEXT = (
    KeyEncryptionKey(name, name.encode().ljust(32, b"."))
    for name in ("region", "offline", "region-2")
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """An empty store."""
    return DirectoryObjectStore(tmp_path / "vault")


def test_a_vault_is_made_once_and_keeps_its_id(store: DirectoryObjectStore) -> None:
    """And a store without one says so."""
    with pytest.raises(NotFoundError, match="no vault"):
        read_vault(store)
    assert create_vault(store, AT) == create_vault(store, AT) == read_vault(store)


def test_each_key_alone_opens_the_data_key(store: DirectoryObjectStore) -> None:
    """Losing one of two keys loses nothing; the data key never stands in the store or a text."""
    keys = create_data_key(store, "net", [REGION, OFFLINE])
    assert load_data_key(store, "net", [REGION]) == load_data_key(store, "net", [OFFLINE]) == keys
    assert create_data_key(store, "net", [OFFLINE, REGION]) == keys
    for listed in store.list_objects(""):
        stored = store.get(listed.key)
        assert keys.data_key not in stored
        assert keys.data_key.hex().encode() not in stored
    assert REGION.key.hex() not in repr(REGION)
    assert "region..." not in repr(REGION)


@pytest.mark.parametrize(
    "keks", [[], [REGION], [REGION, REGION], [REGION, KeyEncryptionKey("copy", REGION.key)]]
)
def test_fewer_than_two_different_keys_are_refused(
    store: DirectoryObjectStore, keks: list[KeyEncryptionKey]
) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidInputError, match="at least 2 different"):
        create_data_key(store, "net", keks)
    assert store.list_objects("") == []


def test_wrong_missing_and_foreign_keys_are_one_clear_error(store: DirectoryObjectStore) -> None:
    """The message says which wraps there are."""
    with pytest.raises(NotFoundError, match="no data key"):
        load_data_key(store, "net", [REGION])
    create_data_key(store, "net", [REGION, OFFLINE])
    wrong = KeyEncryptionKey("region", b"w" * 32)
    with pytest.raises(PermanentError, match=r"wrapped by offline, region; given region.*wrong"):
        load_data_key(store, "net", [wrong])
    with pytest.raises(PermanentError, match="none of the given keys has a wrap"):
        load_data_key(store, "net", [NEXT])
    with pytest.raises(PermanentError, match="given none"):
        load_data_key(store, "net", [])
    assert load_data_key(store, "net", [wrong, OFFLINE])


def test_a_wrap_does_not_open_in_another_place() -> None:
    """Bound to network, data key and wrapping key; altered or cut it does not open."""
    wrap = wrap_key(b"d" * 32, REGION, "net.0001", "net", b"n" * 12)
    assert decode_wrap(encode_wrap(wrap), "k") == wrap
    assert unwrap_key(wrap, REGION) == b"d" * 32
    for other in (
        wrap._replace(network_id="other"),
        wrap._replace(dek_id="net.0002"),
        wrap._replace(wrapped=wrap.wrapped[:-1]),
        wrap._replace(wrapped=bytes([wrap.wrapped[0] ^ 1]) + wrap.wrapped[1:]),
    ):
        with pytest.raises(PermanentError, match="wrong key, or the wrap was altered"):
            unwrap_key(other, REGION)
    for damaged in (b"", b"{}", b"[]", encode_wrap(wrap)[:-1], b'{"format":2}'):
        with pytest.raises(CorruptObjectError, match="key file k"):
            decode_wrap(damaged, "k")


def test_key_files_are_hex_or_raw(tmp_path: Path) -> None:
    """Anything else is refused with the file's name, never with its content."""
    path = tmp_path / "kek"
    for content in (b"k" * 32, (b"k" * 32).hex().encode() + b"\n"):
        path.write_bytes(content)
        assert read_kek_file("region", path).key == b"k" * 32
    for bad in (b"", b"k" * 31, b"z" * 64):
        path.write_bytes(bad)
        with pytest.raises(InvalidInputError, match="key file"):
            read_kek_file("region", path)
    with pytest.raises(NotFoundError, match="No such file"):
        read_kek_file("region", tmp_path / "none")


def test_ids_sort_by_time() -> None:
    """Equal length, later is greater, whatever the entropy."""
    early = make_ulid(AT, b"\xff" * 10)
    late = make_ulid(AT.replace(year=2027), b"\x00" * 10)
    assert len(early) == len(late) == 26
    assert early < late
