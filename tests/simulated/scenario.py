"""What a scenario is, and how it is played into a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fleet.failover.policy import FailoverPolicy, RegionMode
from fleet.failover.profiles import PRODUCTION
from fleet.failover.rules import Rule
from tests.simulated.failover_drive import FailoverDrive, FleetShape
from tests.simulated.orders_of_play import Play

AUTO = replace(PRODUCTION, region_mode=RegionMode.AUTO)


@dataclass(frozen=True)
class Scenario:
    """One history, with what may not be too early and what may not be too late.

    Bounds name milestones: `suspect:NODE`, `left:NODE` (an agent left it), `move_node:NODE` (it
    was asked for), `alert:RULE:SUBJECT`, `frozen:CONTROLLER`, `end_incident:SUBJECT` and the like
    (`failover_drive.Story.mark`). All times are simulated seconds since the fleet was up.
    """

    name: str
    story: str
    script: tuple[tuple[float, str], ...]
    """When which command is given."""
    until_s: float
    not_before: Mapping[str, float] = field(default_factory=dict)
    at_latest: Mapping[str, float] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    """Milestones, or their beginnings, that must not be seen at all."""
    policy: FailoverPolicy = PRODUCTION
    shape: FleetShape = FleetShape()  # noqa: RUF009 - an immutable record
    stays_open: tuple[str, ...] = ()
    """Beginnings of incidents that wait for somebody at the end."""
    strands: int = 0
    """Agents that neither run nor are parked at the end: a person has not answered yet."""

    def head(self) -> list[str]:
        """What the text says before it begins."""
        lines = [self.story, ""]
        lines += [f"not before {at_s:g} s: {name}" for name, at_s in self.not_before.items()]
        lines += [f"at the latest {at_s:g} s: {name}" for name, at_s in self.at_latest.items()]
        lines += [f"never: {name}" for name in self.never]
        return lines


def play(scenario: Scenario, without: frozenset[Rule] = frozenset()) -> FailoverDrive:
    """Play a scenario to its end; the drive is closed and can be looked at."""
    drive = FailoverDrive(scenario.policy, scenario.shape, without=without)
    orders = Play(drive)
    try:
        for at_s, line in scenario.script:
            drive.run(at_s - drive.now_s)
            orders.do(line)
        drive.run(scenario.until_s - drive.now_s)
    finally:
        drive.close()
    return drive


def text_of(scenario: Scenario, drive: FailoverDrive) -> str:
    """What was seen, decided and done, with times, and how it ended."""
    ended = [
        f"incidents without an end: {', '.join(drive.open_incidents()) or 'none'}",
        f"agents that neither run nor are parked: {', '.join(drive.unsettled()) or 'none'}",
    ]
    return "\n".join([*scenario.head(), "", *drive.story.lines, "", *ended]) + "\n"


def broken_bounds(scenario: Scenario, drive: FailoverDrive) -> list[str]:
    """Everything that was too early, too late, or should never have been; empty when all is well.

    A bound that nothing reached is broken as well: a "not before" of what never happened says
    nothing.
    """
    firsts = drive.story.firsts
    wrong = []
    for name, at_s in scenario.not_before.items():
        if name in firsts and firsts[name] < at_s:
            wrong.append(f"{name} at {firsts[name]:g} s, not before {at_s:g} s")
        if name not in firsts:
            wrong.append(f"{name} never happened, though it has a bound before which it may not")
    for name, at_s in scenario.at_latest.items():
        if firsts.get(name, float("inf")) > at_s:
            wrong.append(f"{name} at {firsts.get(name, 'no time')} s, at the latest {at_s:g} s")
    for name in scenario.never:
        wrong += [f"{one} at {firsts[one]:g} s, never" for one in firsts if one.startswith(name)]
    still_open = [one for one in drive.open_incidents() if not one.startswith(scenario.stays_open)]
    if not scenario.stays_open:
        still_open = drive.open_incidents()
    wrong += [f"incident {one} has no end" for one in still_open]
    wrong += [f"incident {one} has left no record" for one in drive.unrecorded()]
    stranded = drive.unsettled()
    if len(stranded) != scenario.strands:
        wrong.append(f"{len(stranded)} agents stranded, {scenario.strands} expected: {stranded}")
    return wrong
