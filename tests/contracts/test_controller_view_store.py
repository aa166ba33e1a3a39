"""Contract of `ControllerViewStore`: the fake, SQLite and PostgreSQL keep one view alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleet.controller_view import ControllerView, WatchedNode, WatchedRegion
from fleet.errors import LeaseLostError
from fleet.failover.records import ControllerState, NodeState, RegionState
from tests.contracts.store_harness import StoreHarness

AT = datetime(2026, 3, 1, 11, 59, 58, 123457, tzinfo=UTC)
NODE = WatchedNode("eu-1", NodeState.SUSPECT, AT, "node-eu-1-x", 3.25, None, 0.0, 4, 3, 1)
REGION = WatchedRegion("eu", RegionState.PARTIAL, AT, "")
VIEW = ControllerView(
    "host/1/ab",
    3,
    AT,
    ControllerState.FROZEN,
    ("mass_loss",),
    5,
    4,
    'anna: "é"',
    (NODE,),
    (REGION,),
)


class TestControllerView:
    """One view, the newest of the highest term."""

    def test_a_view_comes_back_as_it_was_told(self, harness: StoreHarness) -> None:
        """With the moment of the store's clock."""
        harness.clear()
        assert harness.store.controller_view() is None
        harness.store.keep_controller_view(VIEW)
        kept = harness.store.controller_view()
        assert kept is not None
        assert kept.view == VIEW
        assert kept.kept_at.tzinfo is not None

    def test_the_newest_view_replaces_the_one_before(self, harness: StoreHarness) -> None:
        """Also of a higher term; the moment rises."""
        harness.clear()
        harness.store.keep_controller_view(VIEW)
        first = harness.store.controller_view()
        harness.advance(2.0)
        for term in (3, 4):
            newer = VIEW._replace(term=term, nodes=(), looked_at=AT + timedelta(seconds=term))
            harness.store.keep_controller_view(newer)
            kept = harness.store.controller_view()
            assert kept is not None
            assert first is not None
            assert kept.view == newer
            assert kept.kept_at >= first.kept_at

    def test_a_controller_that_was_followed_tells_nothing(self, harness: StoreHarness) -> None:
        """A lower term is refused and changes nothing."""
        harness.clear()
        harness.store.keep_controller_view(VIEW)
        with pytest.raises(LeaseLostError):
            harness.store.keep_controller_view(VIEW._replace(term=2, nodes=()))
        kept = harness.store.controller_view()
        assert kept is not None
        assert kept.view == VIEW
