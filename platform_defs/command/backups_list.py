"""`stateroom backups list`, `show` and `find`: which snapshots there are, and what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fleet.errors import NotFoundError
from fleet.names import validate_name
from platform_defs.command.moments import utc_text
from platform_defs.command.output import age, cell_text, colours_wanted, size_text, table, to_json
from platform_defs.command.vault_access import (
    Located,
    complete_snapshot,
    find_snapshot,
    json_option,
    network_option,
    networks_option,
    open_backups,
    region_option,
)

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault


class ListedSnapshot(NamedTuple):
    """One snapshot as a region sees it."""

    network_id: str
    snapshot_id: str
    taken_at: datetime
    state: str
    """`live`, `held`, `forgotten`, or `condemned`: no undelete brings it back."""
    agents: int | None
    changed: int | None
    stored_bytes: int | None
    verified_level: str
    verified_at: datetime | None
    failed_level: str
    hold: str
    """Reason of a hold in force."""
    reason: str
    """Why it was taken."""
    run_id: str


@click.command("list")
@networks_option
@region_option
@click.option("--all", "with_forgotten", is_flag=True, help="Forgotten snapshots as well.")
@json_option
def list_snapshots(
    networks: tuple[str, ...], region: str | None, with_forgotten: bool, as_json: bool
) -> None:
    """List the snapshots of a region (by default the one that writes), newest first.

    `verified` is the highest level that this region has proven, and when: V1 structure, V2 stored
    bytes, V3 content, V4 restored and opened, V5 disaster drill.

    \b
    Examples:
      stateroom backups list
      stateroom backups list --network host-watch --region eu-central-1 --all
      stateroom backups list --json | jq -r '.[0].snapshot_id'
    """  # noqa: D301
    backups = open_backups()
    now = datetime.now(UTC)
    rows = [
        row
        for vault in backups.open_all(networks, region)
        for row in read_snapshots(vault, now)
        if with_forgotten or row.state in {"live", "held"}
    ]
    rows.sort(key=lambda row: row.taken_at, reverse=True)
    if as_json:
        click.echo(to_json([row._asdict() for row in rows]))
    elif rows:
        click.echo(_list_text(rows, now))
    else:
        click.echo("no snapshot yet; `stateroom backup now` takes one")


def read_snapshots(vault: NetworkVault, now: datetime) -> list[ListedSnapshot]:
    """All snapshots that a region's log of a network knows, with what it has proven of them."""
    from resources.vault.retention.snapshot_facts import gather_facts

    facts = gather_facts(vault, vault.region, now)
    extras = {one.position.seq: one.extra for one in vault.log.records}
    return [
        ListedSnapshot(
            vault.network_id,
            one.snapshot_id,
            one.taken_at,
            _state_of(facts.state, one),
            one.agents,
            one.changed,
            _count(extras[one.seq], "bytes_stored"),
            one.verified_level,
            one.verified_at,
            one.failed_level,
            one.hold,
            str(extras[one.seq].get("reason", "")),
            str(extras[one.seq].get("run_id", "")),
        )
        for one in facts.snapshots
    ]


def _state_of(state: Any, one: Any) -> str:
    if one.live:
        return "held" if one.hold else "live"
    record = state.forgotten.get(one.snapshot_id)
    return "forgotten" if record and not record.packs & state.condemned else "condemned"


def _count(extra: Mapping[str, Any], name: str) -> int | None:
    found = extra.get(name)
    return found if isinstance(found, int) else None


def _list_text(rows: Sequence[ListedSnapshot], now: datetime) -> str:
    headings = (
        "snapshot", "network", "taken at", "age", "agents", "changed", "stored",
        "verified", "state", "hold",
    )  # fmt: skip
    cells = [
        (
            row.snapshot_id,
            row.network_id,
            utc_text(row.taken_at),
            age(row.taken_at, now),
            row.agents,
            row.changed,
            size_text(row.stored_bytes),
            _verified_text(row),
            row.state,
            row.hold or "",
        )
        for row in rows
    ]
    return table(headings, cells, colours=colours_wanted())


def _verified_text(row: ListedSnapshot) -> str:
    proven = f"{row.verified_level} {utc_text(row.verified_at)}" if row.verified_level else "never"
    return f"{proven}, FAILED {row.failed_level}" if row.failed_level else proven


@click.command()
@click.argument("snapshot", shell_complete=complete_snapshot)
@network_option
@region_option
@json_option
def show(snapshot: str, network: str | None, region: str | None, as_json: bool) -> None:
    """Show everything about one snapshot: cut, manifests, packs, holds, evidence, its run.

    The beginning of an id is enough while no other begins so.

    \b
    Examples:
      stateroom backups show 01JD3X0A7Q
      stateroom backups show 01JD3X0A7Q --region eu-central-1 --json
    """  # noqa: D301
    backups = open_backups()
    located = find_snapshot(backups, snapshot, [network] if network else (), region)
    document = read_document(located)
    click.echo(to_json(document) if as_json else _document_text(document))


def read_document(located: Located) -> dict[str, Any]:
    """Everything that log, manifests and evidence of a region say of a snapshot."""
    from resources.vault.network import chain_of
    from resources.vault.verification.evidence import read_evidence

    vault, snapshot_id = located
    now = datetime.now(UTC)
    (listed,) = (row for row in read_snapshots(vault, now) if row.snapshot_id == snapshot_id)
    stored = vault.snapshot(snapshot_id)
    manifest = vault.read_manifest(stored)
    kinds = Counter(manifest.table["kind"].to_pylist())
    used = set(manifest.table["pack"].to_pylist())
    packs = [manifest.packs[one] for one in sorted(used)]
    holds = vault.log.refresh().holds
    return {
        **listed._asdict(),
        "region": vault.region,
        "record": {
            "epoch": stored.position.epoch,
            "seq": stored.position.seq,
            "written_at": stored.written_at,
        },
        "noted": dict(stored.extra),
        "items": dict(kinds),
        "manifests": [one._asdict() for one in chain_of(stored)],
        "packs": len(packs),
        "packs_bytes": sum(one.size_bytes for one in packs),
        "logical_bytes": sum(manifest.table["plain_length"].to_pylist()),
        "holds": [one._asdict() for one in holds.values() if snapshot_id in one.snapshot_ids],
        "evidence": [
            one._asdict()
            for one in read_evidence(vault, vault.region)
            if snapshot_id in one.detail.get("snapshots", (one.snapshot_id,))
        ],
    }


def _document_text(document: Mapping[str, Any]) -> str:
    record, noted = document["record"], document["noted"]
    items = ", ".join(f"{n} {kind}" for kind, n in sorted(document["items"].items()))
    committed = f"log record {record['seq']} of epoch {record['epoch']}"
    facts = {
        "snapshot": f"{document['snapshot_id']} of {document['network_id']}, "
        f"as {document['region']} holds it",
        "state": document["state"],
        "cut": f"{utc_text(document['taken_at'])}, committed by {committed} at "
        f"{utc_text(record['written_at'])}",
        "agents": f"{document['agents']}, {document['changed']} changed, "
        f"{noted.get('removed', 0)} removed since its base",
        "taken": f"{cell_text(document['reason'] or 'no reason noted')}; "
        f"run {document['run_id'] or 'unknown'}",
        "items": items,
        "packs": f"{document['packs']}, {size_text(document['packs_bytes'])} for "
        f"{size_text(document['logical_bytes'])} of data",
    }
    lines = [f"{name:<10}{said}" for name, said in facts.items()]
    lines += [
        f"manifest  {one['sha256'][:16]} of {one['owner']}, {size_text(one['size_bytes'])}"
        for one in document["manifests"]
    ]
    lines += [
        f"hold      {one['hold_id']}: {cell_text(one['reason'])}, "
        + (f"until {utc_text(one['expires_at'])}" if one["expires_at"] else "until it is released")
        for one in document["holds"]
    ] or ["hold      none"]
    lines += _evidence_lines(document["evidence"])
    return "\n".join(lines)


def _evidence_lines(evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    newest: dict[str, Mapping[str, Any]] = {one["level"]: one for one in evidence}
    if not newest:
        return ["evidence  none in this region; `stateroom backups verify` makes some"]
    lines = []
    for level, one in sorted(newest.items()):
        verdict = "ok" if not one["failures"] else f"{len(one['failures'])} failures"
        lines.append(
            f"evidence  {level} {utc_text(one['started_at'])}: {verdict}, {one['items']} items, "
            f"{size_text(one['bytes_checked'])} in {one['seconds']:.1f} s"
        )
        lines += [f"          ! {cell_text(said)}" for said in one["failures"][:5]]
    return lines


@click.command()
@click.argument("agent")
@network_option
@region_option
@json_option
def find(agent: str, network: str | None, region: str | None, as_json: bool) -> None:
    """Say which snapshots hold which version of an agent's state, newest first.

    \b
    Examples:
      stateroom backups find us-west-2-cpu-1
      stateroom backups find us-west-2-cpu-1 --network host-watch --json
    """  # noqa: D301
    validate_name("agent", agent)
    backups = open_backups()
    vaults = backups.open_all([network] if network else (), region)
    found = [run for vault in vaults for run in _find_runs(vault, agent)]
    if not found:
        looked = ", ".join(vault.network_id for vault in vaults)
        raise NotFoundError(
            f"no snapshot of {looked} holds agent {agent!r}",
            hint="`stateroom agents` lists agents; forgotten snapshots are not searched.",
        )
    found.sort(key=lambda run: run["last_taken_at"], reverse=True)
    click.echo(to_json(found) if as_json else _runs_text(found))


def _find_runs(vault: NetworkVault, agent: str) -> list[dict[str, Any]]:
    """Runs of neighbouring snapshots with the same version of an agent."""
    from resources.vault.packs.manifest import kernels
    from resources.vault.snapshots.catalog import catalogue_items

    items = catalogue_items(vault)
    rows = items.filter(kernels().equal(items["item_id"], agent)).to_pylist()
    return [{**row, "digest": row["digest"].hex()} for row in rows]


def _runs_text(found: Sequence[Mapping[str, Any]]) -> str:
    headings = ("version", "network", "size", "sha256", "snapshots", "first", "last")
    cells = [
        (
            run["version"],
            run["network_id"],
            size_text(run["size_bytes"]),
            run["digest"][:16],
            run["snapshots"],
            f"{run['first_snapshot_id']} {utc_text(run['first_taken_at'])}",
            f"{run['last_snapshot_id']} {utc_text(run['last_taken_at'])}",
        )
        for run in found
    ]
    return table(headings, cells)
