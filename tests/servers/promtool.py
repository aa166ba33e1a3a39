"""Prometheus' own `promtool` (Debian's package `prometheus`) as the oracle of rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fleet.metrics.labels import Labels

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)=("(?:[^"\\]|\\.)*")')
_FAILED_ALERT = re.compile(
    r"name: (?P<test>[^\n]*),\n\s+alertname: (?P<alert>\S+), time: (?P<time>\w+), \n"
    r"\s+exp:(?P<exp>.*?), \n\s+got:(?P<got>.*?)(?=\n    name: |\n    alertname: |\n    expr: |\Z)",
    re.DOTALL,
)
_FAILED_EXPR = re.compile(r'expr: (?P<expr>"(?:[^"\\]|\\.)*"), time: (?P<time>\w+),\n'
                          r"\s+exp: (?P<exp>[^\n]*)\n\s+got: (?P<got>[^\n]*)")  # fmt: skip

NOBODY = {"exp_labels": {"nobody": "has this"}}
"""An alert that never fires: promtool then says which do."""


class Told(NamedTuple):
    """What promtool found where it had been told to expect something else."""

    test: str
    alert: str
    time: str
    alerts: tuple[tuple[Labels, Labels], ...]
    """Labels and annotations of each that fires, sorted."""


def promtool() -> str:
    """Where it lies; skips the test where it does not."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool on PATH (Debian's package prometheus)")
    return found


def run_promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [promtool(), *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def firing_alerts(folder: Path, document: dict[str, Any]) -> list[Told]:
    """What fires at each `alert_rule_test` of a document, by promtool.

    Args:
        folder: holds the rule files.
        document: tests whose cases all expect `NOBODY`, each test with a name.
    """
    found = run_promtool("test", "rules", _written(folder, document), cwd=folder)
    assert "SUCCESS" not in found.stdout or not document["tests"]
    text = found.stdout + found.stderr
    told = []
    for match in _FAILED_ALERT.finditer(text):
        lines = match["got"].splitlines()
        labels = [_labels(line) for line in lines if line.strip().startswith("Labels:")]
        words = [_labels(line) for line in lines if line.strip().startswith("Annotations:")]
        alerts = tuple(sorted(zip(labels, words, strict=True)))
        told.append(Told(match["test"], match["alert"], match["time"], alerts))
    return told


def samples_of(folder: Path, document: dict[str, Any]) -> dict[tuple[str, str], str]:
    """What each `promql_expr_test` that expects something else has, as promtool prints it."""
    found = run_promtool("test", "rules", _written(folder, document), cwd=folder)
    text = found.stdout + found.stderr
    return {
        (json.loads(match["expr"]), match["time"]): match["got"]
        for match in _FAILED_EXPR.finditer(text)
    }


def _written(folder: Path, document: Sequence[Any] | dict[str, Any]) -> str:
    """JSON is YAML."""
    path = folder / "asked_test.yml"
    path.write_text(json.dumps(document))
    return path.name


def _labels(line: str) -> Labels:
    return tuple((name, json.loads(text)) for name, text in _LABEL.findall(line))
