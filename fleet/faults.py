"""Faults of a fleet as data: what breaks, when, for how long, and for whom.

A fault script is a tuple of these records. The simulator plays it; `fleet.fault_script` reads and
writes it as text; `random_fault_script` draws one from a generator that the caller has seeded.
Records validate themselves, so a script that exists is a script that can be played.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import ClassVar, NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import validate_name

FAULT_TIME_MAX_S = 10 * 365 * 86_400.0
"""Latest start and longest duration: ten years, far inside 64-bit microseconds."""

STEP_MAX_S = 86_400.0
"""Longest heartbeat delay, and longest up or down time of a flapping node: one day."""

FLAP_STEP_MIN_S = 0.1
"""Shortest up or down time of a flapping node: bounds the events of a day to 864,000."""


class SubjectKind(StrEnum):
    """What a fault can strike."""

    AGENT = "agent"
    NODE = "node"
    ZONE = "zone"
    REGION = "region"


class Subject(NamedTuple):
    """Whom a fault strikes; written `kind/name`."""

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What all faults have in common; only its subclasses are used."""

    kind: ClassVar[str] = ""
    subject_kinds: ClassVar[tuple[SubjectKind, ...]] = (
        SubjectKind.NODE,
        SubjectKind.ZONE,
        SubjectKind.REGION,
    )

    start_s: float
    """Seconds after the start of the simulation."""
    subject: Subject
    duration_s: float | None = None
    """None: until the end, or until somebody repairs it."""

    def __post_init__(self) -> None:
        _check_number("start_s", self.start_s, 0.0, FAULT_TIME_MAX_S)
        if self.duration_s is not None:
            _check_number("duration_s", self.duration_s, 0.001, FAULT_TIME_MAX_S)
        validate_name("subject", self.subject.name)
        if self.subject.kind not in self.subject_kinds:
            allowed = " or ".join(f"{kind}/<name>" for kind in self.subject_kinds)
            raise InvalidInputError("subject", str(self.subject), f"{allowed} for {self.kind}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Fault):
    """The subject ends without warning: a node with all its agents, or one agent's process.

    A node comes up again, with a new boot id, after `duration_s`. An agent has no duration: its
    restart policy decides.
    """

    kind = "crash"
    subject_kinds = (SubjectKind.NODE, SubjectKind.ZONE, SubjectKind.REGION, SubjectKind.AGENT)

    silent: bool = False
    """The infrastructure does not notice, and goes on calling the node running."""

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.subject.kind == SubjectKind.AGENT and self.duration_s is not None:
            raise InvalidInputError(
                "duration_s", self.duration_s, "none for an agent: its restart policy decides"
            )
        if self.subject.kind == SubjectKind.AGENT and self.silent:
            raise InvalidInputError("silent", self.silent, "only for nodes, zones and regions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition(Fault):
    """The subject works on, but nothing passes between it and the peer, in either direction."""

    kind = "partition"

    peer: str = "all"
    """`store`, `controller`, `regions` (all other regions), `all`, or `region/<name>`."""

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        if self.peer in {"store", "controller", "regions", "all"}:
            return
        prefix, _, name = self.peer.partition("/")
        if prefix != "region" or not name:
            raise InvalidInputError(
                "peer", self.peer, "store, controller, regions, all or region/<name>"
            )
        validate_name("peer", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHeartbeats(Fault):
    """Heartbeats arrive `delay_s` after they were sent."""

    kind = "slow"

    delay_s: float

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        _check_number("delay_s", self.delay_s, 0.001, STEP_MAX_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSkew(Fault):
    """The subject's own clock is off by `skew_s` (positive: ahead); receivers' clocks are not."""

    kind = "skew"

    skew_s: float

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        _check_number("skew_s", self.skew_s, -365 * STEP_MAX_S, 365 * STEP_MAX_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLoss(Fault):
    """Part of a node's capacity is gone: fractions of CPU and memory, whole GPUs."""

    kind = "capacity-loss"

    cpu_fraction: float = 0.0
    memory_fraction: float = 0.0
    gpus: int = 0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        _check_number("cpu_fraction", self.cpu_fraction, 0.0, 1.0)
        _check_number("memory_fraction", self.memory_fraction, 0.0, 1.0)
        _check_number("gpus", self.gpus, 0, 1024)
        if not (self.cpu_fraction or self.memory_fraction or self.gpus):
            raise InvalidInputError(
                "cpu_fraction", self.cpu_fraction, "at least one of cpu_fraction, memory_fraction, "
                "gpus above 0"
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping(Fault):
    """The subject goes away for `down_s`, comes back for `up_s`, and so on; it begins away."""

    kind = "flapping"

    down_s: float
    up_s: float
    mode: str = "partition"
    """What going away means: `partition` (from all, works on) or `crash`."""

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        _check_number("down_s", self.down_s, FLAP_STEP_MIN_S, STEP_MAX_S)
        _check_number("up_s", self.up_s, FLAP_STEP_MIN_S, STEP_MAX_S)
        if self.mode not in {"partition", "crash"}:
            raise InvalidInputError("mode", self.mode, "partition or crash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Fault):
    """The subject freezes, then goes on as if nothing had been (a stopped virtual machine)."""

    kind = "pause"


FAULT_KINDS: dict[str, type[Fault]] = {
    cls.kind: cls
    for cls in (Crash, Partition, SlowHeartbeats, ClockSkew, CapacityLoss, Flapping, Pause)
}
"""Every kind of fault by its name in a script."""


def _check_number(field: str, value: float, lowest: float, highest: float) -> None:
    """Refuse what is not finite or outside the closed range."""
    if not (math.isfinite(value) and lowest <= value <= highest):
        raise InvalidInputError(field, value, f"a number from {lowest:g} to {highest:g}")


_Draw = Callable[[Random, float, Subject, float], Fault]


def _draw_partition(random: Random, start_s: float, subject: Subject, duration_s: float) -> Fault:
    peer = random.choice(("store", "controller", "regions", "all"))
    return Partition(start_s=start_s, subject=subject, duration_s=duration_s, peer=peer)


def _draw_capacity_loss(
    random: Random, start_s: float, subject: Subject, duration_s: float
) -> Fault:
    return CapacityLoss(
        start_s=start_s,
        subject=subject,
        duration_s=duration_s,
        cpu_fraction=random.choice((0.25, 0.5, 0.75)),
        memory_fraction=random.choice((0.0, 0.25, 0.5)),
        gpus=random.choice((0, 1, 2)),
    )


_DRAWS: dict[str, _Draw] = {
    "crash": lambda random, at, who, length: Crash(
        start_s=at, subject=who, duration_s=length, silent=random.random() < 0.25
    ),
    "partition": _draw_partition,
    "slow": lambda random, at, who, length: SlowHeartbeats(
        start_s=at, subject=who, duration_s=length, delay_s=round(random.uniform(0.1, 30.0), 3)
    ),
    "skew": lambda random, at, who, length: ClockSkew(
        start_s=at, subject=who, duration_s=length, skew_s=round(random.uniform(-600.0, 600.0), 3)
    ),
    "capacity-loss": _draw_capacity_loss,
    "flapping": lambda random, at, who, length: Flapping(
        start_s=at,
        subject=who,
        duration_s=length,
        down_s=round(random.uniform(1.0, 60.0), 3),
        up_s=round(random.uniform(1.0, 60.0), 3),
        mode=random.choice(("partition", "crash")),
    ),
    "pause": lambda _random, at, who, length: Pause(start_s=at, subject=who, duration_s=length),
}


def random_fault_script(
    random: Random,
    *,
    node_ids: Sequence[str],
    regions: Sequence[str] = (),
    duration_s: float,
    faults: int,
    kinds: Sequence[str] = tuple(FAULT_KINDS),
    region_probability: float = 0.02,
) -> tuple[Fault, ...]:
    """Draw a valid fault script; the same generator state and arguments give the same script.

    Durations are log-uniform from 10 s to an hour, because short faults are common and long ones
    are those that hurt; all times are whole milliseconds.

    Args:
        random: seeded by the caller; the only source of chance.
        node_ids: nodes that may be struck, at least one.
        regions: regions that may be struck as a whole; none when empty.
        duration_s: starts are uniform in 0 .. `duration_s`.
        faults: how many to draw.
        kinds: names of the kinds to draw from, each as likely.
        region_probability: share of faults that strike a region instead of a node.

    Returns:
        The faults, ordered by start.

    Raises:
        InvalidInputError: no node, or an unknown kind.
    """
    if not node_ids:
        raise InvalidInputError("node_ids", node_ids, "at least one node")
    for kind in kinds:
        if kind not in _DRAWS:
            raise InvalidInputError("kinds", kind, ", ".join(_DRAWS))
    drawn = []
    for _ in range(faults):
        draw = _DRAWS[random.choice(kinds)]
        start_s = round(random.uniform(0.0, duration_s), 3)
        length_s = round(10.0 * 360.0 ** random.random(), 3)
        subject = Subject(SubjectKind.NODE, random.choice(node_ids))
        if regions and random.random() < region_probability:
            subject = Subject(SubjectKind.REGION, random.choice(regions))
        drawn.append(draw(random, start_s, subject, length_s))
    return tuple(sorted(drawn, key=lambda fault: fault.start_s))
