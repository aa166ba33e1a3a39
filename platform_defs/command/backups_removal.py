"""`stateroom backups hold`, `undelete` and `gc`: what must stay, comes back, or goes for good."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet.errors import InvalidInputError, NotFoundError
from platform_defs.command.moments import parse_moment, utc_text
from platform_defs.command.output import size_text, table, to_json
from platform_defs.command.vault_access import (
    Backups,
    complete_snapshot,
    dry_run_option,
    find_snapshot,
    json_option,
    networks_option,
    open_backups,
    yes_option,
)


@click.command()
@click.argument("snapshot", required=False, shell_complete=complete_snapshot)
@click.option("--reason", default="", help="Why; whoever plans the retention reads it.")
@click.option("--until", metavar="TIME", help="Ends by itself then: ISO 8601 with zone.")
@click.option("--release", "hold_id", metavar="HOLD", help="End this hold.")
@json_option
def hold(
    snapshot: str | None, reason: str, until: str | None, hold_id: str | None, as_json: bool
) -> None:
    """Keep a snapshot from being forgotten, or end a hold.

    \b
    Examples:
      stateroom backups hold 01JD3X0A7Q --reason "audit 7"
      stateroom backups hold 01JD3X0A7Q --reason "until the audit" --until 2027-01-31T00:00:00Z
      stateroom backups hold --release 01JD3X9ZZZ
    """  # noqa: D301
    backups = open_backups()
    if hold_id is not None:
        if snapshot or reason or until:
            raise click.UsageError("--release takes neither a snapshot nor --reason nor --until")
        done = _release(backups, hold_id)
    else:
        if not snapshot or not reason.strip():
            raise click.UsageError("a SNAPSHOT and --reason are needed (or --release HOLD)")
        done = _hold(backups, snapshot, reason, until)
    click.echo(to_json(done) if as_json else _hold_text(done))


def _hold(backups: Backups, text: str, reason: str, until: str | None) -> dict[str, object]:
    from resources.vault.retention.removal import hold as hold_snapshots

    now = datetime.now(UTC)
    expires_at = parse_moment("--until", until, now) if until else None
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError("--until", until, "a time that is still to come")
    vault, snapshot_id = find_snapshot(backups, text)
    made = hold_snapshots(vault, [snapshot_id], reason, expires_at)
    return {
        "hold_id": made,
        "snapshot_id": snapshot_id,
        "network_id": vault.network_id,
        "reason": reason,
        "expires_at": expires_at,
        "released": False,
    }


def _release(backups: Backups, hold_id: str) -> dict[str, object]:
    from resources.vault.retention.removal import release

    for vault in backups.open_all():
        found = vault.log.refresh().holds.get(hold_id)
        if found is not None:
            release(vault, hold_id)
            return {
                "hold_id": hold_id,
                "snapshot_id": ", ".join(sorted(found.snapshot_ids)),
                "network_id": vault.network_id,
                "reason": found.reason,
                "expires_at": found.expires_at,
                "released": True,
            }
    raise NotFoundError(
        f"no hold {hold_id!r} is in force",
        hint="`stateroom backups show SNAPSHOT` names its holds.",
    )


def _hold_text(done: dict[str, object]) -> str:
    if done["released"]:
        return f"released {done['hold_id']}: {done['snapshot_id']} may be forgotten again"
    expires_at = done["expires_at"]
    lasts = "until it is released"
    if isinstance(expires_at, datetime):
        lasts = f"until {utc_text(expires_at)}"
    return (
        f"held {done['snapshot_id']} of {done['network_id']} {lasts}\n"
        f"  -> end it: stateroom backups hold --release {done['hold_id']}"
    )


@click.command()
@click.argument("snapshot", shell_complete=complete_snapshot)
@dry_run_option
@json_option
def undelete(snapshot: str, dry_run: bool, as_json: bool) -> None:
    """Bring a forgotten snapshot back, as long as no gc has condemned what it reads.

    \b
    Examples:
      stateroom backups undelete 01JD3X0A7Q
      stateroom backups list --all
    """  # noqa: D301
    from fleet.errors import PermanentError
    from fleet.vault_log import refuse_undelete
    from resources.vault.retention.removal import undelete as undelete_snapshot

    vault, snapshot_id = find_snapshot(open_backups(), snapshot)
    state = vault.log.refresh()
    is_live = snapshot_id in state.live
    refused = None if is_live else refuse_undelete(state, snapshot_id)
    if refused:
        raise PermanentError(
            f"snapshot {snapshot_id} cannot come back: {refused}",
            hint="Another region may still hold it: stateroom backups list --all --region NAME",
        )
    if not dry_run and not is_live:
        undelete_snapshot(vault, snapshot_id)
    did = "is live already" if is_live else "would be live again" if dry_run else "is live again"
    if as_json:
        click.echo(to_json({"snapshot_id": snapshot_id, "said": did, "dry_run": dry_run}))
    else:
        click.echo(f"{snapshot_id} of {vault.network_id} {did}")


@click.command()
@networks_option
@dry_run_option
@yes_option
@json_option
def gc(networks: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool) -> None:
    """Condemn what no live or held snapshot needs, and delete what was condemned a day ago.

    Two steps on purpose: what one gc condemns, another one deletes 24 hours later at the earliest.

    \b
    Examples:
      stateroom backups gc --dry-run
      stateroom backups gc --yes
    """  # noqa: D301
    from resources.vault.retention.removal import (
        collect_garbage,
        preview_garbage,
        preview_sweep,
        sweep,
    )

    backups = open_backups()
    vaults = [one for one in backups.open_all(networks) if one.log.refresh().head]
    seen = [(preview_garbage(one), preview_sweep(one)) for one in vaults]
    condemned_bytes = sum(found.bytes_condemned for found, _ in seen)
    deleted_bytes = sum(swept.bytes_freed for _, swept in seen)
    rows: list[dict[str, object]] = [
        {
            "network_id": vault.network_id,
            "condemned": found.condemned,
            "condemned_bytes": found.bytes_condemned,
            "attempts_given_up": found.aborted,
            "deleted": swept.objects,
            "deleted_bytes": swept.bytes_freed,
        }
        for vault, (found, swept) in zip(vaults, seen, strict=True)
    ]
    if not as_json:
        click.echo(_gc_text(rows))
    due = any(row["condemned"] or row["deleted"] or row["attempts_given_up"] for row in rows)
    if due and not dry_run:
        if not yes:
            question = f"Condemn {size_text(condemned_bytes)}, delete {size_text(deleted_bytes)}?"
            click.confirm(question, abort=True, err=as_json)
        for vault in vaults:
            sweep(vault)
            collect_garbage(vault)
        if not as_json:
            click.echo("done")
    if as_json:
        click.echo(to_json({"dry_run": dry_run, "networks": rows}))


def _gc_text(rows: list[dict[str, object]]) -> str:
    if not rows:
        return "no network has a backup yet"
    headings = ("network", "to condemn", "size", "dead attempts", "to delete", "size")
    cells = [
        (
            row["network_id"],
            row["condemned"],
            size_text(int(str(row["condemned_bytes"]))),
            row["attempts_given_up"],
            row["deleted"],
            size_text(int(str(row["deleted_bytes"]))),
        )
        for row in rows
    ]
    return table(headings, cells)
