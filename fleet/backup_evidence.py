"""Evidence of what was done to ONE region's copy of a vault: proven, healed, tainted, swept.

"Verified" without a level, a region and a date does not exist; these records are that date. They
stand in the region-local log, authenticated like every other record, and change nothing of what is
live: retention, reports and asset checks read them and decide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.names import validate_name
from fleet.vault_log import EvidenceRecord

LEVELS = ("V0", "V1", "V2", "V3", "V4", "V5")
"""What each level looks at: `docs/formats/backup.md`, "Verification"."""
ENGINE_VERSION = "1"
"""`code_version` of the vault's own levels; raised when what one of them proves changes."""
NAMED_MAX = 1000
"""Failures, agents or objects that one record spells out; the total is counted beside them."""
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class VerificationEvidence(NamedTuple):
    """One verification of one region's copy was run to its end."""

    network_id: str
    region: str
    level: str
    """`V0` to `V5`."""
    snapshot_id: str
    """Snapshot that was verified; the newest one where the level looks at all of them."""
    started_at: datetime
    seconds: float
    items: int
    """Objects (V0 to V2), states (V3), agents and artefacts (V4, V5)."""
    bytes_checked: int
    failures: tuple[str, ...]
    """In words, each naming its object; empty means passed."""
    code_version: str
    detail: Mapping[str, Any] = _EMPTY
    """What only this level has: slice, seed, share, `snapshots` it holds for, measured times."""
    seq: int = 0
    """Number in the region's log; 0 before it was recorded."""

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


class HealEvidence(NamedTuple):
    """A damaged or missing object of this region was replaced by another region's good copy."""

    network_id: str
    region: str
    key: str
    """Of the object."""
    cause: str
    """What was wrong with it."""
    source: str
    """Region that the good bytes came from; empty where none was asked: see the cause."""
    quarantine: str
    """Key of the copy of the bad bytes; empty when the object was missing."""
    healed_at: datetime
    seq: int = 0


class TaintEvidence(NamedTuple):
    """An object is damaged and no region has a good copy: what it held is lost here."""

    network_id: str
    region: str
    key: str
    cause: str
    snapshots: tuple[str, ...]
    """Live snapshots that need it: tainted, never again eligible as last good."""
    agents: tuple[str, ...]
    """At most `NAMED_MAX` of those that cannot be read because of it."""
    agents_total: int
    found_at: datetime
    seq: int = 0


class SweepEvidence(NamedTuple):
    """A replica deleted what a copied gc record had condemned."""

    network_id: str
    region: str
    objects: int
    bytes_freed: int
    kept: tuple[str, ...]
    """Condemned, and kept because something here still needs them."""
    swept_at: datetime
    seq: int = 0


class NoteEvidence(NamedTuple):
    """Something a person should know; also how the loss of older evidence is confessed."""

    network_id: str
    region: str
    text: str
    noted_at: datetime
    seq: int = 0


Evidence = VerificationEvidence | HealEvidence | TaintEvidence | SweepEvidence | NoteEvidence

_KINDS: Mapping[str, type[Evidence]] = {
    "verify": VerificationEvidence,
    "heal": HealEvidence,
    "taint": TaintEvidence,
    "sweep": SweepEvidence,
    "note": NoteEvidence,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}
_TIMES = {"started_at", "healed_at", "found_at", "swept_at", "noted_at"}
_LISTS = {"failures", "snapshots", "agents", "kept"}
_COUNTS = {"items", "bytes_checked", "agents_total", "objects", "bytes_freed"}
_NAMES = {"network_id", "region"}
_UNCUT = {"snapshots"}
"""Never shortened: a tainted snapshot that is not named would count as good."""


def encode_evidence(evidence: Evidence) -> EvidenceRecord:
    """Validated evidence as a record of the region-local log.

    Long lists are cut to `NAMED_MAX` entries and a last one that counts the rest.

    Raises:
        InvalidInputError: a field is not what its name says; nothing was written.
    """
    validate_evidence(evidence)
    fields: dict[str, Any] = {}
    for name, value in evidence._asdict().items():
        if name in _TIMES:
            fields[name] = value.astimezone(UTC).isoformat()
        elif name in _LISTS:
            fields[name] = list(value) if name in _UNCUT else list(bound_list(value))
        elif name == "detail":
            fields[name] = dict(value)
        elif name != "seq":
            fields[name] = value
    try:
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError("detail", str(error), "what JSON can hold") from error
    return EvidenceRecord(_KIND_OF[type(evidence)], text)


def decode_evidence(record: EvidenceRecord, seq: int) -> Evidence | None:
    """The evidence in a record; None for a kind that this version does not know.

    Raises:
        CorruptObjectError: the record is authentic, but is no evidence of its kind.
    """
    kind = _KINDS.get(record.kind)
    if kind is None:
        return None
    try:
        fields = json.loads(record.detail)
        values = {
            name: _decoded(name, fields[name])
            for name in kind._fields
            if name != "seq" and (name in fields or name not in kind._field_defaults)
        }
        evidence: Evidence = kind(**values, seq=seq)
        validate_evidence(evidence)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError) as error:
        raise CorruptObjectError(f"evidence {seq} of kind {record.kind}: {error}") from error
    return evidence


def validate_evidence(evidence: Evidence) -> None:
    """Refuse evidence that could mislead whoever decides by it.

    Raises:
        InvalidInputError: level, times, counts, names or lists are not what they must be.
    """
    for name, value in evidence._asdict().items():
        if name in _NAMES:
            validate_name(name, value)
        elif name in _TIMES:
            _demand(isinstance(value, datetime) and value.tzinfo is not None, name, value, "aware")
        elif name in _LISTS:
            strings = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
            _demand(strings, name, value, "a tuple of texts")
        elif name in _COUNTS:
            count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            _demand(count, name, value, "a count, 0 or more")
        elif name == "level":
            _demand(value in LEVELS, name, value, ", ".join(LEVELS))
        elif name == "seconds":
            good = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
            _demand(good, name, value, "a duration, 0 or more")
        elif name == "detail":
            _demand(isinstance(value, Mapping), name, value, "a mapping")
        elif name != "seq":
            _demand(isinstance(value, str), name, value, "a text")


def bound_list(values: Sequence[str]) -> tuple[str, ...]:
    """The first `NAMED_MAX` of them, and how many more there are."""
    if len(values) <= NAMED_MAX:
        return tuple(values)
    return (*values[:NAMED_MAX], f"and {len(values) - NAMED_MAX} more")


def tainted_objects(evidence: Iterable[Evidence]) -> dict[str, frozenset[str]]:
    """Objects that are lost in this region, each with the snapshots that need it.

    A later heal of the very object takes its taint away.
    """
    lost: dict[str, frozenset[str]] = {}
    for one in evidence:
        if isinstance(one, TaintEvidence):
            lost[one.key] = lost.get(one.key, frozenset()) | frozenset(one.snapshots)
        elif isinstance(one, HealEvidence):
            lost.pop(one.key, None)
    return lost


def tainted_snapshots(evidence: Iterable[Evidence]) -> frozenset[str]:
    """Snapshots that this region cannot restore in full, by what was found so far."""
    return frozenset[str]().union(*tainted_objects(evidence).values())


def lost_packs(evidence: Iterable[Evidence]) -> frozenset[str]:
    """Packs that this region has lost for good: the next backup must not build on them.

    A later heal of the very pack takes it off the list.
    """
    lost: set[str] = set()
    for one in evidence:
        if isinstance(one, TaintEvidence) and one.key.startswith("packs/"):
            lost.add(one.key)
        elif isinstance(one, HealEvidence):
            lost.discard(one.key)
    return frozenset(key.rsplit("/", 1)[-1].removesuffix(".pack") for key in lost)


def _decoded(name: str, value: Any) -> Any:
    if name in _TIMES:
        return datetime.fromisoformat(value)
    if name in _LISTS:
        return tuple(value)
    return value


def _demand(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidInputError(name, value, allowed)
