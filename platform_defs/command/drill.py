"""`stateroom drill`: a rehearsal of the disaster, with the time it took."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from fleet.backup_declaration import PLATFORM_NETWORK
from fleet.backup_evidence import VerificationEvidence
from fleet.errors import NotFoundError, StateroomError
from platform_defs.command import exit_codes
from platform_defs.command.moments import span_text, utc_text
from platform_defs.command.output import cell_text, size_text, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vault_access import (
    Backups,
    json_option,
    networks_option,
    open_backups,
    region_option,
)

DRILL = "V5"


class PrintedPhases:
    """The `Progress` port: each step of a drill as a line on standard error, as it ends."""

    def advance(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """See `fleet.ports.progress.Progress.advance`; a drill has no bar."""

    def finish(self, what: str, seconds: float) -> None:
        """See `fleet.ports.progress.Progress.finish`."""
        click.echo(f"  {seconds:7.2f} s  {what}", err=True)


@click.command()
@networks_option
@region_option
@click.option(
    "--level",
    type=click.Choice(["V4", "V5"], case_sensitive=False),
    default=DRILL,
    show_default=True,
    help="V4 restores and opens; V5 also starts the agents.",
)
@json_option
@click.pass_context
def drill(
    ctx: click.Context, networks: tuple[str, ...], region: str | None, level: str, as_json: bool
) -> None:
    """Rehearse a disaster beside the running fleet: nothing of it is touched.

    V5 takes every region but one as lost: it opens that region's copy with the recovery key alone,
    restores it into a control store of its own, starts real agents on it, and measures how old the
    states are (RPO) and how long it took until all agents worked (RTO). V4 restores the newest and
    an older snapshot and opens everything with its application. Both are recorded as evidence.
    Without --region it is the first region that has a replica. Exit code 1 when it fails.

    \b
    Examples:
      stateroom drill
      stateroom drill --network host-watch --region eu-central-1
      stateroom drill --level V4 --json
    """  # noqa: D301
    backups = open_backups()
    where = _region(backups, region)
    with fleet_store(backups.settings):
        pass  # nothing to rehearse where nothing was ever started
    wanted = _networks(backups, networks, level)
    started_at = datetime.now(UTC)
    if not as_json:
        click.echo(f"{level} in {where} of {', '.join(wanted)}:", err=True)
    run_ids, failed = _run(backups, where, wanted, level)
    found = [one for n in wanted for one in _evidence(backups, where, n, level, started_at)]
    if as_json:
        document = {"runs": run_ids, "evidence": [one._asdict() for one in found]}
        click.echo(to_json(document))
    else:
        click.echo("\n".join(evidence_text(one) for one in found))
    from platform_defs.command.job_runs import raise_failures

    raise_failures(failed)
    if not found:
        raise NotFoundError(
            f"region {where} holds no snapshot of {', '.join(wanted)}: nothing was rehearsed",
            hint="`stateroom backup now` takes one; copies follow while `stateroom up` runs.",
        )
    ctx.exit(exit_codes.OK if all(one.ok for one in found) else exit_codes.FINDING)


def _networks(backups: Backups, chosen: Sequence[str], level: str) -> tuple[str, ...]:
    """The networks to rehearse; the platform's own has no agents to start."""
    wanted = tuple(vault.network_id for vault in backups.open_all(chosen))
    if level != DRILL:
        return wanted
    if PLATFORM_NETWORK in chosen:
        raise click.UsageError(f"network {PLATFORM_NETWORK} has no agents; use --level V4")
    return tuple(one for one in wanted if one != PLATFORM_NETWORK)


def _region(backups: Backups, chosen: str | None) -> str:
    if chosen is not None:
        return backups.regions(chosen)[0]
    return next(iter(backups.declaration.replica_regions), backups.home)


def _run(
    backups: Backups, region: str, networks: Sequence[str], level: str
) -> tuple[list[str], list[StateroomError]]:
    from fleet.backup_tables import VERIFICATIONS
    from ops.backup_jobs import DRILL_JOB, RESTORE_TEST_JOB, asset_config
    from platform_defs.command.job_runs import job_runner

    options: dict[str, Any] = {"levels": [level], "networks": list(networks)}
    config = asset_config(VERIFICATIONS, "verify_op", options)
    with job_runner(backups.settings, progress=PrintedPhases()) as runner:
        failed = runner.run(
            DRILL_JOB if level == DRILL else RESTORE_TEST_JOB,
            backups.declaration.regions,
            [region],
            reason=f"{level} asked for by a person",
            config=config,
        )
        return runner.run_ids, failed


def _evidence(
    backups: Backups, region: str, network_id: str, level: str, since: datetime
) -> list[VerificationEvidence]:
    """What this drill has recorded in the region's own log."""
    from resources.vault.verification.evidence import read_evidence

    vault = backups.vaults.replica(region, network_id)
    return [
        one
        for one in read_evidence(vault, region)
        if one.level == level and one.started_at >= since
    ]


def evidence_text(one: VerificationEvidence) -> str:
    """A drill or restore test in words: verdict, what was measured, what failed."""
    detail = one.detail
    verdict = "passed" if one.ok else "FAILED"
    what = f"{one.level} of {one.network_id} in {one.region}"
    snapshot = one.snapshot_id or "none"
    lines = [f"{verdict}: {what}, snapshot {snapshot}, {utc_text(one.started_at)}"]
    if one.level == DRILL:
        lines.append(
            f"  RPO {span_text(detail.get('rpo_s'))}: states as of "
            f"{detail.get('covered_until') or detail.get('taken_at') or 'never'}"
        )
        lines.append(
            f"  RTO {span_text(detail.get('rto_all_s'))} until all agents ran, "
            f"{span_text(detail.get('rto_first_step_s'))} until one of them stored new work"
        )
        lines.append(
            f"  {detail.get('agents')} agents restored, {detail.get('agents_running')} of "
            f"{detail.get('agents_started')} started ran, opened with key {detail.get('kek_id')}"
        )
    lines.append(f"  {one.items} items, {size_text(one.bytes_checked)} in {span_text(one.seconds)}")
    lines += [f"  ! {cell_text(said)}" for said in one.failures]
    return "\n".join(lines)
