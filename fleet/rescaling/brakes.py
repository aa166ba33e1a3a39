"""What holds rescaling back: a region that is lost, eyes that are not trusted, a pause.

Failover and rescaling must not work against each other: an agent that failover has parked or moved
counts as wanted, and nobody scales where agents are being moved away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.controller_view import KeptView
from fleet.failover.records import ControllerState, RegionState
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState
from fleet.operator_orders import Automation


class Brakes(NamedTuple):
    """Why nothing may be changed; empty texts where it may."""

    everywhere: str
    """Holds for everybody, also for what a person has ordered."""
    paused: str
    """Holds for what the controller decides by itself."""
    regions: Mapping[str, str]
    """By region, for everybody."""

    def on(self, region: str, *, ordered: bool) -> str:
        """Why nothing may be changed in a region; empty when it may.

        Args:
            region: in question.
            ordered: a person has said how many there are to be.
        """
        held = self.everywhere or self.regions.get(region, "")
        return held or ("" if ordered else self.paused)


def read_brakes(
    view: KeptView | None,
    automation: Automation,
    incidents: Iterable[IncidentHeader],
    *,
    failover_enabled: bool,
) -> Brakes:
    """What holds now.

    Args:
        view: of the controller of failover; None when none has ever told it.
        automation: the switch.
        incidents: that have not ended.
        failover_enabled: whether a controller of failover watches at all; what an earlier one has
            left behind says nothing.
    """
    paused = ""
    if automation.paused:
        paused = f"{automation.changed_by} has paused the automation: {automation.reason}"
    if not failover_enabled:
        return Brakes("", paused, {})
    everywhere = ""
    regions = {}
    if view is not None:
        if view.view.controller is ControllerState.FROZEN:
            rules = ", ".join(view.view.frozen_by) or "no rule named"
            everywhere = f"failover is frozen ({rules}): what is seen of the fleet is not trusted"
        regions = {
            one.region: f"region {one.region} is lost as far as failover can tell"
            for one in view.view.regions
            if one.state is RegionState.FULL
        }
    for one in incidents:
        if one.kind in _MOVING and one.state is not IncidentState.ENDED:
            told = _MOVING[one.kind].format(region=one.subject)
            regions.setdefault(one.subject, f"{told} ({one.incident_id})")
    return Brakes(everywhere, paused, regions)


_MOVING = {
    IncidentKind.REGION: "agents of region {region} are being moved away",
    IncidentKind.FAIL_BACK: "agents of region {region} are on their way home",
}
