"""FAISS indexes that other services keep: checked as they are, changed never.

Whether such a file may be loaded is not known beforehand, and a damaged length field can make a
library ask for all memory. So it is opened in a process of its own with limits of memory and time;
that process's crash is a finding.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from resources.vault.verification.application_checks import check_artefact

TIMEOUT_S = 600.0


class AdoptedIndex(NamedTuple):
    """What is known of a foreign index file."""

    name: str
    path: str
    size_bytes: int | None
    """None when there is no file."""
    sha256: str | None
    ntotal: int | None
    """None when it could not be opened."""
    dimensions: int | None
    problems: tuple[str, ...]
    """In words; empty when it is sound."""


def check_adopted(
    name: str,
    path: Path,
    *,
    dimensions: int | None = None,
    ntotal_min: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> AdoptedIndex:
    """Open a foreign index, search it once, and compare it with what was declared.

    Args:
        name: what the settings call it.
        path: of the file.
        dimensions: declared; None: any.
        ntotal_min: fewer vectors than this are a problem.
        timeout_s: after it the child is killed, which is a problem.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        return AdoptedIndex(name, str(path), None, None, None, None, (problem,))
    found = check_artefact("faiss", path, name=name, timeout_s=timeout_s)
    if not found.passed:
        return AdoptedIndex(name, str(path), size_bytes, sha256, None, None, (found.reason,))
    ntotal, width = int(found.numbers["ntotal"]), int(found.numbers["dimensions"])
    problems = []
    if dimensions is not None and width != dimensions:
        problems.append(f"{width} dimensions, declared {dimensions}")
    if ntotal < ntotal_min:
        problems.append(f"{ntotal} vectors, at least {ntotal_min} declared")
    return AdoptedIndex(name, str(path), size_bytes, sha256, ntotal, width, tuple(problems))
