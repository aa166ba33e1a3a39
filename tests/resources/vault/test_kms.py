"""KMS as a key-encryption key, over its protocol on loopback: each refusal is one clear error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import InvalidInputError, PermanentError, StateroomError, TransientError
from fleet.ports.key_wrapper import KMS_ALGORITHM
from fleet.vault_keys import KeyEncryptionKey, decode_wrap, encode_wrap, unwrap_key
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_store import create_data_key, load_data_key
from resources.vault.keys.kms import KmsKeyWrapper
from resources.vault.retention.key_rotation import rotate_kek
from tests.fakes.fault_proxy import FaultProxy, fault_proxy, since
from tests.servers.moto_server import aws_client, moto_server

OFFLINE = KeyEncryptionKey("offline", b"o" * 32)
DATA_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """KMS on loopback."""
    with moto_server() as url:
        yield url


@pytest.fixture
def proxy(endpoint: str) -> Iterator[FaultProxy]:
    """In front of KMS."""
    with fault_proxy(endpoint) as running:
        yield running


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Any]:
    """A client of KMS through the proxy, patient for two seconds."""
    with aws_client("kms", proxy.url, read_timeout_s=2) as running:
        yield running


@pytest.fixture
def kek(endpoint: str, client: Any) -> KmsKeyWrapper:
    """A fresh KMS key; KMS has answered once, and does so quickly from now on."""
    with aws_client("kms", endpoint, read_timeout_s=60) as patient:
        key_id = patient.create_key()["KeyMetadata"]["KeyId"]
    return KmsKeyWrapper(client, "region", key_id)


def test_a_data_key_is_wrapped_and_opened_in_its_own_place_only(kek: KmsKeyWrapper) -> None:
    """The wrap survives its file form; network and data key are bound to it."""
    wrap = kek.wrap(DATA_KEY, "net.0001", "net", b"n" * 12)
    assert wrap.algorithm == KMS_ALGORITHM
    assert kek.unwrap(decode_wrap(encode_wrap(wrap), "k")) == DATA_KEY
    assert DATA_KEY not in encode_wrap(wrap)
    assert DATA_KEY.hex().encode() not in encode_wrap(wrap)
    for moved in (
        wrap._replace(network_id="other"),
        wrap._replace(dek_id="net.0002"),
        wrap._replace(wrapped=wrap.wrapped[:-1] + bytes([wrap.wrapped[-1] ^ 1])),
    ):
        with pytest.raises(PermanentError, match="InvalidCiphertext") as caught:
            kek.unwrap(moved)
        assert "another network" in caught.value.hint


def test_a_wrap_does_not_open_with_another_kind_of_key(kek: KmsKeyWrapper) -> None:
    """Two keys of one name are told apart."""
    local = KeyEncryptionKey("region", b"r" * 32)
    with pytest.raises(PermanentError, match="is of AES-256-GCM"):
        kek.unwrap(local.wrap(DATA_KEY, "net.0001", "net", b"n" * 12))
    with pytest.raises(PermanentError, match="is of AWS-KMS"):
        unwrap_key(kek.wrap(DATA_KEY, "net.0001", "net", b"n" * 12), local)
    with pytest.raises(InvalidInputError, match="data_key"):
        kek.wrap(b"short", "net.0001", "net", b"n" * 12)
    with pytest.raises(InvalidInputError, match="KMS key of region"):
        KmsKeyWrapper(None, "region", " ")


@pytest.mark.parametrize(
    ("fault", "kind", "text", "hint"),
    [
        ("json:AccessDeniedException", PermanentError, "AccessDenied", "Allow kms:Encrypt"),
        ("json:DisabledException", PermanentError, "Disabled", "Enable the key"),
        ("json:KMSInvalidStateException", PermanentError, "InvalidState", "deletion"),
        ("json:NotFoundException", PermanentError, "NotFound", "id and region"),
        ("json:ExpiredTokenException", PermanentError, "ExpiredToken", "Renew"),
        ("json:ThrottlingException", TransientError, "Throttling", "later"),
        ("json:KMSInternalException", TransientError, "KMSInternal", "later"),
        ("timeout_before", TransientError, "ReadTimeout", "reachable"),
        ("reset_before", TransientError, "Connection", "reachable"),
    ],
)
def test_each_refusal_is_one_clear_error(
    proxy: FaultProxy, kek: KmsKeyWrapper, fault: str, kind: type, text: str, hint: str
) -> None:
    """It names key, data key and KMS's code, and no key's bytes, in wrapping as in opening."""
    wrap = kek.wrap(DATA_KEY, "net.0001", "net", b"n" * 12)
    proxy.set_plan(since(1, fault))
    for verb, attempt in (
        ("wrap", lambda: kek.wrap(DATA_KEY, "net.0001", "net", b"n" * 12)),
        ("open", lambda: kek.unwrap(wrap)),
    ):
        with pytest.raises(
            kind, match=rf"KMS key region.*cannot {verb} data key net\.0001.*{text}"
        ) as caught:
            attempt()
        assert hint in caught.value.hint
        shown = "".join(traceback.format_exception(caught.value)) + repr(kek)
        assert repr(DATA_KEY)[2:30] not in shown
        assert DATA_KEY.hex() not in shown


def test_a_network_opens_without_kms_when_another_key_is_at_hand(
    tmp_path: Path, proxy: FaultProxy, kek: KmsKeyWrapper
) -> None:
    """KMS that hangs is waited for once; alone it is an error that asks to try later."""
    store = DirectoryObjectStore(tmp_path)
    keys = create_data_key(store, "net", [kek, OFFLINE])
    assert load_data_key(store, "net", [kek]) == keys
    proxy.set_plan(since(1, "timeout_before"))
    assert load_data_key(store, "net", [kek, OFFLINE]) == keys
    assert proxy.count == 1
    with pytest.raises(TransientError, match="no key opens its data key"):
        load_data_key(store, "net", [kek])
    proxy.set_plan(since(1, "json:AccessDeniedException"))
    with pytest.raises(PermanentError, match="AccessDenied"):
        load_data_key(store, "net", [kek])


def test_a_kms_that_refuses_lets_nothing_be_written(
    tmp_path: Path, proxy: FaultProxy, kek: KmsKeyWrapper
) -> None:
    """A new network is not begun half; an exchange deletes no wrap; both succeed afterwards."""
    store = DirectoryObjectStore(tmp_path)
    late = KeyEncryptionKey("zzz", b"z" * 32)
    proxy.set_plan(since(1, "json:DisabledException"))
    for other in (late, OFFLINE):
        with pytest.raises(StateroomError, match="Disabled"):
            create_data_key(store, "net", [kek, other])
        assert store.list_objects("") == []
    keys = create_data_key(store, "net", [OFFLINE, late])
    with pytest.raises(StateroomError, match="Disabled"):
        rotate_kek(store, "net", [OFFLINE], add=[kek], remove=["zzz"])
    assert load_data_key(store, "net", [late]) == keys
    proxy.set_plan(lambda _: None)
    rotate_kek(store, "net", [OFFLINE], add=[kek], remove=["zzz"])
    assert load_data_key(store, "net", [kek]) == keys
