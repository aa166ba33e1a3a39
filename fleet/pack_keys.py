"""The data keys of a network, and what is derived from them: pack keys, blob ids, log keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet.errors import InvalidInputError, PermanentError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PackKeys:
    """The data keys of one network: what seals and opens its packs and manifests.

    The first one authenticates the log and keys the blob ids for as long as the network lives, so
    equal blobs meet across rotations. The newest one seals; each object names in its header the
    one that sealed it.
    """

    data_key: bytes = field(repr=False)
    """The network's first data key."""
    dek_id: str
    """Of the first one."""
    network_id: str
    later: tuple[PackKeys, ...] = ()
    """Those that rotation added, oldest first."""
    unopened: tuple[str, ...] = ()
    """Ids of usable data keys that no key at hand opened."""
    may_seal: bool = True
    """False for a later key with too few wraps: a rotation that has not been completed."""

    def __post_init__(self) -> None:
        """Refuse a key of the wrong length before anything is sealed with it."""
        if len(self.data_key) != KEY_BYTES:
            raise InvalidInputError("data_key", f"{len(self.data_key)} bytes", f"{KEY_BYTES} bytes")

    @property
    def newest(self) -> PackKeys:
        """What seals new objects.

        Raises:
            PermanentError: a newer data key exists that was not opened: sealing with an older one
                would undo a rotation.
        """
        found = next((one for one in reversed(self.later) if one.may_seal), self)
        newer = [one for one in self.unopened if one > found.dek_id]
        if newer:
            raise PermanentError(
                f"network {self.network_id}: its newest data key {max(newer)} was not opened",
                hint="Give a key that wraps it; nothing was written.",
            )
        return found

    def opening(self, dek_id: str) -> PackKeys:
        """What opens objects that name this data key; empty means the first one.

        Raises:
            PermanentError: it is not among those that were opened.
        """
        for one in (self, *self.later):
            if dek_id in {"", one.dek_id}:
                return one
        raise PermanentError(
            f"network {self.network_id}: data key {dek_id} is needed and was not opened",
            hint="Open the network again with a key that wraps it; it may be new or shredded.",
        )

    def blob_id(self, plain: bytes) -> bytes:
        """Keyed BLAKE3 of a blob: equal blobs meet, and nobody else can test for a known one."""
        return blake3(plain, key=derive_key(self.data_key, b"", b"stateroom blob id")).digest()

    def cipher(self, salt: bytes) -> AESGCM:
        """The cipher of one pack; each salt gives a key of its own, so nonces may count frames."""
        info = b"stateroom pack" + self.network_id.encode()
        return AESGCM(derive_key(self.data_key, salt, info))


@lru_cache(maxsize=256)
def derive_key(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256: a key for one purpose (`info`) from a data key (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(key)
