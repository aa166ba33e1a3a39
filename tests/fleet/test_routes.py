"""Weights, and the tables that balancers are given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, StaleEpochError
from fleet.routes import Backend, RouteTable, judge_table, plan_routes, validate_tables
from fleet.service_health import ServicePolicy, plan_view
from fleet.service_weights import WEIGHT_MAX, capacity_weights, least_connections_weights
from fleet.services import CheckHealth, Endpoint, Registration


def entry(
    number: int, connections: int = 0, capacity: int = 1, *, failing: bool = False
) -> Registration:
    """An entry with a load."""
    endpoint = Endpoint("svc", f"a{number}", "n", "eu", "10.0.0.1", 80 + number, 1, capacity)
    health = CheckHealth.FAILING if failing else CheckHealth.PASSING
    return Registration(endpoint, connections=connections, health=health)


def test_capacities_share_the_weights() -> None:
    """The largest has 255; whoever fails its checks 1; nobody 0."""
    entries = [entry(0, capacity=4), entry(1, capacity=1), entry(2, capacity=2, failing=True)]
    assert capacity_weights(entries) == {"a0": 255, "a1": 64, "a2": 1}
    assert capacity_weights([entry(0, capacity=10**6), entry(1)])["a1"] == 1
    assert capacity_weights([]) == {}


def test_the_least_loaded_gets_the_most() -> None:
    """In inverse proportion to the load for its size."""
    entries = [entry(0, 9), entry(1, 19), entry(2, 39, capacity=4), entry(3, 0, failing=True)]
    assert least_connections_weights(entries[:3]) == {"a0": 255, "a1": 128, "a2": 255}
    assert least_connections_weights(entries)["a3"] == 1


def test_weights_go_half_of_the_way() -> None:
    """And arrive; a failing one falls at once."""
    entries = [entry(0, 0), entry(1, 9)]
    weights = {"a0": 128, "a1": 128}
    weights = least_connections_weights(entries, weights)
    assert weights == {"a0": 192, "a1": 77}
    for _ in range(9):
        weights = least_connections_weights(entries, weights)
    assert weights == {"a0": 255, "a1": 26}
    assert least_connections_weights([entry(1, 9, failing=True)], weights) == {"a1": 1}


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    st.dictionaries(st.sampled_from([f"a{n}" for n in range(30)]), st.integers(1, 255)),
)
def test_weights_are_always_ones_that_every_balancer_takes(
    shapes: list[tuple[int, int, bool]], before: dict[str, int]
) -> None:
    """1 to 255; and more connections at the same size never mean more weight."""
    entries = [entry(n, *shape[:2], failing=shape[2]) for n, shape in enumerate(shapes)]
    for weights in (
        capacity_weights(entries),
        least_connections_weights(entries),
        least_connections_weights(entries, before),
    ):
        assert all(1 <= weight <= WEIGHT_MAX for weight in weights.values())
        assert len(weights) == len(entries)
    fresh = least_connections_weights(entries)
    for one in entries:
        for other in entries:
            same = one.endpoint.capacity == other.endpoint.capacity and one.health == other.health
            if same and one.connections <= other.connections:
                assert fresh[one.endpoint.agent_id] >= fresh[other.endpoint.agent_id]


def test_a_table_names_who_is_served_with_the_revision_it_was_read_at() -> None:
    """Whoever has no weight gets the smallest."""
    view = plan_view("svc", 12, [entry(1), entry(0)], {}, ServicePolicy(), trusted=True)
    table = plan_routes(view, 3, {"a0": 200})
    assert table == RouteTable(
        "svc",
        3,
        12,
        (
            Backend("a0", "eu", "10.0.0.1", 80, 1, 200),
            Backend("a1", "eu", "10.0.0.1", 81, 1, 1),
        ),
    )
    validate_tables([table])


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3))
)
def test_of_two_tables_the_older_never_replaces_the_newer(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    """By term, then revision; an equal one may."""
    refused = judge_table(RouteTable("svc", *one, ()), other)
    assert (refused is None) == (one >= other)
    assert refused is None or isinstance(refused, StaleEpochError)
    assert judge_table(RouteTable("svc", *one, ()), None) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_id", "a/b"),
        ("region", ""),
        ("address", "10.0.0.1:80"),
        ("port", 0),
        ("epoch", 0),
        ("weight", 256),
        ("weight", 0),
    ],
)
def test_a_senseless_backend_names_its_field(field: str, value: object) -> None:
    """It would become part of a command, a file or a record."""
    backend = Backend("a", "eu", "10.0.0.1", 80, 1, 1)._replace(**{field: value})
    with pytest.raises(InvalidInputError) as caught:
        validate_tables([RouteTable("svc", 1, 1, (backend,))])
    assert caught.value.field == field


def test_a_senseless_table_names_what_is_wrong() -> None:
    """A service twice, a fence below zero, backends out of order."""
    one, other = (Backend(name, "eu", "10.0.0.1", 80, 1, 1) for name in "ab")
    for tables, text in (
        ([RouteTable("svc", 1, 1, ())] * 2, "each service once"),
        ([RouteTable("svc", 1, -1, ())], "fence"),
        ([RouteTable("svc", 1, 1, (other, one))], "ordered by agent_id"),
    ):
        with pytest.raises(InvalidInputError, match=text):
            validate_tables(tables)
