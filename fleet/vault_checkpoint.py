"""Checkpoints of a log: many records in one sealed object, so that a new process asks for few.

A checkpoint is no truth of its own: it says what the records say, with their very bytes, and can be
written again from them. It opens under its own key only, and its records continue one another by
hash, so it cannot be forged, moved, replayed or mixed; `docs/formats/backup.md` has the fields.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fleet.errors import CorruptObjectError
from fleet.pack_keys import derive_key
from fleet.vault_epochs import Slot
from fleet.vault_pack import SALT_BYTES
from fleet.vault_records import LogPosition, StoredRecord, read_record

_MAGIC = b"SRC1"
_NONCE = bytes(12)
"""One for all: each content has a key of its own."""
_ZSTD_LEVEL = 3


class CheckpointPlace(NamedTuple):
    """Which records a checkpoint holds."""

    epoch: int
    """Of the last one; a branch of another epoch has checkpoints of its own."""
    first: int
    last: int


class Spacing(NamedTuple):
    """How long the blocks are that become checkpoints; no reader needs to know."""

    every: int = 32
    """Records of the smallest block: so many may have to be read one by one."""
    fan_out: int = 16
    """A block of each further length holds so many of the one before."""
    max_bytes: int = 8 * 1024 * 1024
    """Records of a larger block than the smallest are at most so large together."""


class Checkpoint(NamedTuple):
    """A checkpoint that has been opened and proven in itself."""

    place: CheckpointPlace
    line: tuple[Slot, ...]
    """First record of each epoch that the chain runs through, up to the last record."""
    records: tuple[StoredRecord, ...]
    contents: tuple[bytes, ...]
    """The bytes of each record's object."""

    @property
    def prev_sha256(self) -> str:
        """Hash of the record that must stand before the first one."""
        return self.records[0].position.prev_sha256


def wanted_blocks(sizes: Sequence[int], spacing: Spacing) -> list[tuple[int, int]]:
    """The fewest blocks that cover a log from its beginning, in order, as first and last number.

    Args:
        sizes: bytes of each record, from the first one.
        spacing: lengths of blocks.
    """
    total = [0, *accumulate(sizes)]
    head = len(sizes)
    blocks: list[tuple[int, int]] = []
    done = 0
    while done + spacing.every <= head:
        length = spacing.every
        while True:
            longer = length * spacing.fan_out
            end = done + longer
            if done % longer or end > head or total[end] - total[done] > spacing.max_bytes:
                break
            length = longer
        blocks.append((done + 1, done + length))
        done += length
    return blocks


def newest_place(places: Iterable[CheckpointPlace]) -> CheckpointPlace | None:
    """Where a reader begins: the highest epoch, in it the highest number, of those the longest."""
    return max(places, key=lambda one: (one.epoch, one.last, -one.first), default=None)


def covering(
    places: Iterable[CheckpointPlace], newest: CheckpointPlace, line: Sequence[Slot]
) -> list[CheckpointPlace]:
    """The checkpoints that lead from the first record to the end of the newest one, in order.

    Args:
        places: all that are listed.
        newest: of them.
        line: of the newest: says of which epoch each record before it is.

    Raises:
        CorruptObjectError: one is missing; the error names the stretch.
    """
    ending: dict[Slot, CheckpointPlace] = {}
    for one in places:
        slot = Slot(one.epoch, one.last)
        known = ending.get(slot)
        if known is None or one.first < known.first:
            ending[slot] = one
    chosen = [newest]
    while chosen[-1].first > 1:
        before = chosen[-1].first - 1
        found = ending.get(Slot(epoch_at(line, before), before))
        if found is None:
            lower = max((s.seq for s in ending if s.seq < before), default=0)
            raise CorruptObjectError(
                f"no checkpoint holds the log's records {lower + 1} to {before}, "
                f"and one of the records behind them stands"
            )
        chosen.append(found)
    return chosen[::-1]


def epoch_at(line: Sequence[Slot], seq: int) -> int:
    """Epoch of a record on a chain; that of the first one for a number before it."""
    return next((one.epoch for one in reversed(line) if one.seq <= seq), line[0].epoch)


def line_of(records: Sequence[StoredRecord]) -> tuple[Slot, ...]:
    """First record of each epoch that a chain runs through."""
    line: list[Slot] = []
    for one in records:
        if not line or line[-1].epoch != one.position.epoch:
            line.append(Slot(one.position.epoch, one.position.seq))
    return tuple(line)


def encode_checkpoint(
    line: Sequence[Slot],
    records: Sequence[StoredRecord],
    contents: Sequence[bytes],
    data_key: bytes,
    key: str,
) -> bytes:
    """The bytes of a checkpoint: the same for everybody who seals the same records.

    Args:
        line: of the chain up to the last record.
        records: consecutive and verified; at least one.
        contents: their bytes.
        data_key: authenticates the log.
        key: of the object.
    """
    first, last = records[0].position, records[-1].position
    header = {
        "network_id": last.network_id,
        "epoch": last.epoch,
        "first": first.seq,
        "last": last.seq,
        "prev_sha256": first.prev_sha256,
        "sha256": records[-1].sha256,
        "line": [list(one) for one in line],
    }
    lines = [json.dumps(header, sort_keys=True, separators=(",", ":")).encode(), *contents]
    body = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(b"\n".join(lines))
    # The salt depends on all that is sealed, so that one key never seals two contents, also when
    # another version of zstd makes other bytes of the same records.
    salt_key = derive_key(data_key, b"", b"stateroom checkpoint salt")
    salt = hmac.new(salt_key, key.encode() + b"\n" + body, hashlib.sha256).digest()
    cipher = _cipher(data_key, salt, last.network_id)
    return _MAGIC + salt + cipher.encrypt(_NONCE, body, key.encode())


def open_checkpoint(
    data: bytes, place: CheckpointPlace, network_id: str, data_key: bytes, key: str
) -> Checkpoint:
    """Open a checkpoint and prove that its records continue one another.

    Args:
        data: the object's bytes.
        place: that its key names.
        network_id: whose log.
        data_key: authenticates the log.
        key: of the object.

    Raises:
        CorruptObjectError: it is damaged, cut, forged, of another place, or of another format.
        SchemaMismatchError: a newer version wrote one of its records.
    """
    salt = data[len(_MAGIC) : len(_MAGIC) + SALT_BYTES]
    if not data.startswith(_MAGIC) or len(salt) < SALT_BYTES:
        raise CorruptObjectError(f"checkpoint {key} is damaged, or of a newer format")
    try:
        cipher = _cipher(data_key, salt, network_id)
        body = cipher.decrypt(_NONCE, data[len(_MAGIC) + SALT_BYTES :], key.encode())
        plain = zstandard.ZstdDecompressor().decompress(body)
    except (InvalidTag, zstandard.ZstdError) as error:
        raise CorruptObjectError(
            f"checkpoint {key} does not open: damaged, forged, moved, or of another key"
        ) from error
    return _read(plain, place, network_id, key)


def _read(plain: bytes, place: CheckpointPlace, network_id: str, key: str) -> Checkpoint:
    text, *contents = plain.split(b"\n")
    try:
        header = json.loads(text)
        line = tuple(Slot(*one) for one in header["line"])
        claimed = CheckpointPlace(header["epoch"], header["first"], header["last"])
        before, last_sha256 = header["prev_sha256"], header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObjectError(f"checkpoint {key} cannot be read: {error!r}") from error
    if claimed != place or len(contents) != place.last - place.first + 1 or not line:
        raise CorruptObjectError(f"checkpoint {key} holds other records than its key says")
    records: list[StoredRecord] = []
    for seq, content in enumerate(contents, place.first):
        expected = LogPosition(network_id, epoch_at(line, seq), seq, before)
        records.append(read_record(content, expected, f"{seq} in checkpoint {key}"))
        before = records[-1].sha256
    if before != last_sha256:
        raise CorruptObjectError(f"checkpoint {key} does not end as its header says")
    return Checkpoint(place, line, tuple(records), tuple(contents))


def _cipher(data_key: bytes, salt: bytes, network_id: str) -> AESGCM:
    return AESGCM(derive_key(data_key, salt, b"stateroom checkpoint" + network_id.encode()))
