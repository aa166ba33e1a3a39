"""Numbers for notes: a 63-bit hash of the note's id, so that nobody has to hand numbers out.

Two notes of a network with one number would be one to an index, and one would silently never be
found. Among a million notes that happens once in 18 million networks; it is looked for all the
same, and refused with both names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidInputError

BITS = 63
"""Of a number: it must be a non-negative int64, because `NO_ROW` and FAISS use -1."""

ExternalIds = npt.NDArray[np.int64]


def external_ids(note_ids: Sequence[str], bits: int = BITS) -> ExternalIds:
    """The number of each note, in their order: BLAKE2b of its UTF-8 bytes, the lowest bits.

    Args:
        note_ids: may repeat.
        bits: fewer only to try collisions out.
    """
    joined = b"".join(
        hashlib.blake2b(note_id.encode(), digest_size=8).digest() for note_id in note_ids
    )
    return (np.frombuffer(joined, "<u8") & np.uint64((1 << bits) - 1)).astype(np.int64)


def demand_distinct(note_ids: Sequence[str], ids: ExternalIds) -> None:
    """Accept notes whose numbers tell them apart.

    Args:
        note_ids: all different.
        ids: their numbers, in the same order.

    Raises:
        InvalidInputError: two notes share a number; both are named.
    """
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(np.diff(ids[order]) == 0)
    for place in repeated.tolist():
        first, second = note_ids[int(order[place])], note_ids[int(order[place + 1])]
        if first != second:
            raise InvalidInputError(
                "note_id",
                second,
                f"an id whose number differs from that of {first!r}",
                hint="Write one of the two notes again under another id.",
            )
