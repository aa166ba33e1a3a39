"""What a supervisor and its reader process say to each other: JSON documents with their length.

Standard library only: the supervisor imports it, and must not load an index library.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, Protocol

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
    StoreUnavailableError,
    TransientError,
)

FRAME_MAX_BYTES = 16 * 1024 * 1024
"""A hundred notes of 4,096 characters, escaped, are 2.4 MB; more is no answer of a reader."""


class Readable(Protocol):
    """A buffered stream, as far as frames need it."""

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer only at the end."""
        ...


_LENGTH = struct.Struct(">I")
_KINDS: dict[str, type[StateroomError]] = {
    "not_found": NotFoundError,
    "corrupt": CorruptObjectError,
    "transient": StoreUnavailableError,
    "permanent": PermanentError,
}


def frame_bytes(document: dict[str, Any]) -> bytes:
    """A document as it travels."""
    body = json.dumps(document).encode()
    return _LENGTH.pack(len(body)) + body


def read_frame(file: Readable) -> dict[str, Any] | None:
    """The next document of a stream; None when the other side has closed it."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = file.read(size)
    return None if len(body) < size else dict(json.loads(body))


async def receive_frame(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The same from an asynchronous stream.

    Raises:
        asyncio.IncompleteReadError: the other side has closed it.
        ConnectionError: what came is no frame.
    """
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > FRAME_MAX_BYTES:
        raise ConnectionError(f"a frame of {size} bytes")
    return dict(json.loads(await reader.readexactly(size)))


def error_document(error: StateroomError) -> dict[str, Any]:
    """An error so that `error_of` can make it again on the other side."""
    document = {"message": str(error), "hint": error.hint}
    if isinstance(error, InvalidInputError):
        own = {"field": error.field, "value": str(error.value), "allowed": error.allowed}
        return {"kind": "input", **document, **own}
    if isinstance(error, TransientError):
        return {"kind": "transient", **document}
    same = (name for name, kind in _KINDS.items() if isinstance(error, kind))
    return {"kind": next(same, "permanent"), **document}


def error_of(document: dict[str, Any]) -> StateroomError:
    """The inverse of `error_document`, as far as a caller can tell errors apart."""
    hint = document["hint"]
    if document["kind"] == "input":
        return InvalidInputError(
            document["field"], document["value"], document["allowed"], hint=hint
        )
    return _KINDS[document["kind"]](document["message"], hint=hint)
