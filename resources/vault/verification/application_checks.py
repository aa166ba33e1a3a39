"""Application checks: does a restored artefact work for the program that it belongs to?

A check runs in a process of its own, with a time limit and a memory limit: what reads a damaged
index or a damaged memory map may crash, hang or ask for all memory, and must not take the caller
along. Such an end is a finding like any other. `artefact_checks.CHECKS` is the registry of kinds.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError, StateroomError
from resources.local.linux_processes import die_with_parent
from resources.vault.verification.artefact_checks import CHECKS, Numbers

TIMEOUT_S = 600.0
"""For one artefact; reading 100 GB at 200 MB/s takes 500 s."""
_MEMORY_BASE_BYTES = 4 * 1024**3
_MEMORY_PER_BYTE = 3
"""An index that is read into memory needs its size; libraries copy while they read."""
_TOLERANCE = 1e-4
"""Distances of a probe differ between processors in their last bits."""
NOTHING_RECORDED: Mapping[str, Any] = MappingProxyType({})


class ApplicationCheck(NamedTuple):
    """What one check found."""

    name: str
    """`{kind} {artefact}`."""
    passed: bool
    reason: str
    numbers: Mapping[str, Any]
    """What was counted; empty when nothing could be."""


def check_artefact(
    kind: str,
    path: Path,
    *,
    name: str = "",
    recorded: Mapping[str, Any] = NOTHING_RECORDED,
    timeout_s: float = TIMEOUT_S,
) -> ApplicationCheck:
    """Open an artefact as its application does, in a process of its own.

    Args:
        kind: one of `artefact_checks.CHECKS`.
        path: file or folder; it is not changed.
        name: of the artefact, for the result; the file's by default.
        recorded: numbers of the original, from a check of it when it was backed up. Those that are
            given must be found again; an answer to a probe up to the last bits of its floats.
        timeout_s: after it the process is killed, and the check has failed.

    Raises:
        InvalidInputError: unknown kind.
    """
    if kind not in CHECKS:
        raise InvalidInputError("kind", kind, ", ".join(sorted(CHECKS)))
    title = f"{kind} {name or path.name}"
    answer = _ask_child(kind, path, timeout_s)
    if "error" in answer:
        return ApplicationCheck(title, passed=False, reason=answer["error"], numbers={})
    numbers: Numbers = answer["numbers"]
    differing = [
        f"{key} is {numbers.get(key, 'missing')}, recorded {value}"
        for key, value in recorded.items()
        if not _is_same(numbers.get(key), value)
    ]
    if differing:
        return ApplicationCheck(title, passed=False, reason="; ".join(differing), numbers=numbers)
    compared = f", {len(recorded)} recorded numbers found again" if recorded else ""
    return ApplicationCheck(
        title, passed=True, reason=f"it opens and is whole{compared}", numbers=numbers
    )


def _ask_child(kind: str, path: Path, timeout_s: float) -> dict[str, Any]:
    """The child's answer; its crash, its silence and its time-out become errors."""
    command = [sys.executable, "-m", __name__, kind, str(path), str(os.getpid())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STATEROOM_")}
    environment["PYTHONPATH"] = os.pathsep.join(one for one in sys.path if one)
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"the check took longer than {timeout_s:g} s and was killed"}
    if ended.returncode < 0:
        crash = signal.Signals(-ended.returncode).name
        return {"error": f"the library that reads it was ended by {crash}: the file is damaged"}
    try:
        answer: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return {"error": f"the check ended with code {ended.returncode}: {said}"}
    return answer


def _is_same(found: Any, recorded: Any) -> bool:
    if isinstance(recorded, list):
        return (
            isinstance(found, list)
            and len(found) == len(recorded)
            and all(map(_is_same, found, recorded))
        )
    if isinstance(recorded, float) and isinstance(found, int | float):
        return math.isclose(found, recorded, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(found == recorded)


def _limit_memory(path: Path) -> None:
    """Bound what a damaged length field can make a library ask for."""
    size_bytes = path.stat().st_size if path.is_file() else 0
    limit = _MEMORY_BASE_BYTES + _MEMORY_PER_BYTE * size_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))


def main(arguments: list[str]) -> int:
    """Run one check and print its answer as JSON; returns the exit code."""
    kind, path, parent_pid = arguments[0], Path(arguments[1]), int(arguments[2])
    if not die_with_parent(parent_pid, signal.SIGKILL):
        return 1
    _limit_memory(path)
    try:
        answer: dict[str, Any] = {"numbers": CHECKS[kind](path)}
    except (StateroomError, OSError, MemoryError) as error:
        answer = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
