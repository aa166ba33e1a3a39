"""What commands that give orders have in common: who orders, of what, and names that exist."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from difflib import get_close_matches

import click
from click.shell_completion import CompletionItem

from fleet.errors import NotFoundError, StateroomError
from fleet.incidents import validate_person, validate_words
from platform_defs.settings import Settings, load_settings
from platform_defs.settings_fleet import RegionSettings

NODE, REGION = "node", "region"
KINDS = (NODE, REGION)

REASON_MAX_CHARS = 1000
"""Of what is typed: names and words are put before it where it is stored."""

by_option = click.option(
    "--by", default=None, metavar="NAME", help="Who orders it; default your login name."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


def person(by: str | None) -> str:
    """Who gives the order: the name that was typed, else the login name.

    Raises:
        InvalidInputError: it is no name; nothing has been touched then.
    """
    return validate_person("--by", by if by is not None else getpass.getuser())


def demand_reason(reason: str | None, why: str) -> str:
    """The reason that was typed.

    Args:
        reason: of the option `--reason`.
        why: what it is needed for, as the end of a sentence.

    Raises:
        click.UsageError: there is none.
        InvalidInputError: it is too long.
    """
    if reason is None or not reason.strip():
        raise click.UsageError(f"--reason is needed: {why}")
    return validate_words("--reason", reason.strip(), REASON_MAX_CHARS)


def demand_region(settings: Settings, name: str) -> RegionSettings:
    """A region that is declared.

    Raises:
        NotFoundError: it is not; names the nearest one.
    """
    regions = {region.name: region for region in settings.regions}
    if name not in regions:
        raise unknown("region", name, regions, "`stateroom status` lists the regions.")
    return regions[name]


def demand_node(settings: Settings, name: str) -> RegionSettings:
    """The region of a node that is declared.

    Raises:
        NotFoundError: it is not; names the nearest one.
    """
    homes = {one: region for region in settings.regions for one in region.node_ids}
    if name not in homes:
        raise unknown("node", name, homes, "`stateroom nodes` lists the nodes.")
    return homes[name]


def demand_subject(settings: Settings, kind: str, name: str) -> RegionSettings:
    """The region that a declared node or region is (in).

    Raises:
        NotFoundError: it is not declared; names the nearest one.
    """
    return (demand_node if kind == NODE else demand_region)(settings, name)


def unknown(what: str, name: str, known: Iterable[str], hint: str) -> NotFoundError:
    """The error for a name that does not exist."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return NotFoundError(f"no {what} {name!r}{meant}", hint=hint)


def complete_subject(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Declared nodes or regions, as the word before says."""
    del param
    kind = ctx.params.get("kind")
    try:
        regions = load_settings().regions
    except (StateroomError, OSError):
        return []  # a shell that completes must not print errors between the user's words
    names = [one.name for one in regions]
    if kind == NODE:
        names = [name for one in regions for name in one.node_ids]
    return [CompletionItem(one) for one in names if one.startswith(incomplete)]
