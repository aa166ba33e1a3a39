"""Key-encryption keys that never leave AWS KMS: data keys are wrapped and opened by its API.

Each wrap is bound to network and data key by KMS's encryption context, so KMS itself refuses a wrap
that was moved, and its audit trail names the network of every opening.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fleet.errors import InvalidInputError, PermanentError, TransientError
from fleet.names import validate_name
from fleet.pack_keys import KEY_BYTES
from fleet.ports.key_wrapper import KMS_ALGORITHM, WrappedKey

_HINTS: Mapping[str, str] = {
    "AccessDeniedException": "Allow kms:Encrypt and kms:Decrypt on this key to this role.",
    "DisabledException": "Enable the key, or give another key that wraps the data key.",
    "KMSInvalidStateException": "Cancel the key's deletion, or give another key.",
    "NotFoundException": "Check the key's id and region.",
    "InvalidCiphertextException": (
        "The wrap was altered, or belongs to another network, data key or KMS key."
    ),
    "IncorrectKeyException": "Give the KMS key that made the wrap.",
    "ExpiredTokenException": "Renew the credentials, then run it again.",
    "UnrecognizedClientException": "Check the credentials.",
    "InvalidSignatureException": "Check the credentials and this machine's clock.",
}
"""What the operator does, by KMS's error code (KMS API reference, Encrypt and Decrypt)."""
_TRANSIENT = {
    "ThrottlingException",
    "KMSInternalException",
    "DependencyTimeoutException",
    "KeyUnavailableException",
    "ServiceUnavailableException",
    "InternalFailure",
    "LimitExceededException",
}


class KmsKeyWrapper:
    """The `KeyWrapper` port on one KMS key.

    Args:
        client: a boto3 KMS client with its own endpoint, credentials, time limits and retries.
        kek_id: name of the key in the vault.
        key_id: id, ARN or alias in KMS; it is not stored in the vault.
    """

    def __init__(self, client: Any, kek_id: str, key_id: str) -> None:
        """Refuse a bad name; KMS is not asked before the first call."""
        self._client = client
        self._kek_id = validate_name("kek_id", kek_id)
        if not key_id.strip():
            raise InvalidInputError(f"KMS key of {kek_id}", key_id, "an id, ARN or alias")
        self._key_id = key_id

    def __repr__(self) -> str:
        return f"KmsKeyWrapper(kek_id={self._kek_id!r}, key_id={self._key_id!r})"

    @property
    def kek_id(self) -> str:
        """See `fleet.ports.key_wrapper.KeyWrapper.kek_id`."""
        return self._kek_id

    @property
    def identity(self) -> str:
        """See `fleet.ports.key_wrapper.KeyWrapper.identity`; as far as its id in KMS tells."""
        return f"kms:{self._key_id}"

    def wrap(
        self,
        data_key: bytes,
        dek_id: str,
        network_id: str,
        nonce: bytes,  # noqa: ARG002 - KMS draws its own
    ) -> WrappedKey:
        """See `fleet.ports.key_wrapper.KeyWrapper.wrap`."""
        if len(data_key) != KEY_BYTES:
            raise InvalidInputError("data_key", f"{len(data_key)} bytes", f"{KEY_BYTES} bytes")
        with self._translated("wrap", dek_id):
            answer = self._client.encrypt(
                KeyId=self._key_id,
                Plaintext=data_key,
                EncryptionContext=_context(dek_id, network_id),
            )
        sealed: bytes = answer["CiphertextBlob"]
        return WrappedKey(dek_id, self._kek_id, network_id, b"", sealed, KMS_ALGORITHM)

    def unwrap(self, wrap: WrappedKey) -> bytes:
        """See `fleet.ports.key_wrapper.KeyWrapper.unwrap`."""
        if wrap.algorithm != KMS_ALGORITHM:
            raise PermanentError(
                f"data key {wrap.dek_id}: the wrap of {wrap.kek_id} is of {wrap.algorithm}, "
                f"key {self._kek_id} is of {KMS_ALGORITHM}",
                hint="Two different keys share this name; give the one that made the wrap.",
            )
        with self._translated("open", wrap.dek_id):
            answer = self._client.decrypt(
                KeyId=self._key_id,
                CiphertextBlob=wrap.wrapped,
                EncryptionContext=_context(wrap.dek_id, wrap.network_id),
            )
        data_key: bytes = answer["Plaintext"]
        return data_key

    @contextmanager
    def _translated(self, verb: str, dek_id: str) -> Iterator[None]:
        """Turn what boto3 raises into one clear error; no request or key bytes are repeated."""
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        what = f"KMS key {self._kek_id} ({self._key_id}) cannot {verb} data key {dek_id}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _TRANSIENT or (code not in _HINTS and status >= 500):
                raise TransientError(f"{what}: {code}", hint="Try again later.") from error
            hint = _HINTS.get(code, "See KMS's documentation of this error.")
            raise PermanentError(f"{what}: {code}", hint=hint) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise TransientError(
                f"{what}: {type(error).__name__}",
                hint="Check that KMS's endpoint is reachable, or give another key.",
            ) from error


def _context(dek_id: str, network_id: str) -> dict[str, str]:
    return {"network_id": network_id, "dek_id": dek_id}
