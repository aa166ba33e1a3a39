"""The artefacts of a snapshot, restored one after the other and opened by their applications.

Each is restored into a place of its own, checked, and removed before the next: the room needed is
that of the largest. An artefact that does not come back is a finding; a disk that is full is the
tester's own trouble and is raised.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError
from resources.vault.network import NetworkVault
from resources.vault.verification.application_checks import ApplicationCheck, check_artefact
from resources.vault.verification.artefact_checks import CHECKS

FILES = "files"
"""Kind of a folder, or file, that no application opens as a whole; tarballs in it are opened."""
_TARBALLS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_NOTHING: Mapping[str, Any] = MappingProxyType({})

RestoreOne = Callable[[NetworkVault, str, Path, str], object]
"""Brings an artefact of a snapshot back: vault, its name, file or folder to create, snapshot id."""


class ExpectedArtefact(NamedTuple):
    """An artefact that a snapshot must give back."""

    name: str
    kind: str
    """One of `artefact_checks.CHECKS`, or `FILES`."""
    recorded: Mapping[str, Any] = _NOTHING
    """Numbers of the original, as a check of it gave them; empty to compare none."""


class RestoredArtefacts:
    """`resources.vault.drills.restore_test.ArtefactChecks` over declared artefacts."""

    def __init__(self, expected: Sequence[ExpectedArtefact], restore_one: RestoreOne) -> None:
        """Keep what is expected.

        Raises:
            InvalidInputError: an unknown kind.
        """
        known = (*sorted(CHECKS), FILES)
        for one in expected:
            if one.kind not in known:
                raise InvalidInputError(f"{one.name}.kind", one.kind, ", ".join(known))
        self._expected, self._restore_one = tuple(expected), restore_one

    def __call__(
        self, vault: NetworkVault, snapshot_id: str, folder: Path
    ) -> list[ApplicationCheck]:
        """Restore and check all of them below `folder`.

        Raises:
            StoreUnavailableError: the vault does not answer, or the disk is full.
        """
        checks: list[ApplicationCheck] = []
        for number, one in enumerate(self._expected):
            place = folder / f"artefact-{number}"
            place.mkdir()
            try:
                self._restore_one(vault, one.name, place / one.name, snapshot_id)
                checks += _checks_of(one, place / one.name)
            except (CorruptObjectError, NotFoundError) as error:
                title = f"{one.kind} {one.name}"
                reason = f"it cannot be restored: {error}"
                checks.append(ApplicationCheck(title, passed=False, reason=reason, numbers={}))
            finally:
                shutil.rmtree(place)
        return checks


def _checks_of(one: ExpectedArtefact, path: Path) -> Iterator[ApplicationCheck]:
    if one.kind != FILES:
        yield check_artefact(one.kind, path, name=one.name, recorded=one.recorded)
        return
    below = [path] if path.is_file() else path.rglob("*")
    files = sorted(each for each in below if each.is_file() and not each.is_symlink())
    yield ApplicationCheck(
        f"{FILES} {one.name}",
        passed=bool(files),
        reason="each was compared with its digest when it was restored" if files else "no file",
        numbers={"files": len(files), "size_bytes": sum(each.stat().st_size for each in files)},
    )
    for each in files:
        if each.name.endswith(_TARBALLS):
            inner = each.relative_to(path.parent).as_posix()
            yield check_artefact("tar", each, name=inner)
