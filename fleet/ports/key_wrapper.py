"""A key-encryption key as the vault uses it: it wraps data keys, and opens its own wraps."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol

LOCAL_ALGORITHM = "AES-256-GCM"
"""Wrapped by a key at hand."""
KMS_ALGORITHM = "AWS-KMS"
"""Wrapped by a key that never leaves AWS KMS."""


class WrappedKey(NamedTuple):
    """A data key as one key-encryption key wraps it."""

    dek_id: str
    kek_id: str
    network_id: str
    nonce: bytes
    """Empty where the wrapping service keeps its own."""
    wrapped: bytes
    algorithm: str = LOCAL_ALGORITHM
    created_at: datetime | None = None
    """When the data key was made; None in wraps of the first code, and not authenticated."""


class KeyWrapper(Protocol):
    """A key-encryption key, wherever its bytes are: at hand, or in a key service.

    Both directions are bound to network and data key id: a wrap opens in no other place.
    """

    @property
    def kek_id(self) -> str:
        """Its name, also that of its wraps."""
        ...

    @property
    def identity(self) -> str:
        """Equal for two names of one key; tells nothing about its bytes."""
        ...

    def wrap(self, data_key: bytes, dek_id: str, network_id: str, nonce: bytes) -> WrappedKey:
        """Wrap a data key.

        Args:
            data_key: 32 bytes.
            dek_id: id of the data key.
            network_id: whose data it seals.
            nonce: 12 fresh random bytes, for adapters that have no chance of their own.

        Raises:
            PermanentError: the key may not be used, is disabled, or does not exist.
            TransientError: the key service does not answer.
        """
        ...

    def unwrap(self, wrap: WrappedKey) -> bytes:
        """The data key inside a wrap.

        Raises:
            PermanentError: another key made this wrap, it was altered or moved, or the key may not
                be used.
            TransientError: the key service does not answer.
        """
        ...
