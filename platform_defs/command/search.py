"""`stateroom search`: what agents remember, found by its meaning."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from fleet.vectors.filter_text import parse_filter
from platform_defs.command.moments import utc_text
from platform_defs.command.network_subjects import complete_network, demand_network
from platform_defs.command.operator_input import json_option
from platform_defs.command.output import age, cell_text, table, to_json
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.vectors.records import MergedAnswer, SearchAnswer
    from resources.vectors.network_indexes import NetworkIndexes

VECTORS, HYBRID, WORDS = "vectors", "hybrid", "words"
NOT_CUT_CHARS = 20
"""A note is never cut shorter, however narrow the terminal."""


@click.command()
@click.argument("text")
@click.option(
    "--network", "networks", multiple=True, metavar="N", shell_complete=complete_network,
    help="Only what this network remembers; may be repeated. Default: all together.",
)  # fmt: skip
@click.option("-k", default=10, show_default=True, type=click.IntRange(1, 10_000), metavar="N",
              help="So many notes.")  # fmt: skip
@click.option("--where", metavar="FILTER", help="Only notes that pass: see below.")
@click.option("--vectors", "how", flag_value=VECTORS, default=VECTORS, help="By meaning; default.")
@click.option("--hybrid", "how", flag_value=HYBRID, help="By meaning and by words.")
@click.option("--words", "how", flag_value=WORDS, help="By words alone: names, codes, numbers.")
@json_option
def search(
    text: str, networks: tuple[str, ...], k: int, where: str | None, how: str, as_json: bool
) -> None:
    """Find notes of agents by their meaning, and say how fresh the answer is.

    A filter compares `note_id`, `agent_id`, `region`, `created_at` and `text` with = != < <= > >=,
    `in ('a', 'b')`, `like 'a%'`, `is null`; joined by and, or, not and brackets. Times are ISO
    8601, of UTC where they name no zone.

    \b
    Examples:
      stateroom search "the disk was busy"
      stateroom search "memory is full" --network host-watch -k 3
      stateroom search "slow" --where "region = 'us-west-2' and created_at > '2026-11-21'"
      stateroom search "sda1" --hybrid --json | jq -r '.hits[].text'
    """  # noqa: D301
    if not text.strip():
        raise InvalidInputError("TEXT", text, "what to look for, in words")
    if where is not None:
        parse_filter(where)
    settings = load_settings()
    asked = [demand_network(settings, name) for name in dict.fromkeys(networks)]
    found = _found(settings, text, asked, k, where, how)
    now = datetime.now(UTC)
    waiting = _waiting(settings, [one.network_id for one in found.answers], now)
    if as_json:
        click.echo(to_json(_document(found, waiting, now)))
    else:
        click.echo("\n".join(_lines(found, waiting, now)))


def _found(
    settings: Settings, text: str, asked: list[str], k: int, where: str | None, how: str
) -> MergedAnswer:
    """Ask each network, and put the answers together by score.

    Raises:
        NotFoundError: a network that was named has no index, or none has.
        InvalidInputError: networks whose scores do not compare.
    """
    from fleet.vectors.merging import merge_answers
    from platform_defs.command.vector_access import existing_indexes

    indexes = existing_indexes(settings)
    networks = asked or list(indexes.declaration.network_ids)
    missing = [one for one in networks if indexes.store.current(one) is None]
    _demand_indexed(networks, asked, missing)
    indexed = [one for one in networks if one not in missing]
    _demand_comparable(indexes, indexed, how)
    answers = []
    for network_id in indexed:
        searcher = indexes.searcher(network_id)
        if how == WORDS:
            answers.append(searcher.search_words(text, k, where=where))
        else:
            answers.append(searcher.search(text, k, where=where, hybrid=how == HYBRID))
    return merge_answers(answers, k, missing)


def _demand_indexed(networks: list[str], asked: list[str], missing: list[str]) -> None:
    """Refuse to search where there is nothing to search in."""
    if not missing or (not asked and len(missing) < len(networks)):
        return
    raise NotFoundError(
        f"no index yet: {', '.join(missing)}",
        hint="It is built within a minute of the first notes while `stateroom up` runs; "
        f"`stateroom indexes rebuild {missing[0]}` builds it now.",
    )


def _demand_comparable(indexes: NetworkIndexes, networks: Sequence[str], how: str) -> None:
    """Refuse to put together what does not compare."""
    if how != VECTORS and len(networks) > 1:
        raise InvalidInputError(
            f"--{how}",
            f"{len(networks)} networks",
            "one network: how much a word weighs depends on the network",
            hint=f"Name it: --network {networks[0]}, ...",
        )
    models = {one: indexes.embedder(one).model for one in networks if how == VECTORS}
    if len(set(models.values())) > 1:
        told = ", ".join(f"{network}: {model.name}" for network, model in models.items())
        raise InvalidInputError(
            "--network",
            told,
            "networks of one model: scores of two models do not compare",
            hint="Search one network at a time.",
        )


def _waiting(settings: Settings, networks: Sequence[str], now: datetime) -> dict[str, int | None]:
    """How many notes each index does not hold yet; None where the control store is not at hand."""
    from platform_defs.command.index_standings import index_health

    try:
        known = index_health(settings, now)
    except StateroomError:
        # The search itself was answered: that it cannot be said how fresh it is, is said.
        return dict.fromkeys(networks)
    return {one: known[one].waiting if one in known else 0 for one in networks}


def _lines(found: MergedAnswer, waiting: dict[str, int | None], now: datetime) -> list[str]:
    several = len(found.answers) > 1
    headings = ["score", "at", "agent", "region", *(["network"] if several else []), "note"]
    rows = [
        [
            f"{hit.score:.3f}",
            utc_text(hit.created_at),
            hit.agent_id,
            hit.region,
            *([network_id] if several else []),
            cell_text(hit.text),
        ]
        for network_id, hit in found.hits
    ]
    lines = [_cut(line) for line in table(headings, rows).splitlines()] if rows else ["no note"]
    lines += [_answer_line(one, waiting[one.network_id], now) for one in found.answers]
    if found.without_index:
        lines.append(f"no index yet: {', '.join(found.without_index)}")
    return lines


def _cut(line: str) -> str:
    """A line as wide as the terminal; whole where the output is no terminal."""
    if not sys.stdout.isatty():
        return line
    width = max(shutil.get_terminal_size((100, 24)).columns, NOT_CUT_CHARS)
    return line if len(line) <= width else line[: width - 3] + "..."


def _answer_line(answer: SearchAnswer, waiting: int | None, now: datetime) -> str:
    recall = "" if answer.recall is None else f", recall {answer.recall:.3f}"
    newer = "unknown how many newer notes" if waiting is None else f"{waiting} newer notes"
    return (
        f"{answer.network_id}: {answer.candidates} notes asked ({answer.method}{recall}), "
        f"generation {answer.generation} built {age(answer.built_at, now)} ago, "
        f"{newer} not in it yet"
    )


def _document(found: MergedAnswer, waiting: dict[str, int | None], now: datetime) -> dict[str, Any]:
    return {
        "hits": [{"network": network_id, **hit._asdict()} for network_id, hit in found.hits],
        "networks": [
            {
                "network": one.network_id,
                "generation": one.generation,
                "method": one.method,
                "candidates": one.candidates,
                "recall": one.recall,
                "built_at": one.built_at,
                "age_s": round(one.freshness_s(now), 3),
                "newest_note_at": one.newest_note_at,
                "newer_notes": waiting[one.network_id],
            }
            for one in found.answers
        ],
        "without_index": found.without_index,
    }
