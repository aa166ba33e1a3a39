"""`stateroom backups verify` and `heal`: what is wrong with a copy, and bringing it back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.backup_tables import VERIFICATIONS, ProvenLevel
from fleet.errors import StateroomError
from fleet.ports.progress import Progress
from platform_defs.command import exit_codes
from platform_defs.command.backup_rows import read_newest
from platform_defs.command.moments import span_text
from platform_defs.command.output import colours_wanted, size_text, table, to_json
from platform_defs.command.progress_bar import watched
from platform_defs.command.vault_access import (
    Backups,
    complete_snapshot,
    dry_run_option,
    find_snapshot,
    json_option,
    networks_option,
    open_backups,
    region_option,
)

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault
    from resources.vault.replicas.heal import HealResult
    from resources.vault.verification.finding import Finding

LEVELS = ("V1", "V2", "V3")
FAILURES_SHOWN = 20


@click.command()
@networks_option
@region_option
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), default="V1",
              show_default=True, help="V1 structure, V2 stored bytes, V3 content.")  # fmt: skip
@click.option("--snapshot", "snapshots", multiple=True, shell_complete=complete_snapshot,
              metavar="ID", help="Snapshot that a V3 opens; default the newest.")  # fmt: skip
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    networks: tuple[str, ...],
    region: str | None,
    level: str,
    snapshots: tuple[str, ...],
    as_json: bool,
) -> None:
    """Prove that the copies of all regions (or of one) are whole, and record the evidence.

    V1 compares log, manifests and sizes; V2 hashes every stored byte; V3 decrypts every state of
    a snapshot and compares it with its digest. Exit code 1 when something is damaged.

    \b
    Examples:
      stateroom backups verify
      stateroom backups verify --region eu-central-1 --level V2
      stateroom backups verify --network host-watch --level V3 --snapshot 01JD3X0A7Q
    """  # noqa: D301
    from platform_defs.command.job_runs import raise_failures

    if snapshots and (level != "V3" or len(networks) != 1):
        raise click.UsageError("--snapshot needs --level V3 and exactly one --network")
    backups = open_backups()
    regions = backups.regions(region)
    wanted = [vault.network_id for vault in backups.open_all(networks)]
    ids = [find_snapshot(backups, one, networks, region).snapshot_id for one in snapshots]
    started_at = datetime.now(UTC)
    options: dict[str, Any] = {"levels": [level], "networks": list(wanted), "snapshots": ids}
    options["whole"] = True
    with watched() as progress:
        failed = _run(backups, progress, regions, options)
    rows = [
        row
        for row in read_newest(backups.settings, VERIFICATIONS, ProvenLevel)
        if row.started_at >= started_at and row.region in regions
    ]
    missing = [
        f"{network_id} in {one}"
        for one in regions
        for network_id in wanted
        if not any(row.network_id == network_id and row.region == one for row in rows)
    ]
    if as_json:
        document = {"verified": [row._asdict() for row in rows], "nothing_to_verify": missing}
        click.echo(to_json(document))
    else:
        click.echo(_proof_text(rows, [] if failed else missing))
    raise_failures(failed)
    ctx.exit(exit_codes.OK if all(row.passed for row in rows) else exit_codes.FINDING)


def _run(
    backups: Backups, progress: Progress, regions: Sequence[str], options: dict[str, Any]
) -> list[StateroomError]:
    """Run the job over the regions; what went wrong."""
    from ops.backup_jobs import VERIFY_JOB, asset_config
    from platform_defs.command.job_runs import job_runner
    from platform_defs.command.metered_vaults import MeteredVaults

    vaults = MeteredVaults(backups.declaration, backups.vaults.clock, progress)
    if options["levels"] != ["V1"]:
        vaults.expect_all(regions, options["networks"])
    config = asset_config(VERIFICATIONS, "verify_op", options)
    with job_runner(backups.settings, region_vaults=vaults) as runner:
        return runner.run(
            VERIFY_JOB,
            backups.declaration.regions,
            regions,
            reason=f"{options['levels'][0]} asked for by a person",
            config=config,
        )


def _proof_text(rows: Sequence[ProvenLevel], missing: Sequence[str]) -> str:
    headings = (
        "region",
        "network",
        "level",
        "verdict",
        "items",
        "bytes",
        "took",
        "snapshot",
    )
    cells = [
        (
            row.region,
            row.network_id,
            row.level,
            "ok" if row.passed else "wrong",
            row.items,
            size_text(row.checked_bytes),
            span_text(row.verifying_s),
            row.snapshot_id or None,
        )
        for row in rows
    ]
    lines = [table(headings, cells, colours=colours_wanted())] if rows else []
    for row in rows:
        lines += [
            f"  ! {row.region}, {row.network_id}: {said}" for said in row.failures[:FAILURES_SHOWN]
        ]
        if len(row.failures) > FAILURES_SHOWN:
            lines.append(f"  ... and {len(row.failures) - FAILURES_SHOWN} more; --json lists them")
        if row.failures:
            lines.append(
                f"  -> stateroom backups heal --region {row.region} --network {row.network_id}"
            )
    if missing:
        lines.append(f"nothing to verify yet: {', '.join(missing)}")
    return "\n".join(lines)


@click.command()
@networks_option
@region_option
@dry_run_option
@json_option
@click.pass_context
def heal(
    ctx: click.Context,
    networks: tuple[str, ...],
    region: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find what is damaged or missing in a region, and bring it back from the other regions.

    Every object is hashed. Bad bytes are kept under `quarantine/`, and nothing is replaced by
    bytes that are not proven. Exit code 1 when something could not be healed (with --dry-run: when
    something is damaged).

    \b
    Examples:
      stateroom backups heal --region eu-central-1 --dry-run
      stateroom backups heal --region eu-central-1
      stateroom backups heal --json
    """  # noqa: D301
    from platform_defs.command.metered_vaults import MeteredVaults

    backups = open_backups()
    regions = backups.regions(region)
    wanted = [vault.network_id for vault in backups.open_all(networks)]
    documents = []
    with watched() as progress:
        vaults = MeteredVaults(backups.declaration, backups.vaults.clock, progress)
        vaults.expect_all(regions, wanted)
        for one in regions:
            for network_id in wanted:
                vault = vaults.replica(one, network_id)
                if not vault.store.list_objects(vault.log.folder):
                    continue  # no copy yet, or nothing of it left: replication brings it, not heal
                document = _look(vault) if dry_run else _heal(backups, vault)
                documents.append({"region": one, "network_id": network_id, **document})
    click.echo(to_json(documents) if as_json else _heal_text(documents, dry_run=dry_run))
    ctx.exit(exit_codes.OK if all(one["ok"] for one in documents) else exit_codes.FINDING)


def _look(vault: NetworkVault) -> dict[str, Any]:
    """What a heal would find; nothing is recorded."""
    from resources.vault.verification.verify import verify_stored, verify_structure

    findings: list[Finding] = [*verify_structure(vault).findings]
    findings += verify_stored(vault.store, vault.network_id)[2]
    said = list(dict.fromkeys(f"{one.subject}: {one.problem}" for one in findings))
    return {"damaged": said, "healed": [], "lost": [], "undecided": [], "ok": not said}


def _heal(backups: Backups, vault: NetworkVault) -> dict[str, Any]:
    from resources.vault.replicas.heal import heal as heal_copy
    from resources.vault.verification.evidence import mend_evidence

    evidence = mend_evidence(vault, vault.region)
    others = {
        one: backups.vaults.store(one) for one in backups.declaration.regions if one != vault.region
    }
    found: HealResult = heal_copy(vault, others, home=backups.home, keks=backups.vaults.keks())
    return {
        "damaged": [],
        "healed": [one._asdict() for one in found.healed],
        "lost": [one._asdict() for one in found.lost],
        "undecided": list(found.undecided),
        "evidence_recovered": evidence.recovered,
        "evidence_set_aside": evidence.set_aside,
        "ok": found.ok,
    }


def _heal_text(documents: Sequence[dict[str, Any]], *, dry_run: bool) -> str:
    lines = []
    for one in documents:
        name = f"{one['region']}, {one['network_id']}:"
        lines += [f"{name} damaged: {said}" for said in one["damaged"]]
        lines += [
            f"{name} healed {healed['key']} ({healed['cause']}) "
            f"from {healed['source'] or 'its own region'}"
            + (f"; the bad bytes: {healed['quarantine']}" if healed["quarantine"] else "")
            for healed in one["healed"]
        ]
        lines += [
            f"{name} LOST {lost['key']} ({lost['cause']}): no region has a good copy; "
            f"{lost['agents_total']} agents of {len(lost['snapshots'])} snapshots"
            for lost in one["lost"]
        ]
        lines += [f"{name} undecided: {said}" for said in one["undecided"]]
        if one.get("evidence_recovered"):
            said = f"{one['evidence_recovered']} evidence records came back out of checkpoints"
            lines.append(f"{name} {said}")
        if one.get("evidence_set_aside"):
            lines.append(f"{name} {one['evidence_set_aside']} damaged evidence records set aside")
        if one["lost"]:
            lines.append(
                "  -> `stateroom backup now --full` stores live states again; older ones are gone"
            )
    if not documents:
        return "no copy to heal yet: replication brings one"
    whole = sum(one["ok"] for one in documents)
    lines.append(f"{whole} of {len(documents)} copies are {'whole' if dry_run else 'whole now'}")
    return "\n".join(lines)
