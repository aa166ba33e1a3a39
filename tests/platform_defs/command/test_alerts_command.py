"""`stateroom alerts` as a person at night meets it."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from fleet.alerts.groups import compile_group, evaluate_group, fresh_state
from fleet.alerts.loading import load_rules
from fleet.alerts.rules import AlertingRule, RuleGroup
from fleet.alerts.state_json import encode_states
from fleet.errors import NotFoundError
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries
from fleet.metrics.vectors import InstantVector
from fleet.ports.alert_store import STATES
from fleet.promql.engine import PromqlEngine
from platform_defs.command.alert_files import (
    SHIPPED,
    alert_folder,
    production_groups,
    shipped_rules,
)
from platform_defs.settings import load_settings
from resources.alerts.directory_store import DirectoryAlertStore
from tests.platform_defs.command.conftest import SETTINGS, Run

ROOT = Path(__file__).resolve().parents[3]
DOWN = AlertingRule("Down", "up == 0", annotations=(("summary", "{{ $labels.job }} is down"),))
SLOW = AlertingRule("Slow", "up == 0", 600_000)
BROKEN = AlertingRule("Broken", "up", labels=(("job", "same"),))


@pytest.fixture
def evaluated(fleet_dir: Path) -> int:
    """Rules were evaluated a moment ago; the moment."""
    at_ms = int(datetime.now(UTC).timestamp() * 1000)
    series = MemorySeries()
    up = [labels_of("up", {"job": job}) for job in "ab"]
    series.write(InstantVector(up, np.zeros(2), at_ms))
    group = compile_group(RuleGroup("g", (DOWN, SLOW, BROKEN), "f.yml"))
    state = fresh_state(group.group, restored=True)
    state = evaluate_group(group, state, PromqlEngine(series), series, at_ms)
    store = DirectoryAlertStore(alert_folder(load_settings()))
    store.write(STATES, encode_states([group], [state]))
    return at_ms


def test_alerts_are_listed_with_state_since_and_what_is_wrong_with_rules(
    run: Run, evaluated: int
) -> None:
    """Firing ones first; a rule that fails makes the exit code 1."""
    result = run("alerts")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["alert", "state", "since", "for", "silenced", "labels", "summary"]
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["Down", "firing"],
        ["Down", "firing"],
        ["Slow", "pending"],
        ["Slow", "pending"],
    ]
    assert "a is down" in lines[1]
    assert lines[5].startswith("rule Broken of f.yml;g fails: ")
    document = json.loads(run("alerts", "--json").stdout)
    assert [one["state"] for one in document["alerts"]] == ["firing"] * 2 + ["pending"] * 2
    first = document["alerts"][0]
    assert first["labels"] == {"alertname": "Down", "job": "a"}
    assert datetime.fromisoformat(first["active_at"]).timestamp() * 1000 == evaluated
    assert document["groups"][0]["late"] is False


def test_without_an_evaluation_it_says_so(run: Run) -> None:
    """Nothing fires is another thing than nobody looked."""
    result = run("alerts")
    assert result.exit_code == 0
    assert "no rule was ever evaluated" in result.stdout


def test_a_silence_is_made_listed_and_ended(run: Run, evaluated: int) -> None:
    """It shows beside the alerts that it is about."""
    made = run("alerts", "silence", "Down", "job=a", "--for", "2 hours", "--comment", "new switch",
               "--by", "ann")  # fmt: skip
    assert made.exit_code == 0, made.output
    (found,) = json.loads(run("alerts", "silences", "--json").stdout)
    assert found["matchers"] == ['alertname="Down"', 'job="a"']
    assert (found["created_by"], found["comment"], found["active"]) == ("ann", "new switch", True)
    ends = datetime.fromisoformat(found["ends_at"])
    assert timedelta(hours=1) < ends - datetime.now(UTC) <= timedelta(hours=2)
    document = json.loads(run("alerts", "--json").stdout)
    assert [one["silenced_by"] for one in document["alerts"]] == [found["id"], None, None, None]
    assert found["id"] in run("alerts").stdout
    assert "new switch" in run("alerts", "silences").stdout
    assert run("alerts", "unsilence", found["id"]).exit_code == 0
    assert "no silence holds" in run("alerts", "silences").stdout
    (ended,) = json.loads(run("alerts", "silences", "--all", "--json").stdout)
    assert ended["active"] is False


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("silence", "Down", "--for", "2 hours"), "--comment is needed"),
        (("silence", "Down", "--comment", "x"), "--for"),
        (("silence", "--for", "2 hours", "--comment", "x"), "MATCHER"),
        (("silence", "a b", "--for", "2 hours", "--comment", "x"), "matcher"),
        (("silence", "a!=b", "--for", "2 hours", "--comment", "x"), "everything"),
        (("silence", "Down", "--for", "soon", "--comment", "x"), "--for"),
        (("unsilence", "nobody"), "no silence 'nobody'"),
        (("test", "nosuch.yml"), "cannot read"),
        (("check", "nosuch.yml"), "cannot read"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_next_step(
    run: Run, words: tuple[str, ...], says: str
) -> None:
    """Exit code 2, one line."""
    result = run("alerts", *words)
    assert result.exit_code == 2
    assert says in result.stderr


def test_with_an_alertmanager_silences_are_its_own(run: Run, fleet_dir: Path) -> None:
    """A silence kept here would hold for nothing."""
    result = run(
        "alerts", "silence", "Down", "--for", "1 hour", "--comment", "x",
        STATEROOM_NOTIFY__ALERTMANAGER_URL="http://127.0.0.1:9093",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "amtool silence add" in result.stderr


def test_rules_are_tested_and_checked(run: Run, tmp_path: Path) -> None:
    """A case that fails is named with its line; the exit code is 1."""
    rules, tests = tmp_path / "rules.yml", tmp_path / "rules_test.yml"
    rules.write_text("groups: [{name: g, rules: [{alert: A, expr: x > 0}]}]")
    text = """
rule_files: [rules.yml]
tests:
  - input_series: [{series: x, values: 1x5}]
    alert_rule_test:
      - eval_time: 1m
        alertname: A
        exp_alerts: [{}]
"""
    tests.write_text(text)
    good = run("alerts", "test", str(tests))
    assert (good.exit_code, good.stdout) == (0, "1 of 1 cases passed\n")
    tests.write_text(text.replace("[{}]", "[]"))
    bad = run("alerts", "test", str(tests))
    assert bad.exit_code == 1
    assert f"{tests}:7: test 1: alert A at 1m: expected nothing" in bad.stdout
    (told,) = json.loads(run("alerts", "test", "--json", str(tests)).stdout)
    assert told["passed"] is False
    assert run("alerts", "check", str(rules)).stdout == "1 groups with 1 rules are right\n"
    rules.write_text("groups: [{name: g, rules: [{alert: A, expr: x >}]}]")
    refused = run("alerts", "check", str(rules))
    assert refused.exit_code == 2
    assert f"{rules} line 1" in refused.stderr


def test_objectives_of_the_settings_become_rules(run: Run, fleet_dir: Path) -> None:
    """What is printed is what the collector evaluates, and Prometheus can load it."""
    path = fleet_dir / "stateroom.toml"
    objective = '[objectives.api]\nkind = "availability"\ntarget = 0.99\nservice = "cpu"\n'
    path.write_text(SETTINGS + objective)
    result = run("alerts", "rules")
    assert result.exit_code == 0, result.output
    (group,) = load_rules({"objectives": result.stdout})
    assert group.name == "objective-api"
    groups = production_groups(load_settings())
    assert groups[-1].name == "objective-api"
    assert {"agents", "platform", "backups", "gpus"} <= {one.name for one in groups}


def test_shipped_rules_are_found_installed_and_in_a_checkout(tmp_path: Path) -> None:
    """A wheel holds them where they are looked for; without any, alerts do not silently end."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert {ROOT / source: ROOT / target for source, target in included.items()} == {
        SHIPPED[1]: SHIPPED[0]
    }
    assert shipped_rules() == sorted(SHIPPED[1].glob("*.yml"))
    (tmp_path / "agents.yml").write_text("groups: []")
    assert shipped_rules([tmp_path / "none", tmp_path]) == [tmp_path / "agents.yml"]
    with pytest.raises(NotFoundError, match="no rules of alerts in"):
        shipped_rules([tmp_path / "none"])


def test_objectives_that_make_no_sense_are_settings_errors(run: Run, fleet_dir: Path) -> None:
    """Each with its key and line."""
    path = fleet_dir / "stateroom.toml"
    path.write_text(
        SETTINGS
        + '[objectives.a]\nkind = "latency"\ntarget = 0.99\n'
        + '[objectives.b]\nkind = "error_rate"\ntarget = 0.99\nnetwork = "nosuch"\n'
    )
    result = run("alerts", "rules")
    assert result.exit_code == 2
    assert "objectives.a.latency_ms" in result.stderr
    assert "objectives.b.network" in result.stderr
    assert "'nosuch'" in result.stderr
