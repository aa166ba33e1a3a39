"""The dashboards: what they ask exists, and Grafana can show them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as grafana

from fleet.metrics.catalogue import BY_SERIES

ROOT = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted(ROOT.glob("*.json"))
ADDED = {"job", "instance", "le", "zone"}


def load(path: Path) -> dict[str, Any]:
    """A dashboard."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Panel and PromQL, with Grafana's own variables filled in."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], re.sub(r"\$\w+", ".*", expr)


def selectors(tree: Any) -> Iterator[Any]:
    """Every selector of an expression."""
    match tree:
        case promql.VectorSelector():
            yield tree
        case promql.MatrixSelector():
            yield tree.vector_selector
        case promql.BinaryExpr():
            yield from selectors(tree.lhs)
            yield from selectors(tree.rhs)
        case promql.Call():
            for argument in tree.args:
                yield from selectors(argument)
        case promql.AggregateExpr() | promql.ParenExpr() | promql.UnaryExpr():
            yield from selectors(tree.expr)
        case _:
            assert isinstance(tree, promql.NumberLiteral | promql.StringLiteral), type(tree)


def test_the_six_dashboards_are_there() -> None:
    """And nothing else that Grafana would import."""
    names = {path.stem for path in FILES}
    assert names == {"fleet", "agents", "gpus", "backups", "automation", "vectors"}


def test_each_file_is_what_the_builder_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit by hand would be lost with the next build."""
    monkeypatch.syspath_prepend(ROOT)
    path = ROOT / "build_dashboards.py"
    spec = importlib.util.spec_from_file_location("build_dashboards", path)
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    for dashboard in builder.DASHBOARDS:
        assert (ROOT / f"{dashboard.name}.json").read_text() == builder.text(dashboard)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_query_parses_and_asks_for_what_is_exported(path: Path) -> None:
    """A panel on a metric that nobody exports is empty for ever, and looks like peace."""
    for title, expr in expressions(load(path)):
        tree = promql.parse(expr)
        known = set(ADDED)
        for one in selectors(tree):
            if one.name == "up":
                continue
            known |= set(BY_SERIES[one.name].labels)
            asked = {matcher.name for matcher in one.matchers.matchers}
            assert asked <= {*BY_SERIES[one.name].labels, *ADDED}, (title, one.name)
        grouped = re.findall(r"\bby\s*\(([^)]*)\)", expr)
        labels = {label.strip() for text in grouped for label in text.split(",")}
        assert labels <= known, (title, labels - known)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_legends_name_labels_that_the_result_has(path: Path) -> None:
    """A legend of a label that was summed away is empty."""
    for panel in load(path)["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.findall(r"\bby\s*\(([^)]*)\)", target["expr"])
            if grouped:
                sets = [{one.strip() for one in text.split(",")} for text in grouped]
                assert named <= set.intersection(*sets), panel["title"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_lie_in_the_grid_without_touching_each_other(path: Path) -> None:
    """Ids are unique, nothing is wider than the page."""
    panels = load(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_uids_are_unique_and_short_enough() -> None:
    """Grafana takes at most 40 characters."""
    uids = [load(path)["uid"] for path in FILES]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 for uid in uids)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_variables_are_declared_and_panels_use_the_chosen_source(path: Path) -> None:
    """No panel is bound to the source of whoever made it."""
    dashboard = load(path)
    declared = {one["name"] for one in dashboard["templating"]["list"]}
    text = json.dumps(dashboard["panels"])
    used = set(re.findall(r"\$\{?(\w+)\}?", text)) - {"__rate_interval"}
    assert used <= declared
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafanas_own_types_take_each_dashboard(path: Path) -> None:
    """Read into the published schema and written again, nothing of a panel is lost."""
    dashboard = load(path)
    model = grafana.Dashboard.from_json(dashboard)
    again = json.loads(JSONEncoder(sort_keys=True).encode(model))
    assert again["uid"] == dashboard["uid"]
    assert [panel["title"] for panel in again["panels"]] == [
        panel["title"] for panel in dashboard["panels"]
    ]
    for before, after in zip(dashboard["panels"], again["panels"], strict=True):
        assert after["gridPos"] == before["gridPos"]
        assert [one["expr"] for one in after["targets"]] == [
            one["expr"] for one in before["targets"]
        ]
