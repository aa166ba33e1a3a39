"""A view names what matters, and counts what it cannot name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet import controller_view
from fleet.controller_view import (
    ControllerView,
    KeptView,
    decode_view,
    doubted_nodes,
    encode_view,
    take_view,
)
from fleet.failover.columns import node_columns
from fleet.failover.records import (
    ControllerState,
    Decision,
    Evidence,
    FailoverState,
    LeaderFacts,
    NodeMark,
    NodeState,
)
from fleet.node_beats import NodeBeat
from fleet.node_health import UNLISTED, join_health, total_health

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def view_of(states: dict[str, NodeState]) -> ControllerView:
    """The view of a fleet whose nodes are held to be this."""
    evidence = Evidence(
        at=AT,
        clock_id="host/1",
        nodes=node_columns((), ()),
        leader=LeaderFacts(held=True, term=1, left_s=9.0, renewed=True),
    )
    state = FailoverState(
        tick_s=0.0, nodes={name: NodeMark(name, state) for name, state in states.items()}
    )
    return take_view(evidence, Decision(state, (), (), (), ControllerState.ACTIVE))


def test_a_view_of_a_fleet_in_ruins_stays_small_and_counts_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deaths are named before marks, each group by name; the text does not grow further."""
    monkeypatch.setattr(controller_view, "NODES_MAX", 3)
    states = {f"s{n}": NodeState.SUSPECT for n in range(4)}
    states |= {"z": NodeState.CONFIRMED, "y": NodeState.MAINTENANCE}
    view = view_of(states)
    assert [one.node_id for one in view.nodes] == ["s0", "s1", "z"]
    assert view.nodes_left_out == ((NodeState.MAINTENANCE, 1), (NodeState.SUSPECT, 2))
    assert decode_view(encode_view(view)) == view
    assert doubted_nodes(view) == ("s0", "s1", "z")


def test_a_view_of_one_hundred_thousand_lost_nodes_fits_a_row() -> None:
    """Named are at most `NODES_MAX`; every node is counted once."""
    view = view_of({f"node-{n:06}": NodeState.SUSPECT for n in range(100_000)})
    assert len(view.nodes) == controller_view.NODES_MAX
    assert view.nodes_left_out == ((NodeState.SUSPECT, 100_000 - controller_view.NODES_MAX),)
    assert len(encode_view(view)) < 500_000


def test_what_a_cut_view_does_not_name_is_not_called_healthy() -> None:
    """It may be any of those that were left out."""
    whole = view_of({"a": NodeState.SUSPECT})
    cut = whole._replace(nodes_left_out=((NodeState.SUSPECT, 1),))
    beats = [NodeBeat(name, "boot", 1, 0, "boot", 1, 1, 2, 5.0) for name in ("a", "b")]
    regions = {"a": "eu", "b": "eu"}

    def states(view: ControllerView) -> list[str]:
        return [row.state for row in join_health(beats, regions, KeptView(view, AT), AT)]

    assert states(whole) == ["suspect", "healthy"]
    assert states(cut) == ["suspect", UNLISTED]
    rows = join_health(beats, regions, KeptView(cut, AT), AT)
    assert total_health(rows)[f"nodes_{UNLISTED}"] == 1


def test_a_view_that_an_earlier_version_wrote_is_read() -> None:
    """It left nothing out."""
    view = view_of({"a": NodeState.SUSPECT})
    text = encode_view(view).replace(',"nodes_left_out":[]', "")
    assert "nodes_left_out" not in text
    assert decode_view(text) == view


def test_a_new_count_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the named nodes stay the same."""
    monkeypatch.setattr(controller_view, "NODES_MAX", 1)
    one = view_of({"a": NodeState.SUSPECT, "b": NodeState.SUSPECT})
    two = view_of({"a": NodeState.SUSPECT, "b": NodeState.SUSPECT, "c": NodeState.SUSPECT})
    assert one.nodes == two.nodes
    assert one.standing != two.standing
