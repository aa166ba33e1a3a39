"""Where each object of a vault lies, and the ids that sort by time.

One place for the key layout of `docs/formats/backup.md`, so that writer, reader, collector and
replica cannot disagree on it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError

VAULT_KEY = "vault.json"
ULID_ENTROPY_BYTES = 10
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_SEGMENT_KEY = re.compile(r"journal/[^/]+/(?P<epoch>[0-9]{4,})/(?P<seq>[0-9]{10,})\.segment")
_SUFFIXES = {"packs": ".pack", "manifests": ".manifest"}


class SegmentPlace(NamedTuple):
    """Where a journal segment stands; sorts in the order of the journal."""

    epoch: int
    seq: int


class PackPlace(NamedTuple):
    """Which object holds a pack or a manifest."""

    owner: str
    """Id of the snapshot attempt that wrote it."""
    sha256: str
    size_bytes: int


def make_ulid(at: datetime, entropy: bytes) -> str:
    """26 characters that sort by time: 48 bits of milliseconds, 80 bits of chance (ULID)."""
    if len(entropy) != ULID_ENTROPY_BYTES:
        raise InvalidInputError("entropy", f"{len(entropy)} bytes", f"{ULID_ENTROPY_BYTES} bytes")
    number = int(at.timestamp() * 1000) << 80 | int.from_bytes(entropy)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def dek_id_of(network_id: str, number: int = 1) -> str:
    """Id of a network's data key."""
    return f"{network_id}.{number:04d}"


def wrap_key_prefix(dek_id: str) -> str:
    """Folder of a data key's wraps."""
    return f"keys/{dek_id}/"


def pack_key(network_id: str, owner: str, sha256: str) -> str:
    """Key of a pack."""
    return f"packs/{network_id}/{owner}/{sha256}.pack"


def manifest_key(network_id: str, owner: str, sha256: str) -> str:
    """Key of a manifest."""
    return f"manifests/{network_id}/{owner}/{sha256}.manifest"


def log_folder(network_id: str) -> str:
    """Folder of a network's records under all epochs."""
    return f"log/{network_id}/"


def log_prefix(network_id: str, epoch: int) -> str:
    """Folder of a network's records under an epoch."""
    return f"{log_folder(network_id)}{epoch:04d}/"


def log_key(network_id: str, epoch: int, seq: int) -> str:
    """Key of one record."""
    return f"{log_prefix(network_id, epoch)}{seq:010d}.json"


def local_prefix(region: str, network_id: str) -> str:
    """Folder of the records that concern only one region's copy."""
    return f"local/{region}/{network_id}/"


def checkpoint_folder(records: str) -> str:
    """Folder of the checkpoints of a log, from the folder of its records."""
    return f"checkpoints/{records}"


def plan_key(network_id: str, sha256: str) -> str:
    """Key of a stored retention plan."""
    return f"plans/{network_id}/{sha256}.parquet"


def claim_key(network_id: str, epoch: int) -> str:
    """Key of the claim to write under an epoch; one in the vault of every region."""
    return f"claims/{network_id}/{epoch:04d}"


def quarantine_key(key: str, sha256: str) -> str:
    """Key of the copy of an object's bad bytes."""
    return f"quarantine/{key}/{sha256}"


def parse_place(key: str, size_bytes: int) -> PackPlace:
    """Owner and hash of a pack or manifest from its key.

    Raises:
        CorruptObjectError: the key is none that a vault writes.
    """
    kind, _, rest = key.partition("/")
    parts = rest.split("/")
    suffix = _SUFFIXES.get(kind, "")
    if len(parts) != 3 or not suffix or not parts[2].endswith(suffix):
        raise CorruptObjectError(f"object {key} is nothing that a vault writes")
    return PackPlace(parts[1], parts[2].removesuffix(suffix), size_bytes)


def journal_prefix(network_id: str) -> str:
    """Folder of a network's journal segments, of all epochs."""
    return f"journal/{network_id}/"


def segment_key(network_id: str, place: SegmentPlace) -> str:
    """Key of one journal segment."""
    return f"{journal_prefix(network_id)}{place.epoch:04d}/{place.seq:010d}.segment"


def parse_segment_key(key: str) -> SegmentPlace:
    """Epoch and number of a segment from its key.

    Raises:
        CorruptObjectError: the key is none that a vault writes.
    """
    found = _SEGMENT_KEY.fullmatch(key)
    if found is None:
        raise CorruptObjectError(f"object {key} is nothing that a vault writes")
    return SegmentPlace(int(found["epoch"]), int(found["seq"]))
