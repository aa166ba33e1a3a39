"""`stateroom doctor`: every check, every finding with its remedy."""

from __future__ import annotations

from pathlib import Path

import click

from platform_defs.command import exit_codes
from platform_defs.command.output import coloured, colours_wanted, to_json
from platform_defs.health_checks import run_checks, running_in
from platform_defs.health_finding import Context, Finding
from platform_defs.settings import load_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list of findings.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check versions, ports, disk, clock, stores, nodes and the Dagster daemon.

    Exit code 1 when a finding is `wrong`; `warn` leaves it 0.

    \b
    Examples:
      stateroom doctor
      stateroom doctor --json | jq '.[] | select(.verdict == "wrong")'
    """  # noqa: D301
    settings = load_settings()
    root = Path(__file__).resolve().parents[2]
    findings = run_checks(Context(settings, running_in(settings), root))
    if as_json:
        click.echo(to_json([finding._asdict() for finding in findings]))
    else:
        click.echo(findings_text(findings, colours=colours_wanted()))
    wrong = any(finding.verdict == "wrong" for finding in findings)
    ctx.exit(exit_codes.FINDING if wrong else exit_codes.OK)


def findings_text(findings: list[Finding], *, colours: bool) -> str:
    """One line per finding, its remedy below, the count at the end."""
    lines = []
    for finding in findings:
        word = coloured(f"{finding.verdict:8}", colours=colours)
        lines.append(f"{word}{finding.check:14}{finding.said}")
        if finding.remedy:
            lines.append(f"{'':22}-> {finding.remedy}")
    counts = {word: sum(f.verdict == word for f in findings) for word in ("wrong", "warn", "ok")}
    lines.append(f"{counts['wrong']} wrong, {counts['warn']} doubtful, {counts['ok']} ok")
    return "\n".join(lines)
