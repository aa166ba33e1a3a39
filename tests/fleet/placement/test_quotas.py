"""Quotas and limits: what they refuse, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, QuotaExceededError
from fleet.placement.quotas import (
    LimitRange,
    NetworkLimits,
    QuotaLedger,
    ResourceQuota,
    ResourceUse,
    check_limits,
    check_quota,
    require_quota,
    validate_limits,
)
from fleet.reports import AgentDeclaration

AGENT = AgentDeclaration("a", "net", "w", "r", 100, 50, 0, 500)
QUOTA = NetworkLimits("net", ResourceQuota(10, 1000, 400, 2000))


@pytest.mark.parametrize(
    ("used", "count", "refused"),
    [
        (ResourceUse(), 4, []),
        (ResourceUse(), 5, ["gpu_milli"]),
        (ResourceUse(9, 0, 0, 0), 2, ["agents"]),
        (ResourceUse(0, 950, 400, 0), 1, ["cpu_milli", "memory_bytes"]),
        (ResourceUse(99, 9999, 9999, 9999), 0, []),
    ],
)
def test_a_quota_refuses_what_would_pass_it_and_nothing_that_is_not_asked(
    used: ResourceUse, count: int, refused: list[str]
) -> None:
    """An overdrawn quota stops newcomers only."""
    asked = ResourceUse().plus(AGENT, count)
    assert [one.quantity for one in check_quota(used, asked, QUOTA)] == refused
    assert check_quota(used, asked, None) == []


def test_the_error_names_quota_use_and_request() -> None:
    """As an operator needs them."""
    with pytest.raises(QuotaExceededError) as caught:
        require_quota(ResourceUse(0, 950, 0, 0), ResourceUse().plus(AGENT), QUOTA)
    said = "quota of network net: cpu_milli 950 of 1000 used, 100 requested"
    assert str(caught.value) == said
    assert "[networks.net.quota]" in caught.value.hint
    require_quota(ResourceUse(), ResourceUse().plus(AGENT), QUOTA)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (LimitRange(), ""),
        (LimitRange(cpu_milli_min=100, memory_bytes_max=50, gpu_milli_min=500), ""),
        (LimitRange(cpu_milli_min=101), "limits of network net: cpu_milli min 101, has 100"),
        (LimitRange(memory_bytes_max=49), "limits of network net: memory_bytes max 49, has 50"),
        (LimitRange(gpu_milli_max=0), "limits of network net: gpu_milli max 0, has 500"),
    ],
)
def test_limits_name_the_bound_and_the_value(limits: LimitRange, said: str) -> None:
    """Bounds themselves are allowed."""
    assert check_limits(AGENT, NetworkLimits("net", limits=limits)) == said
    assert check_limits(AGENT, None) == ""


@given(st.integers(0, 30), st.integers(0, 12), st.integers(0, 1200))
def test_the_ledger_allows_exactly_what_the_check_lets_pass(
    count: int, agents: int, cpu: int
) -> None:
    """The biggest number of agents without a refusal, and no more after they are taken."""
    used = ResourceUse(agents, cpu, 0, 0)
    ledger = QuotaLedger([QUOTA], {"net": used})
    allowed = ledger.allowed(AGENT, count)
    assert check_quota(used, ResourceUse().plus(AGENT, allowed), QUOTA) == []
    if allowed < count:
        assert check_quota(used, ResourceUse().plus(AGENT, allowed + 1), QUOTA)
    ledger.take(AGENT, allowed)
    assert ledger.allowed(AGENT, count) == min(count, max(0, ledger.allowed(AGENT, 99)))
    ledger.take(AGENT, -allowed)
    assert ledger.allowed(AGENT, count) == allowed
    assert ledger.allowed(AGENT._replace(network_id="free"), count) == count


def test_limits_that_nobody_could_keep_to_are_refused() -> None:
    """The field, the value and what is allowed."""
    with pytest.raises(InvalidInputError, match=r"networks\.net\.quota\.agents: -1"):
        validate_limits(NetworkLimits("net", ResourceQuota(agents=-1)))
    with pytest.raises(InvalidInputError, match=r"networks\.net\.limits\.cpu_milli_min: 5"):
        validate_limits(NetworkLimits("net", limits=LimitRange(cpu_milli_min=5, cpu_milli_max=4)))
    assert validate_limits(QUOTA) is QUOTA
