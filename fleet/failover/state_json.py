"""The decision's memory as small JSON: only what is not plainly healthy, only what is not default.

Version 1. Reading refuses what it does not know instead of guessing: a controller that starts with
an empty memory is safe (all ages restart), one that starts with a wrong memory is not.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, TypeVar

from fleet.errors import InvalidInputError
from fleet.failover.records import (
    ControllerState,
    FailoverState,
    MoveNote,
    NodeMark,
    NodeState,
    RegionMark,
    RegionState,
)

VERSION = 1

_Mark = TypeVar("_Mark", NodeMark, RegionMark)


def encode_state(state: FailoverState) -> str:
    """One line of JSON with sorted keys; equal states give equal text."""
    document = {
        "version": VERSION,
        "clock_id": state.clock_id,
        "tick_s": state.tick_s,
        "ages_from_s": state.ages_from_s,
        "controller": state.controller.value,
        "frozen_by": list(state.frozen_by),
        "nodes": [_encode_mark(mark) for _, mark in sorted(state.nodes.items())],
        "regions": [_encode_mark(mark) for _, mark in sorted(state.regions.items())],
        "moves": [list(note) for note in state.moves],
        "moves_term": state.moves_term,
        "parked": dict(state.parked),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode_state(text: str) -> FailoverState:
    """Read what `encode_state` wrote.

    Raises:
        InvalidInputError: not JSON, another version, or fields of the wrong kind.
    """
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise _refusal(f"version {document['version']}")
        return FailoverState(
            clock_id=str(document["clock_id"]),
            tick_s=None if document["tick_s"] is None else float(document["tick_s"]),
            ages_from_s=float(document["ages_from_s"]),
            controller=ControllerState(document["controller"]),
            frozen_by=tuple(document["frozen_by"]),
            nodes={mark.node_id: mark for mark in map(_node_mark, document["nodes"])},
            regions={mark.region: mark for mark in map(_region_mark, document["regions"])},
            moves=tuple(_move(row) for row in document["moves"]),
            moves_term=int(document.get("moves_term", 0)),
            parked={str(key): float(at_s) for key, at_s in document["parked"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refusal(f"{text[:80]!r} ({error!r})") from error


def _refusal(found: str) -> InvalidInputError:
    return InvalidInputError(
        "failover state",
        found,
        f"version {VERSION} as written by encode_state",
        hint="Start with an empty state: all ages restart, nothing is moved too early.",
    )


def _encode_mark(mark: NodeMark | RegionMark) -> dict[str, Any]:
    defaults: dict[str, Any] = mark._field_defaults
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in mark._asdict().items()
        if name not in defaults or value != defaults[name]
    }


def _node_mark(row: dict[str, Any]) -> NodeMark:
    return _decode_mark(NodeMark, {**row, "state": NodeState(row.get("state", "healthy"))})


def _region_mark(row: dict[str, Any]) -> RegionMark:
    return _decode_mark(RegionMark, {**row, "state": RegionState(row.get("state", "normal"))})


def _decode_mark(cls: type[_Mark], row: dict[str, Any]) -> _Mark:
    """Lists become tuples again; an unknown name is a TypeError of the record."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row.items()
    }
    mark = cls(**values)
    for name, kind in _KINDS.items():
        value = getattr(mark, name, None)
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}")
    return mark


_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "node_id": str, "region": str, "since_s": _NUMBER, "suspect_s": _NUMBER, "incident": str,
    "confirmed_by": str, "fenced_by": str, "moved_s": _NUMBER, "attempts": int,
    "cool_until_s": _NUMBER, "flaps_s": tuple, "returns_s": tuple, "probation_s": _NUMBER,
    "told": tuple, "watch_from_s": _NUMBER, "gray_s": _NUMBER,
    "evacuated_s": _NUMBER, "wave": int, "calm_s": _NUMBER, "fail_back_s": _NUMBER,
    "evacuation": str,
}  # fmt: skip
"""Kinds of the fields of marks; the others are enums and booleans."""


def _move(row: list[Any]) -> MoveNote:
    absent: list[Any] = ["", True][max(0, len(row) - 5) :]  # in what older versions wrote
    at_s, subject, region, agents, evacuation, key, ordered = [*row, *absent]
    return MoveNote(
        float(at_s),
        str(subject),
        str(region),
        int(agents),
        bool(evacuation),
        str(key),
        bool(ordered),
    )
