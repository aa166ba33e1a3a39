"""`stateroom alerts`: what fires and since when, silences, and tests of rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet.alerts.rules import ALERT_NAME
from fleet.alerts.state_json import StoredAlert, StoredGroup, StoredStates, decode_states
from fleet.alerts.states import AlertState
from fleet.errors import PermanentError
from fleet.metrics.labels import Labels
from fleet.ports.alert_store import STATES
from platform_defs.command import exit_codes
from platform_defs.command.moments import parse_span, utc_text
from platform_defs.command.operator_input import by_option, json_option, person
from platform_defs.command.output import age, cell_text, colours_wanted, table, to_json
from platform_defs.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.alerts.silences import Silence
    from resources.alerts.directory_store import DirectoryAlertStore

LATE_INTERVALS = 3
"""Intervals without an evaluation after which a group is said to be late."""
_ORDER = {AlertState.FIRING: 0, AlertState.PENDING: 1, AlertState.INACTIVE: 2}


def alert_store(settings: Settings) -> DirectoryAlertStore:
    """The documents of alerts of these settings."""
    from platform_defs.command.alert_files import alert_folder
    from resources.alerts.directory_store import DirectoryAlertStore

    return DirectoryAlertStore(alert_folder(settings))


@click.group(invoke_without_command=True)
@click.option("--all", "with_ended", is_flag=True, help="Those that ended lately, too.")
@json_option
@click.pass_context
def alerts(ctx: click.Context, with_ended: bool, as_json: bool) -> None:
    """List alerts of rules: what fires, since when, how it is silenced; and rules that fail.

    \b
    Examples:
      stateroom alerts
      stateroom alerts --json | jq '.alerts[] | select(.state == "firing")'
      stateroom alerts silence AgentCpuHigh region=eu --for "2 hours" --comment "load test"
      stateroom alerts test deploy/prometheus/tests/agents_test.yml
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return
    settings, now = load_settings(), datetime.now(UTC)
    store = alert_store(settings)
    states = decode_states(store.read(STATES))
    silences = _silences(store)
    shown = [
        one for one in states.alerts if with_ended or one.alert.state is not AlertState.INACTIVE
    ]
    shown.sort(key=lambda one: (_ORDER[one.alert.state], -one.alert.active_at_ms, one.alert.labels))
    if as_json:
        click.echo(to_json(alerts_document(states, shown, silences, now)))
    else:
        click.echo(alerts_text(states, shown, silences, now, colours=colours_wanted()))
    if any(group.errors for group in states.groups):
        ctx.exit(exit_codes.FINDING)


def _silences(store: DirectoryAlertStore) -> list[Silence]:
    from fleet.alerts.silences import decode_silences
    from fleet.ports.alert_store import SILENCES

    return decode_silences(store.read(SILENCES))


def alerts_text(
    states: StoredStates,
    shown: Sequence[StoredAlert],
    silences: Sequence[Silence],
    now: datetime,
    *,
    colours: bool,
) -> str:
    """A row for each alert, then what is wrong with the rules themselves."""
    lines = []
    if shown:
        headings = ("alert", "state", "since", "for", "silenced", "labels", "summary")
        rows = [_row(one, silences, now) for one in shown]
        lines.append(table(headings, rows, colours=colours))
    elif states.groups:
        lines.append(f"no alert; {len(states.groups)} groups of rules are evaluated")
    else:
        lines.append("no rule was ever evaluated here; the collector evaluates them")
    lines += [
        cell_text(f"rule {rule} of {group.key} fails: {why}")
        for group in states.groups
        for rule, why in group.errors
    ]
    late = [group for group in states.groups if _is_late(group, now)]
    if late:
        oldest = min(late, key=lambda group: group.evaluated_at_ms or 0)
        since = age(_moment(oldest.evaluated_at_ms), now)
        lines.append(f"{len(late)} groups are late, {oldest.key} by {since}: is the collector up?")
    return "\n".join(lines)


def _row(one: StoredAlert, silences: Sequence[Silence], now: datetime) -> tuple[object, ...]:
    since = _moment(one.alert.active_at_ms)
    silence = _muted(one.alert.labels, silences, now)
    named = dict(one.alert.labels)
    labels = " ".join(f"{name}={text}" for name, text in one.alert.labels if name != ALERT_NAME)
    return (
        named.get(ALERT_NAME, one.rule),
        one.alert.state.value,
        utc_text(since),
        age(since, now),
        silence.silence_id if silence else "no",
        labels,
        dict(one.annotations).get("summary", ""),
    )


def alerts_document(
    states: StoredStates,
    shown: Sequence[StoredAlert],
    silences: Sequence[Silence],
    now: datetime,
) -> dict[str, Any]:
    """What `--json` prints; docs/command.md describes it."""
    return {
        "alerts": [_alert_document(one, silences, now) for one in shown],
        "groups": [
            {
                "group": group.key,
                "evaluated_at": _moment(group.evaluated_at_ms),
                "late": _is_late(group, now),
                "errors": [{"rule": rule, "error": why} for rule, why in group.errors],
            }
            for group in states.groups
        ],
    }


def _alert_document(one: StoredAlert, silences: Sequence[Silence], now: datetime) -> dict[str, Any]:
    alert = one.alert
    silence = _muted(alert.labels, silences, now)
    return {
        "alert": dict(alert.labels).get(ALERT_NAME, one.rule),
        "state": alert.state.value,
        "labels": dict(alert.labels),
        "annotations": dict(one.annotations),
        "value": alert.value,
        "active_at": _moment(alert.active_at_ms),
        "fired_at": _moment(alert.fired_at_ms),
        "resolved_at": _moment(alert.resolved_at_ms),
        "silenced_by": silence.silence_id if silence else None,
        "group": one.group,
    }


def _muted(labels: Labels, silences: Sequence[Silence], now: datetime) -> Silence | None:
    from fleet.alerts.silences import muted

    return muted(silences, labels, now)


def _is_late(group: StoredGroup, now: datetime) -> bool:
    at = _moment(group.evaluated_at_ms)
    return at is None or (now - at).total_seconds() * 1000 > LATE_INTERVALS * group.interval_ms


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


@alerts.command()
@click.argument("matchers", nargs=-1, required=True, metavar="MATCHER...")
@click.option("--for", "span", required=True, metavar="SPAN", help='How long: "2 hours", "1 day".')
@click.option("--comment", default=None, metavar="TEXT", help="Why (required).")
@by_option
@json_option
def silence(
    matchers: tuple[str, ...], span: str, comment: str | None, by: str | None, as_json: bool
) -> None:
    """Tell nobody of alerts that all matchers fit, for a while. They are listed all the same.

    A MATCHER is an alert's name, label=value, label!=value, label=~regex or label!~regex. It holds
    from the next evaluation on.

    \b
    Examples:
      stateroom alerts silence NodeHeartbeatLate region=eu --for "2 hours" --comment "new switch"
      stateroom alerts silence 'alertname=~"Gpu.*"' --for "1 day" --comment "driver update"
    """  # noqa: D301
    from fleet.alerts.silences import (
        decode_silences,
        encode_silences,
        new_silence,
        parse_matcher,
        with_silence,
    )
    from fleet.ports.alert_store import SILENCES

    if comment is None or not comment.strip():
        raise click.UsageError("--comment is needed: who waits for an alert must know why")
    settings, now = _silencing_settings(), datetime.now(UTC)
    found = new_silence(
        [parse_matcher(one) for one in matchers],
        now,
        now + parse_span("--for", span),
        person(by),
        comment.strip(),
    )
    alert_store(settings).update(
        SILENCES, lambda text: encode_silences(with_silence(decode_silences(text), found, now))
    )
    if as_json:
        click.echo(to_json(_silence_document(found, now)))
    else:
        click.echo(f"silence {found.silence_id} holds until {utc_text(found.ends_at)}")


@alerts.command()
@click.argument("silence_id", metavar="ID")
@json_option
def unsilence(silence_id: str, as_json: bool) -> None:
    """End a silence now; `stateroom alerts silences` lists them."""
    from fleet.alerts.silences import decode_silences, encode_silences, ended_silence
    from fleet.ports.alert_store import SILENCES

    settings, now = _silencing_settings(), datetime.now(UTC)
    text = alert_store(settings).update(
        SILENCES,
        lambda text: encode_silences(ended_silence(decode_silences(text), silence_id, now)),
    )
    if as_json:
        (found,) = [one for one in decode_silences(text) if one.silence_id == silence_id]
        click.echo(to_json(_silence_document(found, now)))
    else:
        click.echo(f"silence {silence_id} has ended")


@alerts.command()
@click.option("--all", "with_ended", is_flag=True, help="Those that are over, too (five days).")
@json_option
def silences(with_ended: bool, as_json: bool) -> None:
    """List silences: what they are about, until when, by whom and why."""
    from fleet.alerts.silences import matcher_text

    settings, now = load_settings(), datetime.now(UTC)
    found = [one for one in _silences(alert_store(settings)) if with_ended or now < one.ends_at]
    if as_json:
        click.echo(to_json([_silence_document(one, now) for one in found]))
    elif found:
        headings = ("silence", "matchers", "until", "by", "comment")
        rows = [
            (
                one.silence_id,
                " ".join(map(matcher_text, one.matchers)),
                utc_text(one.ends_at),
                one.created_by,
                one.comment,
            )
            for one in found
        ]
        click.echo(table(headings, rows, colours=colours_wanted()))
    else:
        click.echo("no silence" if with_ended else "no silence holds; --all lists those that ended")


def _silence_document(one: Silence, now: datetime) -> dict[str, Any]:
    from fleet.alerts.silences import matcher_text

    return {
        "id": one.silence_id,
        "matchers": [matcher_text(matcher) for matcher in one.matchers],
        "starts_at": one.starts_at,
        "ends_at": one.ends_at,
        "created_by": one.created_by,
        "comment": one.comment,
        "active": one.is_active(now),
    }


def _silencing_settings() -> Settings:
    """The settings, unless an Alertmanager does the silencing.

    Raises:
        PermanentError: it does; a silence kept here would hold for nothing.
    """
    settings = load_settings()
    if settings.notify.alertmanager_url:
        raise PermanentError(
            "alerts go to an Alertmanager, which keeps the silences",
            hint="amtool silence add alertname=NAME --duration 2h --comment TEXT "
            "--alertmanager.url URL (notify.alertmanager_url in the settings)",
        )
    return settings


_files = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)


@alerts.command("test")
@_files
@json_option
@click.pass_context
def run_tests(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Run tests of rules, in the format of `promtool test rules`, on our own evaluator.

    \b
    Examples:
      stateroom alerts test deploy/prometheus/tests/*_test.yml
    """  # noqa: D301
    from platform_defs.command.alert_files import run_test_file

    results = [(path, one) for path in files for one in run_test_file(path)]
    failed = [(path, one) for path, one in results if not one.passed]
    if as_json:
        click.echo(to_json([{"file": str(path), **one._asdict()} for path, one in results]))
    else:
        for path, one in failed:
            place = f"{path}:{one.line}" if one.line else str(path)
            click.echo(cell_text(f"{place}: {one.test}: {one.case}: {one.text}"))
        click.echo(f"{len(results) - len(failed)} of {len(results)} cases passed")
    if failed:
        ctx.exit(exit_codes.FINDING)


@alerts.command()
@_files
def check(files: tuple[Path, ...]) -> None:
    """Check rule files; every problem is listed with file and line."""
    from fleet.alerts.loading import load_rules
    from platform_defs.command.alert_files import read_text

    groups = load_rules({str(path): read_text(path) for path in files})
    count = sum(len(group.rules) for group in groups)
    click.echo(f"{len(groups)} groups with {count} rules are right")


@alerts.command("rules")
def print_rules() -> None:
    """Print the rules of the declared objectives as YAML, for a Prometheus of your own."""
    from fleet.alerts.rule_yaml import rules_yaml
    from fleet.objectives import objective_groups
    from platform_defs.settings_objectives import declared_objectives

    groups = objective_groups(declared_objectives(load_settings().objectives))
    click.echo(rules_yaml(groups), nl=False)
