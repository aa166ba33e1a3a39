"""FAISS indexes that other services keep: looked at as they are, changed never.

Whether such a file may be loaded is not known beforehand, and a damaged length field can make a
library ask for all memory. So it is opened in a process of its own with limits of memory and time;
that process's crash is a finding. A file that is written while it is read is told, not judged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fleet.vectors.adoption import AdoptedIndex
from resources.vault.verification.application_checks import check_artefact

TIMEOUT_S = 600.0


def look_at_adopted(
    name: str, path: Path, *, measure: bool = True, timeout_s: float = TIMEOUT_S
) -> AdoptedIndex:
    """Hash a foreign index, open it, search it, and measure speed and recall.

    Args:
        name: what the settings call it.
        path: of the file; a link is followed, as its service follows it.
        measure: whether to measure, which takes most of the time.
        timeout_s: for each of the two children.
    """
    try:
        before = _stamp(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        return AdoptedIndex(name, str(path), None, None, None, None, (problem,))
    look = AdoptedIndex(name, str(path), before[0], sha256, None, None, (), before)
    found = check_artefact("faiss", path, name=name, timeout_s=timeout_s)
    if found.passed:
        look = look._replace(
            ntotal=int(found.numbers["ntotal"]), dimensions=int(found.numbers["dimensions"])
        )
        if measure:
            look = _measured(look, path, timeout_s)
    else:
        look = look._replace(problems=(found.reason,))
    return look if _is_still(path, before) else _moving(look)


def _measured(look: AdoptedIndex, path: Path, timeout_s: float) -> AdoptedIndex:
    found = check_artefact("faiss_measured", path, name=look.name, timeout_s=timeout_s)
    if not found.passed:
        return look._replace(problems=(f"it cannot be measured: {found.reason}",))
    numbers = found.numbers
    return look._replace(
        kind=numbers["kind"],
        metric=numbers["metric"],
        search_ms=numbers.get("search_ms"),
        recall=numbers.get("recall"),
        recall_note=numbers.get("recall_note", ""),
    )


def _moving(look: AdoptedIndex) -> AdoptedIndex:
    """A look at a file that was written meanwhile: of what it has shown nothing can be said."""
    problem = "it was written while it was read; its service should write a new file and rename it"
    return AdoptedIndex(
        look.name, look.path, look.size_bytes, None, None, None, (problem, *look.problems)
    )


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


def _is_still(path: Path, before: tuple[int, ...]) -> bool:
    try:
        return _stamp(path) == before
    except OSError:
        return False
