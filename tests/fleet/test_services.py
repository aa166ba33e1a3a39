"""What an order comes to: properties of `settle_order` beside the contract of all registries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import FencedError, InvalidInputError, NotFoundError
from fleet.services import (
    CheckHealth,
    CheckReport,
    Endpoint,
    GrayVerdict,
    Order,
    Registration,
    Removal,
    Renewal,
    is_visible_change,
    settle_order,
    validate_order,
)

EPOCHS = st.integers(1, 4)
TERMS = st.integers(1, 3)
ORDERS: st.SearchStrategy[Order] = st.one_of(
    st.builds(lambda epoch: Endpoint("svc", "a", f"n{epoch}", "eu", "10.0.0.1", 80, epoch), EPOCHS),
    st.builds(lambda epoch, open_: Renewal("svc", "a", epoch, open_), EPOCHS, st.integers(0, 9)),
    st.builds(
        lambda epoch, moved, term: Removal("svc", "a", epoch, "r", moved=moved, term=term),
        EPOCHS,
        st.booleans(),
        st.none() | TERMS,
    ),
    st.builds(
        lambda epoch, term, gray: GrayVerdict("svc", "a", epoch, term, gray=gray, reason="g"),
        EPOCHS,
        TERMS,
        st.booleans(),
    ),
    st.builds(
        lambda epoch, health: CheckReport("svc", "a", epoch, health, "c"),
        EPOCHS,
        st.sampled_from(CheckHealth),
    ),
)


def settled(stored: Registration | None, order: Order) -> Registration | None:
    """What is held afterwards; a refusal changes nothing."""
    try:
        return settle_order(stored, order)
    except (FencedError, NotFoundError):
        return stored


@given(st.lists(ORDERS, max_size=30))
def test_epochs_terms_and_renewals_only_rise(orders: list[Order]) -> None:
    """Whatever is ordered in whatever order."""
    held: Registration | None = None
    for order in orders:
        after = settled(held, order)
        if held is not None:
            assert after is not None
            assert after.endpoint.epoch >= held.endpoint.epoch
            assert after.term >= held.term
            assert after.renewals >= held.renewals
        held = after


@given(st.lists(ORDERS, max_size=20), ORDERS)
def test_the_same_order_twice_changes_nothing_that_readers_see(
    orders: list[Order], last: Order
) -> None:
    """Retries are harmless."""
    held: Registration | None = None
    for order in orders:
        held = settled(held, order)
    once = settled(held, last)
    twice = settled(once, last)
    assert once is None or twice is None or not is_visible_change(once, twice)


@given(st.lists(ORDERS, max_size=20), EPOCHS)
def test_after_a_move_no_copy_of_that_epoch_comes_back(orders: list[Order], epoch: int) -> None:
    """Once the removal is accepted, only higher epochs are ever present."""
    held = settled(None, Removal("svc", "a", epoch, "moved", moved=True, term=9))
    for order in orders:
        held = settled(held, order)
        assert held is not None
        assert not held.present or held.endpoint.epoch > epoch


@given(st.lists(ORDERS, max_size=30))
def test_only_a_removal_takes_an_entry_out(orders: list[Order]) -> None:
    """No verdict, check or silence does."""
    held: Registration | None = None
    for order in orders:
        after = settled(held, order)
        if held is not None and held.present and after is not None and not after.present:
            assert isinstance(order, Removal)
            assert order.epoch >= held.endpoint.epoch
        held = after


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (Endpoint("s/x", "a", "n", "eu", "::1", 1, 1), "service"),
        (Endpoint("s", "", "n", "eu", "::1", 1, 1), "agent_id"),
        (Endpoint("s", "a", "n/", "eu", "::1", 1, 1), "node_id"),
        (Endpoint("s", "a", "n", "e u", "::1", 1, 1), "region"),
        (Endpoint("s", "a", "n", "eu", "-x", 1, 1), "address"),
        (Endpoint("s", "a", "n", "eu", "::1", 65536, 1), "port"),
        (Endpoint("s", "a", "n", "eu", "::1", 1, 1, 0), "capacity"),
        (Endpoint("s", "a", "n", "eu", "::1", 1, 1, 1, "/a b"), "check_path"),
        (Renewal("s", "a", 0), "epoch"),
        (Renewal("s", "a", 1, -1), "connections"),
        (Removal("s", "a", 1, "nul\x00"), "reason"),
    ],
)
def test_a_senseless_order_names_its_field(order: Order, field: str) -> None:
    """One error, one field."""
    with pytest.raises(InvalidInputError) as caught:
        validate_order(order)
    assert caught.value.field == field


def test_addresses_are_ip_addresses_or_host_names() -> None:
    """Both families, and names with dots."""
    for address in ("127.0.0.1", "::1", "2001:db8::7", "node-1.eu.example", "localhost"):
        validate_order(Endpoint("s", "a", "n", "eu", address, 1, 1, 1, "/health?deep=1"))
