"""Networks that were shredded: jobs leave them out, and say when, by whom and why.

Only a network of which no wrap is left is left out. A note beside wraps that still stand is an
order that was not completed, or somebody's forgery: then jobs fail, as they do for any vault that
does not open.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fleet.backup_tables import SHREDDED, ShreddedNetwork
from fleet.errors import PermanentError, StateroomError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.vault_shred import NetworkShreddedError, ShredNote
from ops.backup_rows import write_rows
from resources.vault.region_vaults import RegionVaults

Record = Callable[[str], Mapping[str, Any]]


def shredded_note(vaults: RegionVaults, error: NetworkShreddedError) -> ShredNote:
    """The note of a network that is gone for good.

    Args:
        vaults: of all regions.
        error: of opening it.

    Raises:
        PermanentError: wraps of its keys still stand where backups are written.
    """
    from resources.vault.keys.key_wraps import list_wraps

    note = error.note
    left = list_wraps(vaults.store(vaults.declaration.home_region), note.network_id)
    if left:
        raise PermanentError(
            f"{error}, but wraps of {', '.join(sorted(left))} still stand",
            hint="Complete it (`stateroom keys shred`); if nobody ordered it, the note is forged.",
        ) from error
    return note


def find_shredded(vaults: RegionVaults, networks: Collection[str]) -> dict[str, ShredNote]:
    """Those of some networks that were shredded.

    What else keeps a network from being opened is left to whoever opens it next.
    """
    found: dict[str, ShredNote] = {}
    for network_id in networks:
        try:
            vaults.home(network_id)
        except NetworkShreddedError as error:
            try:
                found[network_id] = shredded_note(vaults, error)
            except PermanentError:
                continue  # not completed: whoever opens it next fails, as it must
        except StateroomError:
            continue
    return found


def leave_out_shredded(
    vaults: RegionVaults, lake: Lake, clock: Clock, table: str, row: type[Any], record: Record
) -> Record:
    """Record a partition, of a shredded network as an empty one with the reason.

    Args:
        vaults: of all regions.
        lake: where the partition's rows go.
        clock: dates the empty rows.
        table: that is recorded.
        row: type of its rows.
        record: writes the partition of a network that can be opened.
    """

    def recorded(network_id: str) -> Mapping[str, Any]:
        try:
            return record(network_id)
        except NetworkShreddedError as error:
            note = shredded_note(vaults, error)
            evidence = write_rows(lake, table, network_id, [], row, clock.now())
            record_shredded(lake, note, clock)
            return {**evidence, **shown_shredded({network_id: note})}

    return recorded


def record_shredded(lake: Lake, note: ShredNote, clock: Clock) -> None:
    """Tell the checks, which read the lake alone."""
    found = ShreddedNetwork(note.network_id, note.shredded_at, note.by, note.reason)
    write_rows(lake, SHREDDED, note.network_id, [found], ShreddedNetwork, clock.now())


def shown_shredded(notes: Mapping[str, ShredNote]) -> dict[str, Sequence[str]]:
    """Evidence of what a run has left out; nothing when it was nothing."""
    said = [f"network {network_id} was {note}" for network_id, note in sorted(notes.items())]
    return {"skipped": said} if said else {}
