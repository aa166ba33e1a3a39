"""Requests go to the replica with the fewest open connections for its weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, NotFoundError
from fleet.placement.least_connections import LeastConnections


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), min_size=1),
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60),
)
def test_each_request_goes_to_a_replica_that_none_is_below(
    weights: dict[str, int], steps: list[tuple[bool, int]]
) -> None:
    """Against looking at all of them; drained ones get nothing."""
    router, running = LeastConnections(weights), list[str]()
    for begins, which in steps:
        if begins:
            loads = {n: running.count(n) / w for n, w in weights.items() if w}
            chosen = router.begin()
            assert (chosen is None) == (not loads)
            if chosen is not None:
                assert loads[chosen] == min(loads.values())
                running.append(chosen)
        elif running:
            router.end(running.pop(which % len(running)))
    assert all(router.open_connections(n) == running.count(n) for n in weights)


def test_idle_replicas_take_turns_and_newcomers_owe_nothing() -> None:
    """One request at a time over two, then over three."""
    router = LeastConnections({"a": 1, "b": 1})
    said = []
    for _ in range(4):
        name = router.begin()
        assert name is not None
        said.append(name)
        router.end(name)
    assert said == ["a", "b", "a", "b"]
    router.set_weights({"a": 1, "b": 1, "c": 1})
    assert [router.begin() for _ in range(3)] == ["a", "b", "c"]


def test_a_replica_that_is_drained_or_gone_keeps_or_loses_what_it_had() -> None:
    """Ends of its requests are taken; what cannot be is refused."""
    router = LeastConnections({"a": 1, "b": 1})
    assert [router.begin(), router.begin()] == ["a", "b"]
    router.set_weights({"a": 0})
    router.end("a")
    router.end("b")
    assert router.begin() is None
    router.set_weights({"a": 1, "b": 0})
    for _ in range(300):
        assert router.begin() == "a"
        router.end("a")
    with pytest.raises(InvalidInputError, match="open connection"):
        router.end("a")
    with pytest.raises(NotFoundError, match="no replica c"):
        router.open_connections("c")
    with pytest.raises(InvalidInputError, match="weight of a"):
        router.set_weights({"a": -1})
