"""Kinds `files`, `faiss` and `lake`: content that lies on disk as it is to be stored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleet.artefact_items import ROOT
from fleet.backup import ArtefactDeclaration
from fleet.errors import NotFoundError, StoreUnavailableError
from resources.vault.artefacts.port import Omission, SourceFile
from resources.vault.artefacts.tree import walk

_LAKE_PRIVATE = frozenset((b"tmp",))
"""Folder of a lake whose files are half written (docs/formats/lake.md)."""
_LAKE_LISTINGS_MAX = 10


class FilesSource:
    """A file or folder as it is; each file is one state, the folder as a whole is not.

    The declared path may be a link (`current -> build-7`): it is followed once, and what it led to
    is part of the cut. A published index build (`faiss`) is immutable; one that changes while it is
    read is named like any other file.
    """

    def __init__(self, declared: ArtefactDeclaration, kind: str, seen_ns: int) -> None:
        """Nothing is read before the first file is asked for."""
        self.kind = kind
        self._path = declared.path
        self._exclude = frozenset(os.fsencode(one.strip("/")) for one in declared.exclude)
        self._seen_ns = seen_ns

    def files(self) -> Iterator[SourceFile | Omission]:
        """See `ArtefactSource.files`."""
        return walk(self._resolved(), self._seen_ns, self._exclude)

    def about(self) -> Mapping[str, Any]:
        """The build that the path led to."""
        name = Path(os.path.realpath(self._path)).name
        return {"build": name} if self.kind == "faiss" else {"resolved": name}

    def close(self) -> None:
        """No staging copies."""

    def _resolved(self) -> str:
        try:
            return os.path.realpath(self._path, strict=True)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{self._path} does not exist",
                hint="Correct the artefact's path, or retire it; its last good copy is kept.",
            ) from error
        except OSError as error:
            raise StoreUnavailableError(f"{self._path}: {error.strerror}") from error


class LakeSource(FilesSource):
    """The lake's folder: objects are immutable, may appear and be compacted away meanwhile.

    One pass over a folder that is being compacted could miss both the merged object and those it
    replaces, so it is listed until a listing shows nothing new; a merged object is there before
    any that it replaces goes.
    """

    def __init__(self, declared: ArtefactDeclaration, seen_ns: int) -> None:
        """As `FilesSource`; what is half written is left out."""
        super().__init__(declared, "lake", seen_ns)
        self._exclude |= _LAKE_PRIVATE
        self._objects = 0

    def files(self) -> Iterator[SourceFile | Omission]:
        """See `ArtefactSource.files`.

        Raises:
            StoreUnavailableError: it does not come to rest.
        """
        seen: set[bytes] = set()
        for _ in range(_LAKE_LISTINGS_MAX):
            fresh = 0
            for one in super().files():
                if one.path not in seen:
                    seen.add(one.path)
                    fresh += one.path != ROOT
                    yield one
            if not fresh:
                self._objects = len(seen)
                return
        raise StoreUnavailableError(
            f"lake {self._path}: {_LAKE_LISTINGS_MAX} listings each showed new objects",
            hint="Try again when fewer writers are at work.",
        )

    def about(self) -> Mapping[str, Any]:
        """How many names were listed."""
        return {"listed": self._objects}
