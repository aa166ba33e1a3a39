"""What an autoscaler remembers, as one line of JSON, so that another process goes on with it.

Times are whole microseconds since 1970 UTC. Version 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from fleet.errors import CorruptObjectError
from fleet.rescaling.observation import AutoscalerState, Condition, Recommendation, ScaleEvent
from fleet.rescaling.standing import Pending, ScalingStanding

VERSION = 1

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
    return _decoded(text, _state) if text else AutoscalerState()


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
            int(found["current"]),
            int(found["desired"]),
            _at(found["since"]),
            _state(found["state"]),
            str(found["reason"]),
        )

    return _decoded(text, read)


def _decoded(text: str, read: Callable[[Any], _Read]) -> _Read:
    try:
        return read(json.loads(text))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CorruptObjectError(
            f"what an autoscaler remembers cannot be read: {error!r}",
            hint="It was written by another version, or changed by hand; remove its row from "
            "`scaling_standings` to begin anew.",
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
            Recommendation(_at(at), int(replicas))
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
    return tuple(ScaleEvent(_at(at), int(change), bool(outdated)) for at, change, outdated in found)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _US


def _at(us: int) -> datetime:
    return _EPOCH + us * _US
