"""`stateroom fail-back`: agents of a region that has come back go home, by a person's word."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from fleet.errors import NotFoundError, PermanentError, StateroomError, StoreUnavailableError
from fleet.fail_back_rehearsal import RehearsalFacts, rehearsal_problems
from fleet.failover.records import Action, ActionKind
from fleet.failover.rules import Rule
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, Severity
from fleet.ports.control_store import ControlStore
from platform_defs.command import exit_codes
from platform_defs.command.controller_standing import demand_controller, read_standing
from platform_defs.command.failover import standing_lines
from platform_defs.command.failover_preview import (
    Preview,
    move_lines,
    preview_document,
    preview_fail_back,
)
from platform_defs.command.forced_orders import GivenOrder, approve_open, open_incident_of
from platform_defs.command.incidents import SEARCHED
from platform_defs.command.moments import utc_text
from platform_defs.command.operator_input import (
    by_option,
    demand_reason,
    demand_region,
    json_option,
    person,
)
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings

_TRIES = 5
_WHEN_PAUSED = "nobody goes home before `stateroom resume`"


class Rehearsal(NamedTuple):
    """What the rehearsal has found."""

    preview: Preview
    problems: list[str]
    """Why not all agents could go home; empty when they could."""


def complete_region(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Declared regions that begin as typed."""
    del ctx, param
    try:
        names = [one.name for one in load_settings().regions]
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words
    return [CompletionItem(one) for one in names if one.startswith(incomplete)]


@click.command("fail-back")
@click.argument("region", shell_complete=complete_region)
@click.option("--dry-run", is_flag=True, help="Rehearse, and record nothing.")
@click.option("--rehearse", is_flag=True, help="Record the rehearsal; approve nothing.")
@click.option("--approve", is_flag=True, help="Do not ask: record the rehearsal, and approve it.")
@click.option("--reason", default="ordered by hand", show_default=True, metavar="TEXT",
              help="Why; it stands in the incident.")  # fmt: skip
@by_option
@json_option
@click.pass_context
def fail_back(
    ctx: click.Context,
    region: str,
    dry_run: bool,
    rehearse: bool,
    approve: bool,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Let the agents of an evacuated region go home.

    Always rehearses first: every agent that is away is planned by the planner of the live run onto
    what the region's nodes have free now. Asks, then approves; the controller moves them in steps
    once the region has been calm for long enough, and stops at a relapse. Exit code 1 when the
    rehearsal finds that not all of them fit; nothing is recorded then.

    \b
    Examples:
      stateroom fail-back eu-central-1 --dry-run
      stateroom fail-back eu-central-1 --rehearse
      stateroom fail-back eu-central-1 --approve --reason "power is back, rack checked"
    """  # noqa: D301
    if dry_run + rehearse + approve > 1:
        raise click.UsageError("--dry-run, --rehearse and --approve exclude each other")
    settings = load_settings()
    demand_region(settings, region)
    who, now = person(by), datetime.now(UTC)
    said = demand_reason(reason, "it stands in the incident")
    orders: list[GivenOrder] = []
    with fleet_store(settings) as store:
        evacuation = find_evacuation(store, region)
        standing = read_standing(store, now)
        rehearsal = judge_rehearsal(preview_fail_back(settings, store, region, standing.view))
        if not as_json:
            lines = [f"fail-back of region/{region}:", *_rehearsal_lines(rehearsal)]
            click.echo("\n".join([*lines, *standing_lines(standing, _WHEN_PAUSED)]))
        if not dry_run and not rehearsal.problems:
            demand_controller(standing, f"fail back region {region}")
            if not (approve or rehearse):
                click.confirm(f"Let the agents of {region} go home?", abort=True, err=as_json)
            actions = _actions(region, evacuation, with_approval=not rehearse)
            orders = order_fail_back(store, region, actions, who, said)
    if as_json:
        click.echo(to_json(_document(rehearsal, evacuation, orders)))
    elif orders:
        click.echo(_ordered_text(orders))
    ctx.exit(exit_codes.FINDING if rehearsal.problems else exit_codes.OK)


def find_evacuation(store: ControlStore, region: str) -> IncidentHeader:
    """The incident that evacuated a region, the newest one.

    Raises:
        NotFoundError: no agent of the region is away.
        PermanentError: agents are away, but no evacuation is on record.
    """
    abroad = store.placement_counts().abroad.get(region, 0)
    if not abroad:
        raise NotFoundError(
            f"no agent of region {region!r} runs elsewhere: there is nothing to fail back",
            hint="`stateroom agents --region NAME` lists the agents that run in a region.",
        )
    for one in store.incidents(limit=SEARCHED):
        if one.key == f"{IncidentKind.REGION}/{region}" and _has_evacuated(store, one):
            return one
    raise PermanentError(
        f"{abroad} agents of region {region} run elsewhere, but no incident has evacuated it",
        hint="`stateroom incidents --all` lists incidents; move them by `stateroom failover node`.",
    )


def _has_evacuated(store: ControlStore, header: IncidentHeader) -> bool:
    step = f"decided/{ActionKind.EVACUATE_REGION}"
    return any(one.step.startswith(step) for one in store.journal(header.incident_id))


def judge_rehearsal(preview: Preview) -> Rehearsal:
    """Whether all agents could go home now, and if not, why."""
    facts = RehearsalFacts(preview.subject, len(preview.moves), preview.staying, preview.nodes)
    return Rehearsal(preview, rehearsal_problems(facts))


def _actions(region: str, evacuation: IncidentHeader, *, with_approval: bool) -> list[str]:
    """Names of the approvals, as the decision looks for them."""
    from ops.failover_directives import REHEARSED

    action = Action(
        kind=ActionKind.FAIL_BACK,
        subject=f"region/{region}",
        rule=Rule.FAIL_BACK_MODE,
        reasons=(),
        incident=evacuation.incident_id,
    )
    return [f"{REHEARSED}{region}", *([action.key] if with_approval else [])]


def order_fail_back(
    store: ControlStore, region: str, actions: list[str], by: str, reason: str
) -> list[GivenOrder]:
    """Record approvals on the region's fail-back, which stays open until everybody is home.

    The evacuation itself has ended by then, so it can take none. Each is durable on its own; the
    rehearsal comes first, so that an approval is never there without it.
    """
    for attempt in range(_TRIES):
        known = open_incident_of(store, IncidentKind.FAIL_BACK, region)
        header = known or store.open_incident(_opening(region, by, reason, attempt))
        given = {one.action for one in store.approvals() if one.incident_id == header.incident_id}
        orders = [
            approve_open(store, header, one, by, reason, is_new=one not in given) for one in actions
        ]
        if all(one is not None for one in orders):
            return [one for one in orders if one is not None]
    raise StoreUnavailableError(
        f"the fail-back of {region} ends as soon as it is opened; nothing was ordered",
        hint="`stateroom incidents --all` says why.",
    )


def _opening(region: str, by: str, reason: str, attempt: int) -> IncidentOpening:
    now = datetime.now(UTC)
    stamp = f"{now:%Y%m%dT%H%M%S}" + (f"-{attempt + 1}" if attempt else "")
    return IncidentOpening(
        IncidentKind.FAIL_BACK,
        region,
        region,
        f"{by} lets its agents go home: {reason}",
        now,
        severity=Severity.WARN,
        incident_id=f"fail-back-{region}-{stamp}",
    )


def _rehearsal_lines(rehearsal: Rehearsal) -> list[str]:
    preview = rehearsal.preview
    away = len(preview.moves) + preview.staying
    lines = [f"  {away} agents run elsewhere; {len(preview.moves)} have a place at home"]
    if preview.moves:
        lines += move_lines(preview.moves)
    lines += [f"  ! {cell_text(one)}" for one in rehearsal.problems]
    verdict = "fails: nothing is recorded" if rehearsal.problems else "passes"
    return [*lines, f"  the rehearsal {verdict}"]


def _ordered_text(orders: list[GivenOrder]) -> str:
    lines = []
    for one in orders:
        who, what = cell_text(one.by), cell_text(one.action)
        when = "" if one.is_new else f", at {utc_text(one.at)} already"
        lines.append(f"recorded: {who} for `{what}`{when}")
    return "\n".join([*lines, f"  -> stateroom incident {orders[0].incident_id}"])


def _document(
    rehearsal: Rehearsal, evacuation: IncidentHeader, orders: list[GivenOrder]
) -> dict[str, Any]:
    return {
        **preview_document(rehearsal.preview),
        "evacuation": evacuation.incident_id,
        "problems": rehearsal.problems,
        "orders": [one._asdict() for one in orders],
    }
