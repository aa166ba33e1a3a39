"""SQLite keeps any value in any column: what is no number or no text damages its own row alone."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fleet.leases import RESCALING_LEASE
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.standing import ScaleChange, ScalingStanding
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
from tests.servers.empty_stores import sqlite_url

CUT = b'{"version":1\xc3'
"""Text of which a byte was lost: no UTF-8, so that SQLite's own driver refuses to read it."""


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("state_json", CUT, "its state is no text"),
        ("pending_json", CUT, "its pending change is no text"),
        ("scales", "many", "its number of changes is 'many'"),
        ("scales", 1.5, "its number of changes is 1.5"),
        ("term", b"\x00", "its term is b'\\x00'"),
        ("decided_at", "yesterday", "its last look is 'yesterday'"),
        ("state_json", b"\xff", "its state is no text but of the type bytes"),
        ("pending_json", b"\xff", "its pending change is no text but of the type bytes"),
    ],
)
def test_a_value_of_another_kind_damages_its_row_alone(
    tmp_path: Path, column: str, value: object, said: str
) -> None:
    """It is told, others of the same workload are scaled, and it can be forgotten."""
    url = sqlite_url(tmp_path, "control.db")
    with closing(open_control_store(url, clock=ManualClock())) as store:
        term = store.acquire_lease(RESCALING_LEASE, "me", 60.0).term
        state = AutoscalerState(seen=True)
        for region in ("eu", "us"):
            made = ScaleChange("chat", region, 0, (), (), state, "why")
            assert store.apply_scales([made], term=term)[0].made
        kind = "CAST(? AS TEXT)" if value is CUT else "?"
        with closing(sqlite3.connect(tmp_path / "control.db")) as side, side:
            side.execute(
                f"UPDATE scaling_standings SET {column} = {kind} WHERE region = 'eu'", (value,)
            )
        damaged, whole = store.scaling_standings()
        assert isinstance(damaged, DamagedStanding)
        assert said in damaged.damage
        assert isinstance(whole, ScalingStanding)
        again = ScaleChange("chat", "us", 1, (), (), state, "why")
        assert store.apply_scales([again], term=term)[0].made
        assert store.scaling_standings()[0] == damaged
        store.forget_scaling([("chat", "eu")], "ann", "why")
        assert store.scaling_standings()[0] == ScalingStanding("chat", "eu", AutoscalerState(), 2)
        told = json.loads(store.journal("scaling/chat/eu")[-1].detail)
        assert told[column] == (value if isinstance(value, str | float) else repr(value))
