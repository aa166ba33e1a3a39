"""The note that a network was shredded: what stays when nobody can read its log any more.

The network's own log is authenticated under a key that is gone, so the evidence stands beside it:
`shred/{network_id}.json`, created once in the store of each region. It cannot be signed by the
network; whoever can write it could as well delete the wraps themselves.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import CorruptObjectError, PermanentError

_FORMAT = 1


class ShredNote(NamedTuple):
    """Who shredded a network, when, and what that concerned."""

    network_id: str
    shredded_at: datetime
    by: str
    """Person or process that ordered it."""
    reason: str
    dek_ids: tuple[str, ...]
    """Data keys whose wraps were there then."""

    def __str__(self) -> str:
        """As an error or a report says it."""
        return f"shredded on {self.shredded_at:%Y-%m-%d %H:%M} UTC by {self.by}: {self.reason}"


class NetworkShreddedError(PermanentError):
    """A network cannot be opened, because it was shredded."""

    def __init__(self, note: ShredNote) -> None:
        """Say when and by whom."""
        super().__init__(
            f"network {note.network_id} was {note}",
            hint="Nothing can open its backups any more; use another network id.",
        )
        self.note = note


def encode_shred_note(note: ShredNote) -> bytes:
    """The bytes of `shred/{network_id}.json`."""
    fields = {
        "format": _FORMAT,
        **note._asdict(),
        "shredded_at": note.shredded_at.astimezone(UTC).isoformat(),
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_shred_note(data: bytes, key: str) -> ShredNote:
    """Read a note.

    Args:
        data: the object's bytes.
        key: of the object, for the error.

    Raises:
        CorruptObjectError: it is no note of this format; the network counts as shredded.
    """
    try:
        fields = json.loads(data)
        note = ShredNote(
            str(fields["network_id"]),
            datetime.fromisoformat(fields["shredded_at"]).astimezone(UTC),
            str(fields["by"]),
            str(fields["reason"]),
            tuple(str(one) for one in fields["dek_ids"]),
        )
        known = fields["format"] == _FORMAT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptObjectError(
            f"shred note {key} cannot be read: {error}",
            hint="Somebody wanted this network shredded; compare the note in another region.",
        ) from error
    if not known:
        raise CorruptObjectError(f"shred note {key} is not of format {_FORMAT}")
    return note
