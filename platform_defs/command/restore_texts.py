"""What a restore would do, and what it did, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from platform_defs.command.moments import span_text, utc_text
from platform_defs.command.output import cell_text, size_text

if TYPE_CHECKING:
    from platform_defs.command.restore import Wanted
    from resources.vault.journal.found_moment import Substitution
    from resources.vault.restores.restore import RestoreResult
    from resources.vault.restores.restore_preview import RestorePreview

NAMED = 5
LISTED = 20


def preview_text(wanted: Wanted, found: RestorePreview) -> str:
    """What would change, before anything does."""
    asked = f"{utc_text(wanted.at)} wanted, " if wanted.at else ""
    journal = f", {counted(found.from_journal, 'agent')} from the journal behind it"
    lines = [
        f"network   {wanted.network_id}, from the copy in {wanted.region}",
        f"moment    {asked}{utc_text(found.achieved)} held",
        f"source    snapshot {found.snapshot_id} of {utc_text(found.taken_at)}"
        + (journal if found.from_journal else ""),
        f"agents    {counted(found.agents, 'agent')}, {size_text(found.logical_bytes)}",
    ]
    lines += [f"into      {wanted.folder or wanted.into}"] if wanted.folder or wanted.into else []
    if wanted.folder:
        lines += _names("is written", "are written", found.absent, "a file each")
    else:
        lines += _names("comes back", "come back", found.absent, "no live state")
    lines += _names("is replaced", "are replaced", found.older, "live state older or damaged")
    if found.unchanged:
        lines.append(f"  {found.unchanged} already as wanted")
    if wanted.force:
        lines += _names("is OVERWRITTEN", "are OVERWRITTEN", found.newer, "live state newer")
    else:
        why = "live state newer; --force overwrites"
        lines += _names("is left alone", "are left alone", found.newer, why)
    lines += _notes(found.substitutions, found.missing, found.notes)
    if not found.absent and not found.older and not (wanted.force and found.newer):
        nothing = "nothing to restore"
        if not found.agents:
            nothing += ": no agent had a state then; files come back with --artefact"
        lines.append(nothing)
    return "\n".join(lines)


def result_text(wanted: Wanted, found: RestorePreview, done: RestoreResult) -> str:
    """What was done, honestly; what the preview has said already is not said again."""
    what = f"{counted(done.restored, 'agent')} ({size_text(done.bytes_logical)})"
    as_of = utc_text(done.achieved or done.taken_at)
    lines = [f"restored {what} in {span_text(done.seconds)}, as of {as_of}"]
    if wanted.folder:
        lines.append(f"  states and manifest.json lie in {wanted.folder}")
    parts = [
        f"{done.from_snapshot} from snapshots",
        f"{done.from_journal} from the journal",
        f"{done.unchanged} were so already",
        f"{len(done.skipped)} newer and left alone",
    ]
    lines.append(f"  {', '.join(parts)}")
    lines += [f"  ! refused: {one}: {cell_text(why)}" for one, why in done.refused[:LISTED]]
    lines += _more(done.refused)
    if not done.certain:
        lines.append("  ! part of the journal is lost: anybody may have had a newer version")
    lines += _notes(
        [one for one in done.substitutions if one not in found.substitutions],
        [one for one in done.missing if one not in found.missing],
        [one for one in done.notes if one not in found.notes],
    )
    return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """`1 agent`, `2 agents`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(one: str, many: str, agents: Sequence[str], why: str) -> list[str]:
    if not agents:
        return []
    more = ", ..." if len(agents) > NAMED else ""
    verb = one if len(agents) == 1 else many
    return [f"  {len(agents)} {verb} ({why}): {', '.join(agents[:NAMED])}{more}"]


def _notes(
    substitutions: Sequence[Substitution],
    missing: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> list[str]:
    lines = [
        f"  ! {one.agent_id}: version {one.version} of {utc_text(one.updated_at)}"
        + (f" in place of {one.wanted_version}" if one.wanted_version is not None else "")
        + f": {cell_text(one.reason)}"
        for one in substitutions[:LISTED]
    ]
    lines += _more(substitutions)
    lines += [f"  ! missing: {one}: {cell_text(why)}" for one, why in missing[:LISTED]]
    lines += _more(missing)
    return lines + [f"  note: {cell_text(one)}" for one in notes[:LISTED]]


def _more(listed: Sequence[object]) -> list[str]:
    hidden = len(listed) - LISTED
    return [f"  ... and {hidden} more; --json lists all"] if hidden > 0 else []
