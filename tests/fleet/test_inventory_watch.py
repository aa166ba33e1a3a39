"""The inventory is taken when the fleet changes, not when it merely lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, NodeUnavailableError
from fleet.heartbeats import HeartbeatPolicy
from fleet.inventory import Node, NodePhase
from fleet.inventory_watch import (
    InventoryRunVerdict,
    PollPolicy,
    RegionLook,
    WatchCursor,
    WatchPolicy,
    decide_inventory_run,
    decode_cursor,
    encode_cursor,
    look_at_region,
    plan_next_look,
    unreadable_look,
)
from tests.fleet.inventory_records import NODES, NOW, a_node

HEARTBEATS = HeartbeatPolicy(late_s=5.0, lost_s=10.0)
POLICY = WatchPolicy(agents_pause_s=30.0)


def look(*nodes: Node, at: datetime = NOW) -> RegionLook:
    """A look at the given nodes."""
    return look_at_region(nodes, at, HEARTBEATS)


def decide(
    before: RegionLook, after: RegionLook, at: datetime = NOW, asked_s_ago: float = 60.0
) -> InventoryRunVerdict:
    """The verdict between two looks at the region `us`."""
    cursor = WatchCursor(at - timedelta(seconds=asked_s_ago), {"us": before})
    return decide_inventory_run(cursor, {"us": after}, at, POLICY)


@given(st.lists(NODES, max_size=6), st.randoms())
def test_the_digest_does_not_depend_on_the_order_of_the_nodes(
    nodes: list[Node], random: Random
) -> None:
    """Sorting is the digest's business, not the store's."""
    shuffled = list(nodes)
    random.shuffle(shuffled)
    assert look(*nodes) == look(*shuffled)


@given(st.lists(NODES, max_size=6))
def test_an_unchanged_fleet_requests_nothing(nodes: list[Node]) -> None:
    """The same look twice is no change."""
    verdict = decide(look(*nodes), look(*nodes))
    assert verdict == ((), "no change in 1 regions")


@pytest.mark.parametrize(
    "changed",
    [
        a_node(phase=NodePhase.TERMINATED),
        a_node(boot_id="boot-2"),
        a_node(heartbeat_at=NOW - timedelta(seconds=5)),
        a_node("n2"),
    ],
)
def test_a_changed_node_requests_a_run_at_once(changed: Node) -> None:
    """Phase, boot, readiness and membership: none waits, however recent the last run."""
    assert decide(look(a_node()), look(changed), asked_s_ago=0.1).groups == (("us",),)
    assert decide(look(a_node()), look(), asked_s_ago=0.1).groups == (("us",),)


def test_a_heartbeat_alone_is_no_change() -> None:
    """Live nodes renew their heartbeat all the time."""
    later = NOW + timedelta(seconds=60)
    beating = a_node(heartbeat_at=later, cpu_percent=99.0)
    assert decide(look(a_node()), look(beating, at=later)).groups == ()


def test_changes_among_agents_wait_for_the_pause() -> None:
    """A busy fleet gets one run in each pause; the reason says how long it still waits."""
    before, after = look(a_node(agents_running=1)), look(a_node(agents_running=2))
    waiting = decide(before, after, asked_s_ago=10.0)
    assert waiting.groups == ()
    assert waiting.reason == (
        "only agents changed, 20 s to wait: "
        "us: 1 ready, 1 agents running -> 1 ready, 2 agents running"
    )
    assert decide(before, after, asked_s_ago=30.0).groups == (("us",),)


def test_a_clock_that_went_back_does_not_prolong_the_pause() -> None:
    """A request from the future counts as long ago."""
    before, after = look(a_node(agents_running=1)), look(a_node(agents_running=2))
    assert decide(before, after, asked_s_ago=-3600.0).groups == (("us",),)


def test_the_first_look_requests_one_run_of_all_regions() -> None:
    """Without a cursor there is no inventory to rely on."""
    verdict = decide_inventory_run(None, {"us": look(), "eu": look()}, NOW, POLICY)
    assert verdict == ((("eu", "us"),), "first look at the fleet")


def test_an_unreadable_region_gets_a_run_of_its_own_and_so_does_every_other() -> None:
    """Its failure must not take the inventory of the others along."""
    before = WatchCursor(NOW, {"us": look(a_node()), "eu": look()})
    broken = unreadable_look(NodeUnavailableError("no answer"))
    verdict = decide_inventory_run(before, {"us": broken, "eu": look()}, NOW, POLICY)
    assert verdict.groups == (("eu",), ("us",))
    assert verdict.reason == "us: 1 ready -> unreadable (NodeUnavailableError)"
    still = WatchCursor(NOW, {"us": broken, "eu": look()})
    assert decide_inventory_run(still, {"us": broken, "eu": look()}, NOW, POLICY).groups == ()
    healed = decide_inventory_run(still, {"us": look(a_node()), "eu": look()}, NOW, POLICY)
    assert healed.groups == (("eu", "us"),)


def test_regions_that_come_and_go_are_changes() -> None:
    """A region added to or dropped from the settings is inventoried at once."""
    before = WatchCursor(NOW, {"us": look(a_node())})
    verdict = decide_inventory_run(before, {"eu": look()}, NOW, POLICY)
    assert verdict.groups == (("eu",),)
    assert verdict.reason == "eu: not known -> empty; us: 1 ready -> no longer declared"


def test_a_replaced_node_is_named_as_such() -> None:
    """Equal counts, other nodes."""
    assert decide(look(a_node("n1")), look(a_node("n2"))).reason == "us: nodes replaced"


@given(st.dictionaries(st.text(max_size=9), st.lists(NODES, max_size=3), max_size=4))
def test_a_cursor_survives_writing_and_reading(fleet: dict[str, list[Node]]) -> None:
    """Any region name and any look."""
    looks = {region: look(*nodes) for region, nodes in fleet.items()}
    cursor = WatchCursor(NOW, {**looks, "x": unreadable_look(OSError())})
    assert decode_cursor(encode_cursor(cursor)) == cursor


def test_the_cursor_of_a_large_fleet_stays_small() -> None:
    """20 regions of 500 nodes: under 2 KB, whatever the number of nodes."""
    region = look(*(a_node(f"n{i}", agents_running=10) for i in range(500)))
    cursor = WatchCursor(NOW, {f"region-{i}": region for i in range(20)})
    assert len(encode_cursor(cursor)) < 2048


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"requested_at": "2026-01-02T03:04:05", "looks": {}}',
        '{"requested_at": "x", "looks": {}}',
        '{"requested_at": "2026-01-02T03:04:05+00:00", "looks": {"us": [1, 2]}}',
        '{"requested_at": "2026-01-02T03:04:05+00:00", "looks": {"us": ["", 1,2,3,4,5,6.5,""]}}',
        '{"requested_at": "2026-01-02T03:04:05+00:00", "looks": {"us": 1}}',
        '{"requested_at": 1, "looks": {}}',
    ],
)
def test_a_cursor_of_another_version_counts_as_none(text: str | None) -> None:
    """It costs one run, never a sensor that fails for ever."""
    assert decode_cursor(text) is None


def test_a_negative_pause_is_refused() -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError, match="agents_pause_s"):
        WatchPolicy(agents_pause_s=-1.0)


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_a_look_costs_a_small_share_of_the_time_and_is_over_in_time(
    elapsed_s: float, look_s: float
) -> None:
    """However slow the store is; the pause is never shorter than the interval."""
    policy = PollPolicy(span_s=4.0, interval_s=0.25, pause_ratio=5.0)
    pause_s = plan_next_look(elapsed_s, look_s, policy)
    if pause_s is None:
        assert elapsed_s + max(0.25, 5.0 * look_s) + look_s > 4.0
    else:
        assert pause_s >= 0.25
        assert look_s <= pause_s / 5.0
        assert elapsed_s + pause_s + look_s <= 4.0


@pytest.mark.parametrize("name", ["span_s", "interval_s", "pause_ratio"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_poll_that_never_looks_or_never_rests_is_refused(name: str, value: float) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError, match=name):
        PollPolicy(**{name: value})
