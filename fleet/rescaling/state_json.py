"""What an autoscaler remembers, as one line of JSON, so that another process goes on with it.

Times are whole microseconds since 1970 UTC, counts are of 32 bits, as Kubernetes has them and as
columns hold them. Version 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from fleet.errors import CorruptObjectError
from fleet.moments import moment_of
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.go_integers import INT32_MAX, INT32_MIN
from fleet.rescaling.observation import AutoscalerState, Condition, Recommendation, ScaleEvent
from fleet.rescaling.standing import Pending, ScalingStanding

VERSION = 1

SCALES_MAX = 2**53
"""More changes than a workload can see in its life, and a number that can still be raised."""

_UNREADABLE = (
    ValueError, TypeError, KeyError, OverflowError, AttributeError, RecursionError,
)  # fmt: skip
"""What reading a text that is none may raise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

_Read = TypeVar("_Read")


class PackedStanding(NamedTuple):
    """A `ScalingStanding` as it is stored: what is remembered is text, not read."""

    workload: str
    region: str
    state_json: str
    scales: int
    pending_json: str
    decided_at: datetime | None
    term: int

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region


def pack_standing(standing: ScalingStanding) -> PackedStanding:
    """The texts of a standing."""
    return PackedStanding(
        standing.workload,
        standing.region,
        encode_autoscaler(standing.state),
        standing.scales,
        encode_pending(standing.pending),
        standing.decided_at,
        standing.term,
    )


def standing_of_row(row: Sequence[Any]) -> PackedStanding | DamagedStanding:
    """A stored row, its texts unread.

    Args:
        row: what stands in the columns, in the order of `PackedStanding`'s fields: nothing is
            believed of them, since SQLite keeps any value in any column. The last look is
            microseconds since 1970, or None.
    """
    workload, region, state_json, scales, pending_json, decided_us, term = row
    damage = ""
    decided_at = None
    try:
        decided_at = None if decided_us is None else moment_of(decided_us)
    except (TypeError, OverflowError):
        damage = f"its last look is {decided_us!r}, which is no moment"
    for name, number in (("number of changes", scales), ("term", term)):
        if type(number) is not int or not 0 <= number <= SCALES_MAX:
            damage = f"its {name} is {number!r}, which is no whole number from 0 to 2^53"
    for name, text in (("state", state_json), ("pending change", pending_json)):
        if not isinstance(text, str):
            damage = f"its {name} is no text but of the type {type(text).__name__}"
    if damage:
        return DamagedStanding(workload, region, damage)
    return PackedStanding(workload, region, state_json, scales, pending_json, decided_at, term)


def emptied_standing(key: tuple[str, str], scales: object, journaled: int) -> PackedStanding:
    """What is left of a standing that is forgotten: a higher number of changes.

    Args:
        key: workload and region.
        scales: what stood there for it, a number or not.
        journaled: the highest one that the journal tells of.
    """
    known = scales if type(scales) is int and 0 <= scales < SCALES_MAX else 0
    return PackedStanding(*key, "", max(known, journaled) + 1, "", None, 0)


def read_standing(stored: PackedStanding | DamagedStanding) -> ScalingStanding | DamagedStanding:
    """The standing in a row; where its texts are none, what is wrong with them."""
    if isinstance(stored, DamagedStanding):
        return stored
    try:
        return unpack_standing(stored)
    except CorruptObjectError as error:
        return DamagedStanding(*stored.key, str(error))


def unpack_standing(packed: PackedStanding) -> ScalingStanding:
    """The standing in such texts.

    Raises:
        CorruptObjectError: one of them is none.
    """
    return ScalingStanding(
        packed.workload,
        packed.region,
        decode_autoscaler(packed.state_json),
        packed.scales,
        decode_pending(packed.pending_json),
        packed.decided_at,
        packed.term,
    )


def encode_autoscaler(state: AutoscalerState) -> str:
    """One line of JSON; what is empty is left out."""
    return json.dumps(_document(state), separators=(",", ":"))


def decode_autoscaler(text: str) -> AutoscalerState:
    """The state in such a line; an empty text is a state that remembers nothing.

    Raises:
        CorruptObjectError: it is none.
    """
    return _decoded("its state", text, _state) if text else AutoscalerState()


def encode_pending(pending: Pending | None) -> str:
    """One line of JSON; empty for none."""
    if pending is None:
        return ""
    document = {
        "current": pending.current,
        "desired": pending.desired,
        "since": _us(pending.since),
        "reason": pending.reason,
        "state": _document(pending.state),
    }
    return json.dumps(document, separators=(",", ":"))


def decode_pending(text: str) -> Pending | None:
    """The pending change in such a line; None for an empty text.

    Raises:
        CorruptObjectError: it is none.
    """
    if not text:
        return None

    def read(found: Any) -> Pending:
        return Pending(
            _wanted(found["current"]),
            _wanted(found["desired"]),
            _at(found["since"]),
            _state(found["state"]),
            str(found["reason"]),
        )

    return _decoded("its pending change", text, read)


def _decoded(what: str, text: str, read: Callable[[Any], _Read]) -> _Read:
    try:
        return read(json.loads(text))
    except _UNREADABLE as error:
        raise CorruptObjectError(
            f"{what} cannot be read: {error!r}",
            hint="It was written by another version, or changed by hand; `stateroom scaling "
            "forget WORKLOAD` lets the workload begin anew.",
        ) from error


def _document(state: AutoscalerState) -> dict[str, Any]:
    found = {
        "recommendations": [[_us(one.at), one.replicas] for one in state.recommendations],
        "ups": _events(state.scale_ups),
        "downs": _events(state.scale_downs),
        "conditions": [[one.type, one.status, one.reason, one.message] for one in state.conditions],
        "seen": state.seen,
        "details": dict(state.details),
    }
    return {"version": VERSION, **{name: value for name, value in found.items() if value}}


def _state(found: Any) -> AutoscalerState:
    if found["version"] != VERSION:
        raise ValueError(f"version {found['version']}, not {VERSION}")
    return AutoscalerState(
        recommendations=tuple(
            Recommendation(_at(at), _count(replicas))
            for at, replicas in found.get("recommendations", ())
        ),
        scale_ups=_read_events(found.get("ups", ())),
        scale_downs=_read_events(found.get("downs", ())),
        conditions=tuple(
            Condition(str(kind), bool(status), str(reason), str(message))
            for kind, status, reason, message in found.get("conditions", ())
        ),
        seen=bool(found.get("seen", False)),
        details={str(name): str(value) for name, value in found.get("details", {}).items()},
    )


def _events(events: Iterable[ScaleEvent]) -> list[list[int]]:
    return [[_us(one.at), one.change, int(one.outdated)] for one in events]


def _read_events(found: Iterable[Any]) -> tuple[ScaleEvent, ...]:
    return tuple(
        ScaleEvent(_at(at), _count(change), bool(outdated)) for at, change, outdated in found
    )


def _count(found: Any) -> int:
    """A whole number of 32 bits."""
    if type(found) is not int or not INT32_MIN <= found <= INT32_MAX:
        raise ValueError(f"{found!r} is no count of 32 bits")
    return found


def _wanted(found: Any) -> int:
    """A number of agents."""
    if _count(found) < 0:
        raise ValueError(f"{found!r} is no number of agents")
    return int(found)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _US


def _at(us: int) -> datetime:
    return _EPOCH + us * _US
