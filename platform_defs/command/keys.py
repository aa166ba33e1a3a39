"""`stateroom keys`: the keys of the backups, exchanged and, on purpose, destroyed."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from platform_defs.command import exit_codes
from platform_defs.command.action_journal import journaled
from platform_defs.command.moments import utc_text
from platform_defs.command.output import table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vault_access import (
    Backups,
    complete_network,
    dry_run_option,
    json_option,
    networks_option,
    open_backups,
    region_option,
)

if TYPE_CHECKING:
    from fleet.ports.key_wrapper import KeyWrapper
    from resources.vault.keys.shredding import ShredResult


@click.group()
def keys() -> None:
    """Keys of the backups: data keys seal, wrapping keys open the data keys.

    \b
    Examples:
      stateroom keys list
      stateroom keys rotate --network host-watch
      stateroom keys rotate --wrapping-key region-2 --retire region
      stateroom keys shred --network host-watch
    """  # noqa: D301


@keys.command("list")
@networks_option
@region_option
@json_option
def list_keys(networks: tuple[str, ...], region: str | None, as_json: bool) -> None:
    """List the wrapping keys that are declared, and the data keys of each network and region.

    \b
    Examples:
      stateroom keys list
      stateroom keys list --network host-watch --region eu-central-1 --json
    """  # noqa: D301
    backups = open_backups()
    sources = [
        {"kek_id": one.kek_id, "source": str(one), "recovery": one.recovery,
         "at_hand": not problem, "problem": problem}
        for one, problem in wrapping_keys(backups)
    ]  # fmt: skip
    declared = backups.declaration.vault_networks
    data_keys = [
        {"region": one, "network_id": network_id, **status}
        for one in backups.regions(region)
        for network_id in (backups.networks(networks) if networks else declared)
        for status in _statuses(backups, one, network_id)
    ]
    if as_json:
        click.echo(to_json({"wrapping_keys": sources, "data_keys": data_keys}))
    else:
        click.echo(_list_text(sources, data_keys))


def wrapping_keys(backups: Backups) -> list[tuple[Any, str]]:
    """The declared wrapping keys, each with what keeps it from being used; empty for nothing."""
    from resources.vault.keys.wrapping_keys import read_wrapping_key

    found = []
    for source in backups.declaration.keys:
        try:
            read_wrapping_key(source)
        except StateroomError as error:
            found.append((source, str(error)))
        else:
            found.append((source, ""))
    return found


def _statuses(backups: Backups, region: str, network_id: str) -> list[dict[str, Any]]:
    from resources.vault.keys.shredding import read_shred_note
    from resources.vault.retention.key_rotation import key_status

    store = backups.vaults.store(region)
    note = read_shred_note(store, network_id)
    if note is not None:
        return [{"dek_id": None, "kek_ids": [], "said": str(note)}]
    try:
        found = key_status(store, network_id)
    except NotFoundError:
        return []
    newest = max(one.dek_id for one in found)
    return [
        {
            "dek_id": one.dek_id,
            "kek_ids": list(one.kek_ids),
            "created_at": one.created_at,
            "packs": one.packs,
            "said": "rotation unfinished: run it again"
            if not one.is_usable
            else "seals new packs"
            if one.dek_id == newest
            else "opens older packs",
        }
        for one in found
    ]


def _list_text(sources: Sequence[dict[str, Any]], data_keys: Sequence[dict[str, Any]]) -> str:
    rows = [
        (one["kek_id"], "recovery" if one["recovery"] else "", one["source"],
         one["problem"] or "at hand")
        for one in sources
    ]  # fmt: skip
    lines = [table(("wrapping key", "for", "kept in", "state"), rows), ""]
    cells = [
        (
            one["region"],
            one["network_id"],
            one["dek_id"],
            ", ".join(one["kek_ids"]),
            utc_text(one.get("created_at")),
            one.get("packs"),
            one["said"],
        )
        for one in data_keys
    ]
    headings = ("region", "network", "data key", "wrapped by", "made", "packs", "state")
    lines.append(table(headings, cells) if cells else "no data key yet; `stateroom up` makes them")
    return "\n".join(lines)


@keys.command()
@networks_option
@click.option("--wrapping-key", "new", metavar="NEW", help="Wrap all data keys with this key too.")
@click.option("--retire", "old", metavar="OLD", help="Delete the wraps of this key.")
@json_option
def rotate(networks: tuple[str, ...], new: str | None, old: str | None, as_json: bool) -> None:
    """Make a new data key for each network; or exchange the keys that wrap the data keys.

    No stored data is touched by either. The new wrapping key must be declared under
    [wrapping_keys]; a lost or leaked one goes with --retire. Killed and run again, it completes.

    \b
    Examples:
      stateroom keys rotate
      stateroom keys rotate --network host-watch
      stateroom keys rotate --wrapping-key region-2 --retire region
    """  # noqa: D301
    backups = open_backups()
    wanted = [vault.network_id for vault in backups.open_all(networks)]
    if new or old:
        rows = _exchange(backups, wanted, new, old)
    else:
        rows = [_rotate_data_key(backups, one) for one in wanted]
    click.echo(to_json(rows) if as_json else "\n".join(str(row["said"]) for row in rows))


def _rotate_data_key(backups: Backups, network_id: str) -> dict[str, Any]:
    from resources.vault.retention.key_rotation import rotate_data_key

    keys_now = rotate_data_key(backups.open(network_id), backups.vaults.keks())
    newest = keys_now.newest.dek_id
    said = f"{network_id}: data key {newest} seals new packs; older ones stay readable"
    return {"network_id": network_id, "dek_id": newest, "said": said}


def _exchange(
    backups: Backups, networks: Sequence[str], new: str | None, old: str | None
) -> list[dict[str, Any]]:
    """Exchange wrapping keys, first in the region that writes; regions without wraps come later."""
    from resources.vault.keys.key_wraps import list_wraps
    from resources.vault.retention.key_rotation import rotate_kek

    add = [_declared_key(backups, new)] if new else []
    remove = [old] if old else []
    keks: Sequence[KeyWrapper] = backups.vaults.keks()
    rows = []
    regions = (backups.home, *backups.declaration.replica_regions)
    for region in regions:
        store = backups.vaults.store(region)
        for network_id in networks:
            if not list_wraps(store, network_id):
                continue  # not replicated yet; replication copies the home's wraps
            done = rotate_kek(store, network_id, keks, add=add, remove=remove)
            said = (
                f"{region}, {network_id}: {done.data_keys} data keys, "
                f"{done.wraps_added} wraps added, {done.wraps_deleted} deleted"
            )
            rows.append(
                {"region": region, "network_id": network_id, **done._asdict(), "said": said}
            )
    return rows


def _declared_key(backups: Backups, kek_id: str) -> KeyWrapper:
    from resources.vault.keys.wrapping_keys import read_wrapping_key

    for source in backups.declaration.keys:
        if source.kek_id == kek_id:
            return read_wrapping_key(source)
    known = ", ".join(one.kek_id for one in backups.declaration.keys)
    raise NotFoundError(
        f"no wrapping key {kek_id!r}; declared: {known}",
        hint=f"Declare it as [wrapping_keys.{kek_id}] in stateroom.toml, with file, env or kms.",
    )


@keys.command()
@networks_option
@json_option
def wrap(networks: tuple[str, ...], as_json: bool) -> None:
    """Wrap every data key with every declared key at hand, in every region; adds, never deletes.

    For a key that was added to [wrapping_keys], or after a rotation that was killed.

    \b
    Examples:
      stateroom keys wrap
      stateroom keys wrap --network host-watch
    """  # noqa: D301
    backups = open_backups()
    wanted = [vault.network_id for vault in backups.open_all(networks)]
    rows = [
        row
        for source, problem in wrapping_keys(backups)
        if not problem
        for row in _exchange(backups, wanted, source.kek_id, None)
        if row["wraps_added"]
    ]
    if as_json:
        click.echo(to_json(rows))
    else:
        said = [f"{row['region']}, {row['network_id']}: {row['wraps_added']} added" for row in rows]
        click.echo("\n".join(said) or "every data key is wrapped by every key at hand")


@keys.command()
@click.option("--network", required=True, shell_complete=complete_network, metavar="NAME",
              help="Whose backups become unreadable.")  # fmt: skip
@click.option("--reason", default="", help="Why; it stands in the note that remains.")
@click.option("--by", default=None, metavar="NAME", help="Who orders it; default your login name.")
@click.option("--yes-shred", metavar="NAME", help="The network's name again, for scripts.")
@dry_run_option
@json_option
@click.pass_context
def shred(
    ctx: click.Context,
    network: str,
    reason: str,
    by: str | None,
    yes_shred: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Destroy every key of a network's backups, in all regions. Nothing undoes this.

    All snapshots, journals and files of the network stay unreadable for ever; a dated note of who
    did it remains. Live agents go on working; their next backup needs another network name. Exit
    code 1 when a region was not reached and wraps remain there: run it again (with --dry-run: when
    a region cannot be read).

    \b
    Examples:
      stateroom keys shred --network host-watch --dry-run
      stateroom keys shred --network host-watch --reason "contract 7 ended"
      stateroom keys shred --network host-watch --reason "..." --yes-shred host-watch --json
    """  # noqa: D301
    if not dry_run and not reason.strip():
        raise click.UsageError("--reason is needed: a note with it is all that remains")
    backups = open_backups()
    backups.networks([network])
    if dry_run:
        rows = [_shred_preview(backups, region, network) for region in backups.declaration.regions]
        click.echo(to_json(rows) if as_json else _preview_text(network, rows))
        ctx.exit(exit_codes.FINDING if any(row["problem"] for row in rows) else exit_codes.OK)
    confirm = _confirmed(backups, network, yes_shred, as_json=as_json)
    with fleet_store(backups.settings) as store:
        who = by or getpass.getuser()
        said = f"{who}: {reason}"
        with journaled(store, "shred", network, said, same_reason=False) as detail:
            done = _shred(backups, network, confirm, who, reason)
            detail["remaining"] = list(done.remaining)
            if done.remaining:
                # The action stays open until a later run of it has reached every region.
                detail["unfinished"] = True
    click.echo(to_json(_shred_document(done)) if as_json else _shred_text(done))
    ctx.exit(exit_codes.FINDING if done.remaining else exit_codes.OK)


def _shred_preview(backups: Backups, region: str, network: str) -> dict[str, Any]:
    """What shredding would destroy in one region; nothing is touched."""
    row: dict[str, Any] = {"region": region, "network_id": network, "dry_run": True}
    try:
        found = _statuses(backups, region, network)
    except StateroomError as error:
        return {**row, "data_keys": None, "wraps": None, "packs": None, "problem": str(error)}
    return {
        **row,
        "data_keys": sum(one["dek_id"] is not None for one in found),
        "wraps": sum(len(one["kek_ids"]) for one in found),
        "packs": sum(one.get("packs") or 0 for one in found),
        "problem": "",
    }


def _preview_text(network: str, rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        (row["region"], row["data_keys"], row["wraps"], row["packs"], row["problem"] or "would go")
        for row in rows
    ]
    headings = ("region", "data keys", "wraps", "packs", "state")
    return f"shredding {network} would destroy:\n{table(headings, cells)}\nnothing was touched"


def _confirmed(backups: Backups, network: str, typed: str | None, *, as_json: bool) -> str:
    """The network's name as it was typed a second time."""
    if typed is None:
        regions = ", ".join(backups.declaration.regions)
        click.echo(
            f"This destroys all backups of {network} in {regions}. Nothing brings them back.",
            err=True,
        )
        typed = click.prompt("Type the network's name to go on", default="", show_default=False,
                             err=as_json)  # fmt: skip
    if typed != network:
        raise InvalidInputError(
            "confirmation", typed, f"the network's name, {network}", hint="Nothing was touched."
        )
    return str(typed)


def _shred(backups: Backups, network: str, confirm: str, by: str, reason: str) -> ShredResult:
    from resources.vault.keys.shredding import shred_network

    stores = {one: backups.vaults.store(one) for one in backups.declaration.regions}
    return shred_network(
        stores, network, confirm=confirm, by=by, reason=reason, at=datetime.now(UTC)
    )


def _shred_document(done: ShredResult) -> dict[str, Any]:
    return {
        "note": done.note._asdict(),
        "regions": [one._asdict() for one in done.regions],
        "remaining": done.remaining,
        "advice": done.advice,
    }


def _shred_text(done: ShredResult) -> str:
    rows = [
        (one.region, one.wraps_deleted, utc_text(one.locked_until), one.problem or "done")
        for one in done.regions
    ]
    lines = [table(("region", "wraps deleted", "locked until", "state"), rows)]
    if done.remaining:
        lines.append(f"  ! wraps remain in {', '.join(done.remaining)}: run it again")
    lines += [f"  -> {one}" for one in done.advice]
    return "\n".join(lines)
