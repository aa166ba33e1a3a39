"""Ages are the receiver's: what a sender's clock says changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.failover.ages import NEVER, Channel, ReceiverAges
from fleet.failover.profiles import EMBEDDED, PRODUCTION

NODES = ("a", "b", "c")


def _see(ages: ReceiverAges, tokens: list[int], now_s: float) -> None:
    ages.see(Channel.HEARTBEAT, np.array(tokens), now_s)


def test_the_first_token_is_no_sign_of_life_and_a_changed_one_is() -> None:
    """It may be as old as the store."""
    ages = ReceiverAges(NODES, PRODUCTION)
    _see(ages, [10, 20, NEVER], 100.0)
    assert np.isinf(ages.age_s(Channel.HEARTBEAT, 100.0)).all()
    _see(ages, [11, 20, NEVER], 101.0)
    assert ages.age_s(Channel.HEARTBEAT, 103.0).tolist() == [2.0, np.inf, np.inf]
    _see(ages, [11, 20, 1], 104.0)
    assert ages.age_s(Channel.HEARTBEAT, 104.0).tolist() == [3.0, np.inf, 0.0]


@given(st.lists(st.integers(-(2**62), 2**62).filter(lambda token: token >= 0), min_size=2))
def test_only_change_counts_not_the_senders_time(tokens: list[int]) -> None:
    """A clock set back or a year ahead is one sign of life, like any other."""
    ages = ReceiverAges(("a",), PRODUCTION)
    last_s = float("-inf")
    for number, token in enumerate(tokens):
        _see(ages, [token], float(number))
        if number and token != tokens[number - 1]:
            last_s = float(number)
    now_s = float(len(tokens))
    assert ages.age_s(Channel.HEARTBEAT, now_s).tolist() == [now_s - last_s]


def test_a_channel_that_falls_back_to_nothing_is_no_sign() -> None:
    """The row was deleted."""
    ages = ReceiverAges(("a",), PRODUCTION)
    for now_s, token in enumerate([5, 6, NEVER]):
        _see(ages, [token], float(now_s))
    assert ages.age_s(Channel.HEARTBEAT, 3.0).tolist() == [2.0]


def test_an_outage_does_not_enter_the_mean_interval() -> None:
    """A node that beats each second does not become slow by having been dead for an hour."""
    ages = ReceiverAges(("a",), PRODUCTION)
    now_s = 0.0
    for beat in range(20):
        now_s += 1.0
        _see(ages, [beat], now_s)
    _see(ages, [99], now_s + 3600.0)
    assert ages.mean_s().tolist() == pytest.approx([1.0])


@given(st.floats(0.5, 25.0))
def test_the_mean_finds_a_nodes_own_rhythm(interval_s: float) -> None:
    """Within a few per cent after forty beats."""
    ages = ReceiverAges(("a",), PRODUCTION)
    for beat in range(40):
        _see(ages, [beat], beat * interval_s)
    assert ages.mean_s()[0] == pytest.approx(interval_s, rel=0.03)


def test_terminated_is_counted_from_when_we_first_saw_it_and_forgotten_when_taken_back() -> None:
    """A second word restarts the count."""
    ages = ReceiverAges(("a", "b"), EMBEDDED)
    assert np.isinf(ages.see_terminated(np.array([False, False]), 1.0)).all()
    assert ages.see_terminated(np.array([True, False]), 2.0).tolist() == [0.0, np.inf]
    assert ages.see_terminated(np.array([True, True]), 5.0).tolist() == [3.0, 0.0]
    assert ages.see_terminated(np.array([False, True]), 6.0).tolist() == [np.inf, 1.0]
    assert ages.see_terminated(np.array([True, True]), 7.0).tolist() == [0.0, 2.0]


def test_nodes_that_stay_keep_what_was_seen_of_them() -> None:
    """One is added, one is gone; the new one's first token is no sign."""
    ages = ReceiverAges(NODES, PRODUCTION)
    _see(ages, [1, 1, 1], 0.0)
    _see(ages, [2, 2, 2], 1.0)
    assert ages.watching(NODES) is ages
    other = ages.watching(("aa", "b", "c"))
    _see(other, [7, 2, 3], 5.0)
    assert other.age_s(Channel.HEARTBEAT, 5.0).tolist() == [np.inf, 4.0, 0.0]


def test_tokens_of_another_number_of_nodes_are_refused() -> None:
    """Else ages would slide from node to node."""
    with pytest.raises(InvalidInputError, match="tokens"):
        _see(ReceiverAges(NODES, PRODUCTION), [1, 2], 0.0)
