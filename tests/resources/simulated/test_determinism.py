"""Same seed, script and calls: the same history to the byte, however and wherever it is played."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.faults import random_fault_script
from resources.simulated.cluster import SimulatedCluster
from tests.examples import examples
from tests.resources.simulated.fleets import dealt_fleet

REPOSITORY = Path(__file__).resolve().parents[3]
DURATION_S = 7_200


def eventful(seed: int) -> SimulatedCluster:
    """Six nodes, thirty agents that crash often, forty faults in two hours."""
    script = random_fault_script(
        Random(seed),
        node_ids=[f"node-{n}" for n in range(6)],
        regions=["eu-central-1"],
        duration_s=DURATION_S,
        faults=40,
        region_probability=0.2,
    )
    return dealt_fleet(6, 30, faults=script, seed=seed, agent_crashes_per_day=50.0)


def fingerprint(cluster: SimulatedCluster) -> str:
    """One digest over the history and over everything visible."""
    seen = [cluster.snapshot(region) for region in cluster.regions()]
    text = f"{cluster.truth.digest()} {seen} {cluster.reports()} {cluster.watch('0', 0.0)}"
    return hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=examples(25))
@given(st.integers(0, 2**32), st.lists(st.integers(0, DURATION_S * 10), max_size=20))
def test_slicing_and_looking_change_nothing(seed: int, looks: list[int]) -> None:
    """One advance equals any number of advances with looks between them."""
    whole = eventful(seed)
    whole.advance(DURATION_S)
    sliced = eventful(seed)
    at = 0
    for look in sorted(looks):
        sliced.advance((look - at) / 10)
        at = look
        fingerprint(sliced)
    sliced.advance((DURATION_S * 10 - at) / 10)
    assert fingerprint(sliced) == fingerprint(whole)


def test_a_minute_at_once_equals_sixty_seconds() -> None:
    """The plain form of the guarantee, at every one of sixty ends of a minute."""
    seconds, minutes = eventful(7), eventful(7)
    for _ in range(60):
        minutes.advance(60)
        for _ in range(60):
            seconds.advance(1)
        assert fingerprint(seconds) == fingerprint(minutes)


def test_another_seed_gives_another_history() -> None:
    """The digest does depend on what happened."""
    digests = set()
    for seed in range(5):
        cluster = eventful(seed)
        cluster.advance(600)
        digests.add(cluster.truth.digest())
    assert len(digests) == 5


def test_advancing_the_clock_alone_is_enough() -> None:
    """Whoever shares the clock may advance it; the cluster catches up at the next call."""
    by_clock, by_cluster = eventful(3), eventful(3)
    by_clock.clock.advance(5_000)
    by_cluster.advance(5_000)
    assert fingerprint(by_clock) == fingerprint(by_cluster)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_the_hash_seed_of_the_interpreter_has_no_say(hash_seed: str) -> None:
    """A process with another PYTHONHASHSEED gets the same bytes."""
    code = (
        "from tests.resources.simulated.test_determinism import *\n"
        f"c = eventful(11); c.advance({DURATION_S}); print(fingerprint(c))"
    )
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    here = eventful(11)
    here.advance(DURATION_S)
    assert child.stdout.strip() == fingerprint(here)
