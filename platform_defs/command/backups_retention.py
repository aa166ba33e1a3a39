"""`stateroom backups plan`: what retention keeps and removes, explained before anything happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import PermanentError
from platform_defs.command import exit_codes
from platform_defs.command.moments import utc_text
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.vault_access import (
    Backups,
    complete_snapshot,
    find_snapshot,
    json_option,
    networks_option,
    open_backups,
    yes_option,
)

if TYPE_CHECKING:
    from resources.vault.network import NetworkVault
    from resources.vault.retention.retention_plan import PlanOutcome, VaultPlan


@click.command()
@networks_option
@click.option("--apply", "apply_it", is_flag=True, help="Carry the plan out, after asking.")
@click.option("--approve-by", metavar="NAME",
              help="Approve a plan that forgets more than one may by itself.")  # fmt: skip
@click.option("--snapshot", shell_complete=complete_snapshot, metavar="ID",
              help="With --approve-by: believe this snapshot, not a plan.")  # fmt: skip
@click.option("--reason", default="", help="Why it is approved; with --approve-by.")
@yes_option
@json_option
@click.pass_context
def plan(
    ctx: click.Context,
    networks: tuple[str, ...],
    apply_it: bool,
    approve_by: str | None,
    snapshot: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Say of every snapshot whether it stays, and why; forget nothing unless told to.

    A forgotten snapshot can be brought back (`stateroom backups undelete`) until a gc. Exit code 1
    when something in the plan needs a person: an alarm, or a plan that must be approved.

    \b
    Examples:
      stateroom backups plan
      stateroom backups plan --network host-watch --apply
      stateroom backups plan --apply --yes --json
      stateroom backups plan --network host-watch --approve-by ada --reason "fewer hours wanted"
      stateroom backups plan --snapshot 01JD3X0A7Q --approve-by ada --reason "taken by hand"
    """  # noqa: D301
    if bool(approve_by) != bool(reason.strip()):
        raise click.UsageError("--approve-by and --reason belong together")
    if snapshot and not approve_by:
        raise click.UsageError("--snapshot needs --approve-by and --reason")
    if as_json and apply_it and not yes:
        raise click.UsageError("--json --apply needs --yes: nobody can be asked")
    backups = open_backups()
    if snapshot and approve_by:
        networks = (_believe(backups, snapshot, networks, approve_by, reason),)
    planned = [(vault, _plan(backups, vault)) for vault in _vaults(backups, networks)]
    if approve_by and not snapshot:
        planned = [
            (vault, _approve(backups, vault, decided, approve_by, reason))
            for vault, decided in planned
        ]
    if not as_json:
        click.echo("\n\n".join(plan_text(one) for _, one in planned) or "no backup yet")
    outcomes = _apply(planned, yes=yes) if apply_it else []
    if as_json:
        click.echo(to_json({"plans": [_plan_document(one) for _, one in planned],
                            "outcomes": [_outcome_document(one) for one in outcomes]}))  # fmt: skip
    else:
        for outcome in outcomes:
            click.echo(f"{outcome.decided.network_id}: {outcome.reason}")
    unwell = any(one.plan.alarms or one.plan.refused for _, one in planned)
    failed = any(not one.applied for one in outcomes)
    ctx.exit(exit_codes.FINDING if unwell or failed else exit_codes.OK)


def _vaults(backups: Backups, networks: Sequence[str]) -> list[NetworkVault]:
    return [one for one in backups.open_all(networks) if one.log.refresh().head]


def _plan(backups: Backups, vault: NetworkVault) -> VaultPlan:
    from fleet.snapshot_fitness import GuardPolicy
    from resources.vault.retention.retention_plan import plan_vault

    return plan_vault(vault, backups.home, backups.declaration.retention, GuardPolicy())


def _believe(backups: Backups, text: str, networks: Sequence[str], by: str, reason: str) -> str:
    """Record that a person believes a snapshot; its network."""
    from resources.vault.retention.retention_plan import approve

    vault, snapshot_id = find_snapshot(backups, text, networks)
    approve(vault, snapshot_id, by, reason)
    return vault.network_id


def _approve(
    backups: Backups, vault: NetworkVault, decided: VaultPlan, by: str, reason: str
) -> VaultPlan:
    """Record the approval of a plan that waits for one; the plan as it is then."""
    from resources.vault.retention.retention_plan import approve

    if decided.plan.refused is None:
        return decided
    approve(vault, decided, by, reason)
    return _plan(backups, vault)


def _apply(planned: Sequence[tuple[NetworkVault, VaultPlan]], *, yes: bool) -> list[PlanOutcome]:
    """Carry the plans out that forget something.

    Raises:
        PermanentError: one of them must be approved first; nothing was forgotten.
    """
    from resources.vault.retention.retention_plan import apply_plan

    for _, one in planned:
        if one.plan.refused is not None:
            raise PermanentError(
                f"network {one.network_id}: {one.plan.refused}",
                hint=f"If that is meant: stateroom backups plan --network {one.network_id} "
                '--approve-by YOUR-NAME --reason "..." --apply',
            )
    due = [(vault, one) for vault, one in planned if one.plan.forget]
    total = sum(len(one.plan.forget) for _, one in due)
    if due and not yes:
        click.confirm(f"Forget {total} snapshots?", abort=True)
    return [apply_plan(vault, one) for vault, one in due]


def plan_text(decided: VaultPlan) -> str:
    """A plan in words: a line for each snapshot, then what needs a person, then the sum."""
    rows = decided.plan.rows
    lines = [f"network {decided.network_id}, as region {decided.region} has verified it:"]
    lines += [
        f"  {row.snapshot_id}  {utc_text(row.taken_at)}\n      {cell_text(row.reason)}"
        for row in rows
    ]
    lines += [
        f"  ! {one.guard}: {f'{one.snapshot_id} ' if one.snapshot_id else ''}{one.text}"
        for one in decided.plan.alarms
    ]
    counts = Counter(str(row.fate) for row in rows)
    total = ", ".join(f"{number} {fate}" for fate, number in sorted(counts.items()))
    lines.append(f"  {len(rows)} live snapshots: {total}")
    return "\n".join(lines)


def _plan_document(decided: VaultPlan) -> dict[str, Any]:
    found = decided.plan
    return {
        "network_id": decided.network_id,
        "region": decided.region,
        "decided_at": decided.decided_at,
        "head": found.head,
        "forget": found.forget,
        "refused": found.refused,
        "digest": found.digest,
        "rows": [row._asdict() for row in found.rows],
        "alarms": [alarm._asdict() for alarm in found.alarms],
    }


def _outcome_document(outcome: PlanOutcome) -> dict[str, Any]:
    return {
        "network_id": outcome.decided.network_id,
        "applied": outcome.applied,
        "plan": outcome.sha256,
        "reason": outcome.reason,
    }
