"""Standings that are damaged, as commands of rescaling tell of them; and the command that helps."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click

from fleet.errors import NotFoundError
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.pods import by_workload
from fleet.rescaling.standing import ScalingStanding
from platform_defs.command.operator_input import by_option, demand_reason, json_option, person
from platform_defs.command.output import cell_text, to_json
from platform_defs.command.scaling_subjects import complete_workload, demand_keys
from platform_defs.command.store_access import fleet_store
from platform_defs.settings import load_settings


def damaged_of(
    standings: Iterable[ScalingStanding | DamagedStanding],
    keys: Collection[tuple[str, str]] | None = None,
) -> list[DamagedStanding]:
    """Those that cannot be read, in the given order; of all, or of these workloads and regions."""
    return [
        one
        for one in standings
        if isinstance(one, DamagedStanding) and (keys is None or one.key in keys)
    ]


def damage_lines(damaged: Iterable[DamagedStanding]) -> list[str]:
    """What is wrong with each, what is not done for it, and the next step."""
    return [
        line
        for one in damaged
        for line in (
            f"  ! {cell_text(one.reason)}; it is held, whatever is decided or ordered",
            f"  -> {cell_text(one.hint)}",
        )
    ]


def damage_documents(damaged: Iterable[DamagedStanding]) -> list[dict[str, str]]:
    """The same for scripts."""
    return [
        {"workload": one.workload, "region": one.region, "damage": one.damage, "hint": one.hint}
        for one in damaged
    ]


@click.command()
@click.argument("workload", shell_complete=complete_workload)
@click.option("--region", metavar="REGION", help="In this region alone; default: in each.")
@click.option("--reason", default="ordered by hand", show_default=True, metavar="TEXT", help="Why.")
@by_option
@json_option
def forget(workload: str, region: str | None, reason: str, by: str | None, as_json: bool) -> None:
    """Forget what the autoscaler remembers of a workload, so that it begins anew.

    For a standing that is damaged: until then it is held. The agents stay as many as they are, and
    orders of people stay in force. What is forgotten (proposals, changes, windows of rules, the
    change that waits) stands in the journal `scaling/WORKLOAD/REGION`. The next look decides anew:
    nothing is removed for a window, and a number of 0 stays until a person gives another one.

    \b
    Example:
      stateroom scaling forget chat --region eu-central-1 --reason "bad sector on the store's disk"
    """  # noqa: D301
    settings = load_settings()
    who, why = person(by), demand_reason(reason, "it stands in the journal")
    with fleet_store(settings) as store:
        keys = [
            one.key
            for one in store.scaling_standings()
            if one.workload == workload and region in {None, one.region}
        ]
        if not keys:
            demand_keys(settings, workload, region)
            raise NotFoundError(
                f"nothing is remembered of {workload}" + (f" in {region}" if region else ""),
                hint="`stateroom scaling status` lists what is scaled, and what is damaged.",
            )
        forgotten = store.forget_scaling(keys, who, why)
        agents = by_workload(store.scaled_agents([workload]))
    asleep = [key for key in forgotten if key in agents and not agents[key].wanted]
    if as_json:
        named = [{"workload": key[0], "region": key[1]} for key in forgotten]
        click.echo(to_json({"forgotten": named}))
        return
    for key in forgotten:
        click.echo(f"{workload} in {key[1]} begins anew with the next look ({cell_text(who)})")
    for key in asleep:
        click.echo(f"  ! it has 0 agents in {key[1]}, which no rule raises any more")
        click.echo(f"  -> stateroom scale {workload} --replicas N --region {key[1]}")
