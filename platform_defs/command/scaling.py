"""`stateroom scaling`: what is decided of every workload, why, and a person's word for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import click

from fleet.errors import NotFoundError
from fleet.leases import RESCALING_LEASE, Lease, is_lease_live
from fleet.ports.control_store import ControlStore
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.pods import WorkloadAgents, by_workload
from fleet.rescaling.standing import (
    APPROVAL,
    LoggedDecision,
    Pending,
    ScalingOrder,
    ScalingStanding,
    live_orders,
)
from fleet.rescaling.telling import explain_decision
from platform_defs.command import exit_codes
from platform_defs.command.operator_input import by_option, demand_reason, json_option, person
from platform_defs.command.output import age, cell_text, colours_wanted, table, to_json
from platform_defs.command.scaling_damage import (
    damage_documents,
    damage_lines,
    damaged_of,
    forget,
)
from platform_defs.command.scaling_simulate import simulate
from platform_defs.command.scaling_subjects import complete_workload, demand_keys
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import Settings, load_settings

_workload = click.argument("workload", shell_complete=complete_workload)
_region = click.option("--region", metavar="REGION", help="In this region alone.")

Standing: TypeAlias = ScalingStanding | DamagedStanding

SHOWN = (
    "workload", "region", "mode", "wanted", "ready", "min", "max", "load %", "last verdict",
    "since", "waits for",
)  # fmt: skip


@click.group()
def scaling() -> None:
    """See how many agents each workload is to have, and why; allow what waits for a person.

    \b
    Examples:
      stateroom scaling status
      stateroom scaling explain chat --region eu-central-1
      stateroom scaling approve chat --reason "looks right"
      stateroom scaling forget chat --region eu-central-1
      stateroom scaling simulate --workload chat --load day.csv
    """  # noqa: D301


scaling.add_command(simulate)
scaling.add_command(forget)


@scaling.command()
@json_option
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """List every workload that is scaled, or held by a person, in each region.

    The exit code is 1 when what is remembered of one is damaged: it is held until a person acts.
    """
    settings = load_settings()
    now = datetime.now(UTC)
    with fleet_store(settings) as store:
        standings = {one.key: one for one in store.scaling_standings()}
        rows = _status_rows(settings, store, standings, now)
        leader = store.lease(RESCALING_LEASE)
    damaged = damaged_of(standings.values())
    _show_status(rows, _leader_text(leader, now), damaged, now, as_json=as_json)
    if damaged:
        ctx.exit(exit_codes.FINDING)


def _show_status(
    rows: Sequence[tuple[tuple[str, str], dict[str, Any]]],
    leader: str,
    damaged: Sequence[DamagedStanding],
    now: datetime,
    *,
    as_json: bool,
) -> None:
    if as_json:
        fields = ("mode", "wanted", "ready", "pending", "hold", "decision")
        documents = [
            {"workload": key[0], "region": key[1], **{name: row[name] for name in fields}}
            for key, row in rows
        ]
        told = damage_documents(damaged)
        click.echo(to_json({"leads": leader, "workloads": documents, "damaged": told}))
        return
    lines = [f"controller: {leader}"]
    if rows:
        shown = [(*key, *_status_cells(row, now)) for key, row in rows]
        lines.append(table(SHOWN, shown, colours=colours_wanted()))
    else:
        lines.append("no workload is scaled: docs/rescaling.md says how to begin")
    click.echo("\n".join([*lines, *damage_lines(damaged)]))


def _status_rows(
    settings: Settings,
    store: ControlStore,
    standings: Mapping[tuple[str, str], Standing],
    now: datetime,
) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """Each workload and region with all that is known of it; one read of everything."""
    modes = {one.name: one.scaling.mode for one in settings.workloads if one.scaling}
    holds, _ = live_orders(store.scaling_orders(), now)
    regions = [one.name for one in settings.regions]
    keys = sorted({(name, region) for name in modes for region in regions} | holds.keys())
    agents = by_workload(store.scaled_agents(sorted({name for name, _ in keys})))
    newest: dict[tuple[str, str], LoggedDecision] = {}
    for one in store.scaling_decisions(limit=20 * len(keys)):
        newest.setdefault(one.key, one)
    return [
        (
            key,
            {
                "mode": modes.get(key[0], "by hand"),
                **_counts(agents.get(key)),
                "pending": _pending_document(standings.get(key)),
                "damaged": isinstance(standings.get(key), DamagedStanding),
                "hold": _order_document(holds.get(key)),
                "decision": _decision_document(newest.get(key)),
                "since": newest[key].first_at if key in newest else None,
            },
        )
        for key in keys
    ]


def _counts(agents: WorkloadAgents | None) -> dict[str, int]:
    if agents is None:
        return {"wanted": 0, "ready": 0}
    return {"wanted": len(agents.wanted), "ready": agents.ready}


def _pending_of(standing: Standing | None) -> Pending | None:
    """The change that waits; None also where nobody can read whether one does."""
    return standing.pending if isinstance(standing, ScalingStanding) else None


def _pending_document(standing: Standing | None) -> dict[str, Any] | None:
    pending = _pending_of(standing)
    if pending is None:
        return None
    return {
        "current": pending.current,
        "desired": pending.desired,
        "since": pending.since,
        "reason": pending.reason,
    }


def _order_document(order: ScalingOrder | None) -> dict[str, Any] | None:
    return None if order is None else order._asdict()


def _decision_document(one: LoggedDecision | None) -> dict[str, Any] | None:
    return None if one is None else one._asdict()


def _status_cells(row: dict[str, Any], now: datetime) -> tuple[object, ...]:
    decision, pending, hold = row["decision"] or {}, row["pending"], row["hold"]
    load = decision.get("load")
    waits = ""
    if row["damaged"]:
        waits = "damaged"
    elif hold is not None:
        waits = f"{hold['ordered_by']} holds {hold['replicas']}"
    elif pending is not None:
        waits = f"{pending['current']} to {pending['desired']}"
    return (
        row["mode"],
        row["wanted"],
        row["ready"],
        decision.get("min_replicas"),
        decision.get("max_replicas"),
        None if load is None else round(100 * load),
        decision.get("verdict", "not looked at"),
        "-" if row["since"] is None else age(row["since"], now),
        waits or "-",
    )


def _leader_text(lease: Lease | None, now: datetime) -> str:
    if lease is None:
        return "nobody has ever led: `stateroom up`, and the rescale_sensor must run"
    if not lease.holder or not is_lease_live(lease, now):
        return f"nobody leads; {lease.holder or 'the last one'} did, in term {lease.term}"
    return f"{cell_text(lease.holder)} leads, term {lease.term}"


@scaling.command()
@_workload
@_region
@click.option("--last", default=10, show_default=True, type=click.IntRange(1, 1000), metavar="N",
              help="So many decisions in each region.")  # fmt: skip
@json_option
def explain(workload: str, region: str | None, last: int, as_json: bool) -> None:
    """Tell the last decisions about a workload: what was measured, what it asks for, what limited.

    Looks in a row that said the same are one decision with their number. What is damaged is told
    last, with the command that helps.
    """
    settings = load_settings()
    keys = demand_keys(settings, workload, region)
    now = datetime.now(UTC)
    with fleet_store(settings) as store:
        found = {key: store.scaling_decisions(*key, limit=last) for key in keys}
        orders = [one for one in store.scaling_orders() if one.key in set(keys)]
        standings = {one.key: one for one in store.scaling_standings()}
    damaged = damaged_of(standings.values(), keys)
    if as_json:
        document = {
            "orders": [one._asdict() for one in orders],
            "pending": {k[1]: _pending_document(standings.get(k)) for k in keys},
            "decisions": [one._asdict() for key in keys for one in found[key]],
            "damaged": damage_documents(damaged),
        }
        click.echo(to_json(document))
        return
    lines = _explained(workload, found, orders, standings, now)
    click.echo("\n".join([*lines, *damage_lines(damaged)]))


def _explained(
    workload: str,
    found: dict[tuple[str, str], list[LoggedDecision]],
    orders: Iterable[ScalingOrder],
    standings: Mapping[tuple[str, str], Standing],
    now: datetime,
) -> list[str]:
    if not any(found.values()):
        return [f"nothing was ever decided about {workload}; `stateroom scaling status`"]
    lines = []
    for one in orders:
        until = "" if one.until is None else f" until {one.until:%Y-%m-%d %H:%MZ}"
        who, why = cell_text(one.ordered_by), cell_text(one.reason)
        lines.append(f"{one.kind} of {who} in {one.region}: {one.replicas}{until} ({why})")
    for key, decisions in sorted(found.items()):
        if not decisions:
            continue
        lines += ["", f"{workload} in {key[1]}, newest last:"]
        for decision in reversed(decisions):
            lines += [cell_text(line) for line in explain_decision(decision)]
        pending = _pending_of(standings.get(key))
        if pending is not None:
            waited = age(pending.since, now)
            lines.append(f"waiting for {waited}: {pending.current} to {pending.desired}")
    rows = [_explained_row(one) for key in sorted(found) for one in reversed(found[key])]
    headings = ("at", "region", "verdict", "from", "to", "ready", "load %", "limited by", "looks")
    return [*lines, "", table(headings, rows, colours=colours_wanted())]


def _explained_row(one: LoggedDecision) -> tuple[object, ...]:
    return (
        f"{one.last_at:%H:%M:%S}",
        one.region,
        one.verdict,
        one.current,
        one.desired,
        one.ready,
        None if one.load is None else round(100 * one.load),
        one.limited_by or "-",
        one.times,
    )


@scaling.command()
@_workload
@_region
@click.option("--reason", default="looked at it", show_default=True, metavar="TEXT", help="Why.")
@by_option
@json_option
def approve(workload: str, region: str | None, reason: str, by: str | None, as_json: bool) -> None:
    """Allow the change that waits for a person, and this number alone."""
    settings = load_settings()
    keys = demand_keys(settings, workload, region)
    who, why = person(by), demand_reason(reason, "it stands in the journal")
    now = datetime.now(UTC)
    with fleet_store(settings) as store:
        standings = {one.key: one for one in store.scaling_standings()}
        orders = [
            ScalingOrder(*key, APPROVAL, pending.desired, who, why, now)
            for key in keys
            if (pending := _pending_of(standings.get(key))) is not None
        ]
        damaged = damaged_of(standings.values(), keys)
        if not orders:
            raise _nothing_waits(workload, damaged)
        store.order_scaling(orders)
    if as_json:
        approved = [one._asdict() for one in orders]
        click.echo(to_json({"approved": approved, "damaged": damage_documents(damaged)}))
        return
    for one in orders:
        click.echo(f"{workload} may have {one.replicas} agents in {one.region} ({cell_text(who)})")
    if damaged:
        click.echo("\n".join(damage_lines(damaged)))


def _nothing_waits(workload: str, damaged: Sequence[DamagedStanding]) -> NotFoundError:
    """Why there is nothing to approve: nothing waits, or nobody can read whether something does."""
    message = f"no change of {workload} waits for a person"
    if damaged:
        return NotFoundError(f"{message}: {damaged[0].reason}", hint=f"{damaged[0].hint}.")
    hint = f"`stateroom scaling explain {workload}` tells what was decided."
    return NotFoundError(message, hint=hint)
