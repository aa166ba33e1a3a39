"""`stateroom rightsizing`: what each workload should be allocated, from what its agents used."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fleet.rightsizing.records import RightsizingAdvice, Verdict
from fleet.rightsizing.scaled import scaled_resources
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.metric_access import existing_metric_store
from platform_defs.command.operator_input import unknown
from platform_defs.command.output import table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.declared_costs import declared_prices, declared_rightsizing
from platform_defs.declared_scaling import declared_scaling
from platform_defs.settings import load_settings

HOURS_A_MONTH = 730


@click.command()
@click.option("--network", help="Only this network.")
@click.option("--workload", help="Only this workload.")
@click.option("--changes", is_flag=True, help="Only what should be changed.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every field.")
def rightsizing(network: str | None, workload: str | None, changes: bool, as_json: bool) -> None:
    """Advise what each workload should be allocated; changes nothing.

    Decaying histograms of what agents used, as the Vertical Pod Autoscaler makes them. `tested` is
    how often the newer half of the history would have been above advice made from the older half.

    \b
    Examples:
      stateroom rightsizing
      stateroom rightsizing --changes --network host-watch
      stateroom rightsizing --json | jq '.[] | select(.verdict == "shrink")'
    """  # noqa: D301
    from ops.rightsizing import advise_workloads

    settings = load_settings()
    with fleet_store(settings) as store:
        agents = store.agents()
    _demand("network", network, [one.network_id for one in agents])
    _demand("workload", workload, [one.workload for one in agents])
    chosen = [
        agent
        for agent in agents
        if network in {None, agent.network_id} and workload in {None, agent.workload}
    ]
    rows = advise_workloads(
        existing_metric_store(settings),
        chosen,
        declared_rightsizing(settings.rightsizing),
        declared_prices(settings.costs, settings.prices),
        datetime.now(UTC),
        existing_lake(settings) if settings.lake.path.is_dir() else None,
        keep_kills=False,
        scaled=scaled_resources(declared_scaling(settings).workloads.values()),
    )
    if changes:
        rows = [row for row in rows if row.verdict in {Verdict.GROW, Verdict.SHRINK}]
    if as_json:
        click.echo(to_json([row._asdict() for row in rows]))
        return
    click.echo(advice_text(rows, settings.costs.currency))


def _demand(kind: str, name: str | None, known: list[str]) -> None:
    """Refuse a name that no agent has."""
    if name is not None and name not in known:
        raise unknown(kind, name, sorted(set(known)), "`stateroom agents` lists them.")


def advice_text(rows: list[RightsizingAdvice], currency: str) -> str:
    """A line for each workload and resource, and what all changes come to in a month."""
    from fleet.rightsizing.amounts import amount_text

    if not rows:
        return "nothing to advise: there are no agents, or no change is worth it"
    headings = (
        "network", "workload", "resource", "agents", "verdict", "allocated", "target", "lower",
        "upper", "days", "tested", f"{currency}/month",
    )  # fmt: skip
    cells = [
        (
            row.network_id,
            row.workload,
            row.resource,
            row.agents,
            row.verdict,
            *(
                amount_text(row.resource, amount)
                for amount in (row.allocated, row.target, row.lower, row.upper)
            ),
            round(row.confidence_days, 2),
            _percent(row.tested_violation_ratio),
            round(row.saving_per_hour * HOURS_A_MONTH, 2),
        )
        for row in rows
    ]
    saved = sum(max(0.0, row.saving_per_hour) for row in rows) * HOURS_A_MONTH
    added = sum(max(0.0, -row.saving_per_hour) for row in rows) * HOURS_A_MONTH
    told = f"shrinking saves {saved:.2f} {currency} a month, growing costs {added:.2f}"
    return f"{table(headings, cells)}\n{told}; nothing was changed"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.1f} %"
