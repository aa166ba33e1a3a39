"""Targets: their checks, their labels against those of series, and when each is due."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.inventory import Node, NodePhase
from fleet.metrics.labels import labels_of
from fleet.metrics.scrape_schedule import ScrapeSchedule
from fleet.metrics.targets import (
    Endpoint,
    ScrapeTarget,
    check_distinct,
    endpoint_of,
    make_target,
    next_due_ms,
    offset_ms,
    targets_of_document,
    targets_of_nodes,
    with_target_labels,
)

URL = "http://127.0.0.1:9100/metrics"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        (URL, Endpoint("127.0.0.1", 9100, "", "/metrics")),
        ("http://host", Endpoint("host", 80, "", "/")),
        ("http://[::1]:9/m?a=b&c", Endpoint("::1", 9, "", "/m?a=b&c")),
        ("unix:/run/a:b.sock:/m?x", Endpoint("localhost", 80, "/run/a:b.sock", "/m?x")),
    ],
)
def test_a_url_says_where_a_target_listens(url: str, endpoint: Endpoint) -> None:
    """TCP and unix sockets."""
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:9100",
        "https://host/metrics",
        "http://user:secret@host/",
        "http://host:port/",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://host/#x",
        "http:///metrics",
        "unix:run.sock:/m",
        "unix:/run.sock",
        "http://hüst/",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """Nothing that could become another request."""
    with pytest.raises(InvalidInputError, match="url"):
        make_target(url, job="x")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"job": ""}, "job"),
        ({"labels": {"job": "x"}}, "labels"),
        ({"labels": {"1": "x"}}, "labels"),
        ({"labels": {"__name__": "x"}}, "labels"),
        ({"labels": {"a": "x" * 20_000}}, "labels"),
        ({"interval_s": 0.01}, "interval_s"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"samples_max": 0}, "samples_max"),
    ],
)
def test_a_target_with_a_wrong_part_is_refused(change: dict[str, Any], field: str) -> None:
    """The error names it."""
    with pytest.raises(InvalidInputError) as caught:
        make_target(**({"url": URL, "job": "x"} | change))
    assert caught.value.field == field


def test_a_target_is_named_by_its_address_and_never_waits_longer_than_its_interval() -> None:
    """Defaults that follow from other parts."""
    target = make_target(URL, job="x", interval_s=5, labels={"b": "2", "a": "", "c": "3"})
    assert (target.instance, target.timeout_ms) == ("127.0.0.1:9100", 5000)
    assert target.identity == (("b", "2"), ("c", "3"), ("instance", "127.0.0.1:9100"), ("job", "x"))
    assert make_target("unix:/a.sock:/m", job="x").instance == "/a.sock"


def test_two_targets_with_the_same_labels_are_refused() -> None:
    """Their series would be one."""
    first = make_target(URL, job="x", instance="a")
    with pytest.raises(InvalidInputError, match=r"9200.*9100"):
        check_distinct([first, make_target("http://127.0.0.1:9200/", job="x", instance="a")])
    check_distinct([first, make_target(URL, job="x", instance="b")])


def test_targets_are_read_from_a_document() -> None:
    """Tables with the parts as keys."""
    rows: list[dict[str, Any]] = [
        {"url": URL, "job": "a"},
        {"url": URL, "job": "b", "labels": {"x": "y"}, "interval_s": 30, "samples_max": 5},
    ]
    found = targets_of_document(rows)
    assert [one.job for one in found] == ["a", "b"]
    assert found[1].labels == (("x", "y"),)
    assert (found[1].interval_ms, found[1].samples_max) == (30_000, 5)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"job": "x"}, "url"),
        ({"url": URL, "job": 1}, "job"),
        ({"url": URL, "job": "x", "more": 1}, "target"),
        ({"url": URL, "job": "x", "labels": ["a"]}, "labels"),
        ({"url": URL, "job": "x", "labels": {"a": 1}}, "a"),
        ({"url": URL, "job": "x", "interval_s": "1"}, "interval_s"),
        ({"url": URL, "job": "x", "timeout_s": True}, "timeout_s"),
        ({"url": URL, "job": "x", "samples_max": 1.5}, "samples_max"),
    ],
)
def test_a_wrong_key_of_a_document_is_named(row: dict[str, Any], field: str) -> None:
    """Missing, unknown or of another type."""
    with pytest.raises(InvalidInputError) as caught:
        targets_of_document([row])
    assert caught.value.field == field


def node(name: str, phase: NodePhase = NodePhase.RUNNING, address: str | None = "h:1") -> Node:
    """A node with what discovery reads."""
    return Node(
        node_id=name,
        region="eu",
        zone="eu-a",
        phase=phase,
        cpu_milli=1,
        memory_bytes=1,
        bandwidth_bps=0,
        gpu_count=0,
        gpu_memory_bytes=0,
        address=address,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_nodes_that_run_become_targets_named_after_them() -> None:
    """By name; others have no endpoint to ask."""
    nodes = [
        node("n2"),
        node("n1", address="127.0.0.1:5000"),
        node("n3", NodePhase.TERMINATED),
        node("n4", address=None),
    ]
    found = targets_of_nodes(nodes)
    assert [one.instance for one in found] == ["n1", "n2"]
    assert found[0].url == "http://127.0.0.1:5000/metrics"
    assert found[0].labels == (("zone", "eu-a"),)
    both = targets_of_nodes(nodes, job="x", labels=("node", "region", "gpu_model"))
    assert both[0].labels == (("node", "n1"), ("region", "eu"))
    with pytest.raises(InvalidInputError, match="labels"):
        targets_of_nodes(nodes, labels=("color",))


def test_labels_of_the_series_give_way_to_those_of_the_target() -> None:
    """They move to `exported_`, and further where that is taken; empty ones vanish."""
    target = (("job", "t"), ("instance", "i"))
    moved = with_target_labels("m", [("job", "mine"), ("x", "1"), ("instance", "")], target)
    assert moved == (
        ("__name__", "m"),
        ("exported_job", "mine"),
        ("instance", "i"),
        ("job", "t"),
        ("x", "1"),
    )
    far = with_target_labels("m", [("job", "a"), ("exported_job", "b")], target)
    assert dict(far)["exported_exported_job"] == "a"
    assert dict(far)["exported_job"] == "b"
    with pytest.raises(InvalidInputError, match="once"):
        with_target_labels("m", [("job", "a"), ("job", "b")], target)


_NAMES = st.sampled_from(["a", "b", "c", "job", "instance", "exported_job", "__name__"])
_VALUES = st.text("xü", max_size=3) | st.sampled_from(["v" * 3000, "ü" * 2100, "w" * 17_000])


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=6), st.integers(0, 70))
def test_labels_that_are_joined_quickly_are_those_that_all_rules_give(
    exposed: list[tuple[str, str]], more: int
) -> None:
    """Or are refused alike; only labels that meet those of the target are moved first."""
    pairs = [*exposed, *((f"n{number}", "1") for number in range(more))]
    target = (("instance", "i"), ("job", "t"))
    if {"job", "instance"} & {name for name, _ in pairs}:
        return
    found: list[object] = []
    for work in (with_target_labels, lambda name, own, all_: labels_of(name, [*own, *all_])):
        try:
            found.append(work("m", pairs, target))
        except InvalidInputError as error:
            found.append(str(error))
    assert found[0] == found[1]


@given(st.integers(100, 100_000), st.integers(0, 2**42), st.text("abc", min_size=1))
def test_a_target_is_due_once_an_interval_at_its_offset(
    interval_ms: int, after_ms: int, job: str
) -> None:
    """After any moment, within one interval."""
    target = ScrapeTarget(URL, job, "i", interval_ms=interval_ms)
    due_ms = next_due_ms(target, after_ms)
    assert after_ms < due_ms <= after_ms + interval_ms
    assert due_ms % interval_ms == offset_ms(target)
    assert next_due_ms(target, due_ms) == due_ms + interval_ms


def test_targets_are_spread_over_their_interval() -> None:
    """A thousand of them leave no tenth of it with less than half or more than double its share."""
    targets = [make_target(URL, job="x", instance=str(n)) for n in range(1000)]
    tenths = Counter(offset_ms(target) * 10 // target.interval_ms for target in targets)
    assert len(tenths) == 10
    assert 50 <= min(tenths.values()) <= max(tenths.values()) <= 200


def scheduled(*jobs: str, interval_s: float = 10.0) -> list[ScrapeTarget]:
    """Targets of these jobs."""
    return [make_target(URL, job=job, interval_s=interval_s) for job in jobs]


def test_every_target_is_taken_once_an_interval() -> None:
    """Whatever the steps in which time passes, and never before its time."""
    schedule = ScrapeSchedule()
    targets = scheduled("a", "b", "c")
    schedule.replace(targets, 0)
    taken: Counter[str] = Counter()
    for now_ms in range(0, 100_001, 777):
        for due in schedule.take_due(now_ms):
            assert now_ms - 777 < due.due_ms <= now_ms
            taken[due.target.job] += 1
        next_ms = schedule.next_due_ms()
        assert next_ms is not None
        assert next_ms > now_ms
    assert all(9 <= count <= 11 for count in taken.values())
    assert len(taken) == 3


def test_missed_times_are_left_out() -> None:
    """After a pause each target is due once, at the last time that it was."""
    schedule = ScrapeSchedule()
    schedule.replace(scheduled("a", "b"), 0)
    due = schedule.take_due(1_000_000)
    assert sorted(one.target.job for one in due) == ["a", "b"]
    assert all(990_000 < one.due_ms <= 1_000_000 for one in due)
    assert schedule.take_due(1_000_000) == []


def test_a_clock_that_was_set_back_does_not_stop_scraping() -> None:
    """All targets begin anew from the time that it shows."""
    schedule = ScrapeSchedule()
    schedule.replace(scheduled("a", "b"), 10_000_000)
    assert schedule.take_due(5_000_000) == []
    assert len(schedule.take_due(5_010_000)) == 2


def test_targets_can_be_replaced() -> None:
    """Those that stay keep their time, those that go are told and never due again."""
    schedule = ScrapeSchedule()
    a, b, c = scheduled("a", "b", "c")
    assert schedule.replace([a, b], 0) == []
    assert schedule.replace([b, c], 0) == [a]
    assert schedule.targets == [b, c]
    assert {one.target.job for one in schedule.take_due(10_000)} == {"b", "c"}
    with pytest.raises(InvalidInputError):
        schedule.replace([a, a._replace(url="http://other/")], 0)
    assert schedule.targets == [b, c]
    assert schedule.replace([], 0) == [b, c]
    assert schedule.take_due(10**9) == []
    schedule.replace([b], 10**9)
    assert len(schedule.take_due(10**9 + 10_000)) == 1
