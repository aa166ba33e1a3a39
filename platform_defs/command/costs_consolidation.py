"""`stateroom costs consolidation`: nodes that could be given back, and one proposal carried out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.consolidation.records import ConsolidationPolicy, ConsolidationProposal, Standing
from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError
from fleet.heartbeats import HeartbeatPolicy
from platform_defs.command.action_journal import journaled
from platform_defs.command.controller_standing import demand_controller, read_standing
from platform_defs.command.cost_prices import price_book
from platform_defs.command.forced_orders import order_failover
from platform_defs.command.lake_access import existing_lake
from platform_defs.command.operator_input import NODE, by_option, demand_reason, person
from platform_defs.command.output import age, table, to_json
from platform_defs.command.store_access import fleet_store
from platform_defs.declared_costs import declared_consolidation
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.ports.control_store import ControlStore


@click.command()
@click.option("--approve", metavar="ID", help="Empty the nodes of this proposal, one by one.")
@click.option("--reason", default="it saves money", show_default=True, metavar="TEXT",
              help="Why; it stands in the marks and incidents.")  # fmt: skip
@click.option("--wait-s", type=click.IntRange(1, 86_400), default=600, show_default=True,
              help="Longest wait for each node to be empty.")  # fmt: skip
@by_option
@click.option("--json", "as_json", is_flag=True, help="JSON with every field.")
def consolidation(
    approve: str | None, reason: str, wait_s: int, by: str | None, as_json: bool
) -> None:
    """List proposals to give nodes back; carry one out that is approved.

    Carrying out looks a third time, puts all nodes of the proposal under maintenance (they take no
    agents), and has the controller move their agents away, node by node. The nodes themselves are
    then yours to give back: take them out of the settings. Killed and run again, it goes on.

    \b
    Examples:
      stateroom costs consolidation
      stateroom costs consolidation --approve 3f2a9c01b7de --reason "quiet month"
    """  # noqa: D301
    from ops.consolidation import read_past, read_plan

    settings, now = load_settings(), datetime.now(UTC)
    lake = existing_lake(settings)
    if approve is None:
        found = read_plan(lake)
        shown = to_json([one._asdict() for one in found]) if as_json else plan_text(found, now)
        click.echo(shown)
        return
    who, said = person(by), demand_reason(reason, "it stands in the marks")
    # Also of earlier looks: what is half done is not proposed anew.
    past = read_past(lake, _policy(settings), now)
    done = carry_out(settings, _chosen(past, approve), who, said, wait_s)
    click.echo(to_json(done) if as_json else _done_text(done))


def _policy(settings: Settings) -> ConsolidationPolicy:
    return declared_consolidation(settings.consolidation, settings.disruption_budgets)


def plan_text(rows: Sequence[ConsolidationProposal], now: datetime) -> str:
    """A line for each proposal; only validated ones can be carried out."""
    if not rows:
        return "no node is proposed to be given back; `costs_job` looks every hour"
    headings = ("id", "standing", "region", "nodes", "agents", "saves/h", "seen", "why")
    cells = [
        (
            row.proposal_id,
            row.standing,
            row.region,
            ", ".join(row.nodes),
            row.agents_moved,
            round(row.saving_per_hour, 4),
            f"{age(row.looked_at, now)} ago",
            row.reason,
        )
        for row in rows
    ]
    return table(headings, cells)


def _chosen(rows: Sequence[ConsolidationProposal], approved: str) -> ConsolidationProposal:
    known = [row for row in rows if row.proposal_id == approved]
    chosen = max(known, key=lambda row: row.looked_at, default=None)
    if chosen is None:
        raise NotFoundError(
            f"no proposal has the id {approved!r}",
            hint="`stateroom costs consolidation` lists the ids.",
        )
    if chosen.standing != Standing.VALIDATED:
        raise PermanentError(
            f"proposal {approved} was {chosen.standing}, not validated: {chosen.reason}",
            hint="Wait for the next look of `costs_job`.",
        )
    return chosen


def carry_out(
    settings: Settings, chosen: ConsolidationProposal, by: str, reason: str, wait_s: float
) -> dict[str, Any]:
    """Look again, mark, and empty node by node; journaled as one action.

    Raises:
        PermanentError: the proposal does not hold any more; nothing was touched.
        TransientError: no controller leads, or a node was not empty in time; run again.
    """
    from ops.consolidation import look_once_more
    from ops.consolidation_run import NodeOrders, empty_nodes
    from resources.clock import SystemClock

    clock, lake = SystemClock(), existing_lake(settings)
    policy = _policy(settings)
    with fleet_store(settings) as store:
        demand_controller(read_standing(store, clock.now()), "empty the nodes")
        node, book = settings.node, price_book(settings)
        beats = HeartbeatPolicy(node.heartbeat_late_s, node.heartbeat_lost_s)
        with journaled(store, "consolidation", chosen.proposal_id, reason) as detail:
            young_s = (chosen.looked_at - clock.now()).total_seconds() + policy.validate_after_s
            if young_s > 0 and not clock.pause(young_s):
                raise StoreUnavailableError("asked to end before the third look")
            one = look_once_more(store, lake, chosen, policy, book, beats, clock.now())
            if one.standing != Standing.VALIDATED:
                raise PermanentError(
                    f"proposal {one.proposal_id} does not hold any more: {one.reason}",
                    hint="Nothing was touched; `costs_job` proposes anew every hour.",
                )
            orders = NodeOrders(by, reason, _give_up(store, one, by, reason), _say)
            moved = empty_nodes(store, one, orders, clock, wait_s)
            detail |= {"nodes": list(one.nodes), "agents_moved": moved}
    return {**one._asdict(), "agents_moved": moved}


def _give_up(
    store: ControlStore, one: ConsolidationProposal, by: str, reason: str
) -> Callable[[str], object]:
    said = f"consolidation {one.proposal_id}: {reason}"
    return lambda node_id: order_failover(store, NODE, node_id, one.region, by, said)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _done_text(done: dict[str, Any]) -> str:
    names = ", ".join(done["nodes"])
    return (
        f"{names}: no agent runs there any more, and none goes there for a day\n"
        "  -> take them out of stateroom.toml and run `stateroom up`, or give them another use: "
        "`stateroom maintenance end node NAME`"
    )
