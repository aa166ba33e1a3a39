"""Writes the journal of state changes between snapshots, and copies it to the other regions.

Called from a sensor's tick, not from a run: a segment a minute is worth no process of its own. A
segment is committed by its creation (`resources/vault/journal/journal.py`); a tick that dies is
made up for by the next one, which goes on from the last segment that is there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from fleet.backup_tables import JOURNAL, JournalReach
from fleet.errors import StateroomError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.backup_rows import write_rows
from ops.evidence import number_evidence
from ops.shredded_networks import find_shredded
from resources.vault.region_vaults import RegionVaults

TICK_MAX_S = 20.0
"""After this long a tick copies nothing more: Dagster kills one at 60 s, and a region that does not
answer takes its time limit before it says so."""


KEEP_S = 900.0
"""How long opened vaults are kept: a key that was rotated, or an agent declared into another
network, is known to the journal after this time."""


class JournalHandle:
    """Opened vaults, kept from tick to tick: a log only grows, so a tick reads what is new.

    Without it each tick would read every record of every log. Dropped after `KEEP_S`, and when
    anything went wrong with it.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._vaults: RegionVaults | None = None
        self._opened_s = 0.0
        self.networks: dict[str, str] = {}
        """Network of each agent that was seen."""

    def keep(self, vaults: RegionVaults, clock: Clock) -> RegionVaults:
        """The kept vaults, or these from now on."""
        now_s = clock.monotonic_s()
        if self._vaults is None or now_s - self._opened_s >= KEEP_S:
            self._vaults, self._opened_s, self.networks = vaults, now_s, {}
        return self._vaults

    def drop(self) -> None:
        """Open everything anew at the next tick."""
        self._vaults = None


def journal_changes(
    vaults: RegionVaults,
    control_store: ControlStore,
    clock: Clock,
    networks: Sequence[str],
    known: dict[str, str] | None = None,
) -> list[JournalReach]:
    """Write what has changed, then copy it; one row for each network and region that was tried.

    Args:
        vaults: of all regions.
        control_store: whose change log is read.
        clock: dates the rows.
        networks: to journal; those that were shredded are left out.
        known: network of each agent, filled here and kept by the caller; None to keep nothing.

    Raises:
        StoreUnavailableError: the control store does not answer.
        NotFoundError, PermanentError: no key opens the home's vault.
    """
    from resources.vault.journal.journal import append_segments

    declaration = vaults.declaration
    end_s = clock.monotonic_s() + TICK_MAX_S
    shredded = find_shredded(vaults, networks)
    networks = [one for one in networks if one not in shredded]
    homes = {one: vaults.home(one) for one in networks}
    done = append_segments(homes, control_store, networks=known)
    now = clock.now()
    rows = []
    for network_id in networks:
        failure = done.failures.get(network_id)
        if failure is not None:
            rows.append(_failed(network_id, declaration.home_region, failure, clock))
            continue
        result = done.results[network_id]
        home = JournalReach(
            network_id=network_id,
            region=declaration.home_region,
            # Up to here nothing has changed but what is stored.
            covered_until=result.checked_at if result.covered_at else None,
            segments=len(result.segments),
            agents=result.agents,
            stored_bytes=result.bytes_stored,
            damaged=result.damaged,
            gap=result.gap or result.waiting,
            fault="",
            looked_at=now,
        )
        rows.append(home)
        rows += [
            _copy(vaults, region, home, clock)
            for region in declaration.replica_regions
            if clock.monotonic_s() < end_s
        ]
    return rows


def _copy(vaults: RegionVaults, region: str, home: JournalReach, clock: Clock) -> JournalReach:
    """Bring one region's journal up to the home's; what fails is told in the row."""
    from resources.vault.journal.journal_upkeep import copy_segments

    network_id = home.network_id
    empty = JournalReach(network_id, region, None, 0, 0, 0, (), "", "", clock.now())
    replica = vaults.replica(region, network_id)
    try:
        if not replica.log.refresh().live:
            return empty._replace(gap="no snapshot has been copied here yet")
        copied = copy_segments(vaults.home(network_id), replica)
    except StateroomError as error:
        return _failed(network_id, region, error, clock)
    return empty._replace(
        covered_until=home.covered_until,
        segments=copied.segments,
        stored_bytes=copied.size_bytes,
        gap=home.gap,
        looked_at=clock.now(),
    )


def _failed(network_id: str, region: str, error: StateroomError, clock: Clock) -> JournalReach:
    fault = f"{error} {error.hint}".strip()
    return JournalReach(network_id, region, None, 0, 0, 0, (), "", fault, clock.now())


def record_reach(
    lake: Lake, network_id: str, rows: Sequence[JournalReach], clock: Clock
) -> dg.AssetMaterialization:
    """Write a network's rows to the lake; the event that a tick reports of them."""
    now = clock.now()
    evidence = write_rows(lake, JOURNAL, network_id, rows, JournalReach, now)
    return dg.AssetMaterialization(
        asset_key=JOURNAL, partition=network_id, metadata={**_numbers(rows, now), **evidence}
    )


def _numbers(rows: Sequence[JournalReach], now: Any) -> Mapping[str, int | float]:
    home = rows[0]
    reached = [row.covered_until for row in rows if row.covered_until is not None]
    numbers: dict[str, int | float] = {
        "segments": home.segments,
        "agents_stored": home.agents,
        "stored_bytes": home.stored_bytes,
        "segments_copied": sum(row.segments for row in rows[1:]),
        "regions_behind": sum(row.covered_until is None for row in rows),
    }
    if reached:
        numbers["oldest_reach_s"] = (now - min(reached)).total_seconds()
    return number_evidence(numbers)
