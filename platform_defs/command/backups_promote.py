"""`stateroom backups promote`: another region takes over writing the backups.

It acts on the vaults alone: in the hour in which a region is lost there may be no control store.
What it does stands in the log of each network, as the record that begins its new epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import InvalidInputError, StateroomError
from platform_defs.command import exit_codes
from platform_defs.command.output import table, to_json
from platform_defs.command.vault_access import (
    Backups,
    complete_region,
    dry_run_option,
    json_option,
    networks_option,
    open_backups,
)

if TYPE_CHECKING:
    from fleet.ports.object_store import ObjectStore
    from resources.vault.network import NetworkVault
    from resources.vault.replicas.promotion_preview import PromotionPreview


@click.command()
@click.option("--region", required=True, shell_complete=complete_region, metavar="NAME",
              help="That is to write from now on.")  # fmt: skip
@networks_option
@click.option("--operator-decides", is_flag=True,
              help="No other region writes, you made sure: no majority is needed.")  # fmt: skip
@click.option("--supersede", type=click.IntRange(min=0), default=0, metavar="EPOCH",
              help="An epoch whose region is gone for good: claim a higher one.")  # fmt: skip
@dry_run_option
@click.option("--yes-promote", metavar="NAME", help="The region's name again, for scripts.")
@json_option
@click.pass_context
def promote(
    ctx: click.Context,
    region: str,
    networks: tuple[str, ...],
    operator_decides: bool,
    supersede: int,
    dry_run: bool,
    yes_promote: str | None,
    as_json: bool,
) -> None:
    """Make a region the one that writes the backups, when the one that did is lost.

    Each network's log goes on under a higher epoch; a region that comes back is refused as a
    writer and becomes a replica. What it had not yet given away stays in its vault as a branch.
    A majority of the declared regions must answer and agree; with two regions of which one is gone
    there is none, so say --operator-decides when it is certain that the other one does not write.
    Killed and run again, it goes on. Restoring needs no promotion. Exit code 1 when a network was
    not promoted (with --dry-run: would not be).

    \b
    Examples:
      stateroom backups promote --region eu-central-1 --dry-run
      stateroom backups promote --region eu-central-1
      stateroom backups promote --region eu-central-1 --operator-decides
    """  # noqa: D301
    from resources.vault.replicas.promotion_preview import preview_promotion

    backups = open_backups()
    backups.regions(region)
    vaults = backups.open_all(networks, region)
    stores = {one: backups.vaults.store(one) for one in backups.declaration.regions}
    seen = [
        preview_promotion(one, stores, operator_decides=operator_decides, supersede=supersede)
        for one in vaults
    ]
    if not as_json:
        click.echo(_preview_text(seen, region))
    if dry_run:
        documents = [_document(one) for one in seen]
    else:
        if any(not one.is_writer for one in seen):
            _confirm(region, seen, yes_promote, as_json=as_json)
        options = {"operator_decides": operator_decides, "supersede": supersede}
        documents = [_promote(vault, stores, options) for vault in vaults]
        if not as_json:
            click.echo(_done_text(backups, region, documents))
    if as_json:
        click.echo(to_json({"region": region, "dry_run": dry_run, "networks": documents}))
    is_done = all(one["writes"] for one in documents)
    ctx.exit(exit_codes.OK if is_done else exit_codes.FINDING)


def _document(seen: PromotionPreview) -> dict[str, Any]:
    return {
        "network_id": seen.network_id,
        "epoch": seen.epoch,
        "records": seen.records,
        "snapshot_id": seen.snapshot_id,
        "writes": seen.verdict.action == "won",
        "said": f"{seen.verdict.action}: {seen.verdict.reason}",
        "records_left_aside": seen.ahead,
        "regions": [one._asdict() for one in seen.others],
    }


def _preview_text(seen: Sequence[PromotionPreview], region: str) -> str:
    if not seen:
        return f"region {region} holds no network"
    cells = [
        (
            one.network_id,
            one.epoch,
            one.records,
            one.snapshot_id or "none",
            one.verdict.action if not one.is_writer else "writes already",
            one.verdict.reason,
        )
        for one in seen
    ]
    headings = ("network", "epoch", "records", "newest snapshot", "it would be", "because")
    lines = [table(headings, cells)]
    for one in seen:
        for other in one.others:
            name = f"  ! {one.network_id}, {other.region}:"
            if not other.answers:
                lines.append(f"{name} does not count: {other.said}")
                continue
            if other.claimant not in {"", region}:
                lines.append(f"{name} epoch {one.epoch} is claimed by {other.claimant}")
            if other.said:
                lines.append(f"{name} {other.said}")
            if other.ahead and not one.is_writer:
                lines.append(
                    f"{name} has {other.ahead} records that {region} lacks, and would keep them as "
                    "a branch; replicate first if it still can"
                )
    return "\n".join(lines)


def _confirm(
    region: str, seen: Sequence[PromotionPreview], typed: str | None, *, as_json: bool
) -> None:
    if typed is None:
        names = ", ".join(one.network_id for one in seen if not one.is_writer)
        click.echo(f"This makes {region} the writer of {names}.", err=True)
        typed = click.prompt(
            "Type the region's name to go on", default="", show_default=False, err=as_json
        )
    if typed != region:
        raise InvalidInputError(
            "confirmation", typed, f"the region's name, {region}", hint="Nothing was written."
        )


def _promote(
    vault: NetworkVault, stores: dict[str, ObjectStore], options: dict[str, Any]
) -> dict[str, Any]:
    """Promote one network; one that is refused keeps no other from it, and is said."""
    from resources.vault.replicas.promote import promote as promote_region

    try:
        done = promote_region(vault, stores, pause=_wait, **options)
    except StateroomError as error:
        said, hint = str(error), error.hint
        return {"network_id": vault.network_id, "writes": False, "said": said, "hint": hint}
    return {
        "network_id": vault.network_id,
        "writes": True,
        "epoch": done.epoch,
        "from_epoch": done.from_epoch,
        "from_seq": done.from_seq,
        "votes": list(done.votes),
        "operator": done.operator,
        "said": f"{done.region} writes since epoch {done.epoch}, behind record {done.from_seq}",
    }


def _wait(attempt: int) -> None:
    """A random while, so that two claimants do not meet again."""
    import random
    import time

    time.sleep(random.uniform(0.1, 0.5) * attempt)


def _done_text(backups: Backups, region: str, documents: Sequence[dict[str, Any]]) -> str:
    lines = []
    for one in documents:
        lines.append(f"{one['network_id']}: {one['said']}")
        if one.get("hint"):
            lines.append(f"  -> {one['hint']}")
    if documents and all(one["writes"] for one in documents) and region != backups.home:
        lines.append(
            f'  -> set home_region = "{region}" under [backup] in stateroom.toml, '
            "then `stateroom up`"
        )
    return "\n".join(lines)
