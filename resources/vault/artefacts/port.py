"""What every kind of artefact offers to a backup."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from fleet.artefact_items import ItemAttributes


class OpenedFile(Protocol):
    """A file while its content is read, once, from its beginning."""

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer than `size` only at the end."""
        ...

    def changed(self) -> str:
        """How the file changed since it was opened; empty when what was read is one state."""
        ...

    def attributes(self, listed: ItemAttributes) -> ItemAttributes:
        """Attributes of the state that is read; `listed` are those it was found with."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class SourceFile(NamedTuple):
    """One file, folder or link of an artefact."""

    path: bytes
    """Relative to the artefact; `.` for its folder."""
    attributes: ItemAttributes
    size_bytes: int
    open: Callable[[], OpenedFile]
    content: bytes | None = None
    """Of folders and links, whose content costs nothing."""


class Omission(NamedTuple):
    """A path that yields no file."""

    path: bytes
    reason: str
    failed: bool
    """Whether something that belongs into the backup is missing; else it is left out on purpose."""


class ArtefactSource(Protocol):
    """One artefact, opened for one backup; close it, so that staging copies go away."""

    kind: str

    def files(self) -> Iterator[SourceFile | Omission]:
        """Every file, folders before what they hold; read each before asking for the next.

        Raises:
            StateroomError: the artefact as a whole cannot be read.
        """
        ...

    def about(self) -> Mapping[str, Any]:
        """What the consistency of the copy is; empty while nothing has been read."""
        ...

    def close(self) -> None:
        """Remove staging copies."""
        ...


class HeldBytes:
    """Content that is in memory already."""

    def __init__(self, content: bytes) -> None:
        """Hold it."""
        self._file = io.BytesIO(content)

    def read(self, size: int, /) -> bytes:
        """See `OpenedFile.read`."""
        return self._file.read(size)

    def changed(self) -> str:
        """Never."""
        return ""

    def attributes(self, listed: ItemAttributes) -> ItemAttributes:
        """As listed."""
        return listed

    def close(self) -> None:
        """Nothing to give back."""
        self._file.close()
