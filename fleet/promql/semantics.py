"""In what Prometheus 2 and 3 differ."""

from __future__ import annotations

from typing import NamedTuple

from fleet.errors import InvalidInputError


class Semantics(NamedTuple):
    """One version's rules.

    Source: Prometheus, promql/functions.go and promql/quantile.go of v2.42.0 and v3.9.1.
    """

    left_closed: bool = False
    """Whether windows hold a sample exactly at their start. Until 2.x they do; rollups then cannot
    answer, as their buckets do not."""
    zero_before_threshold: bool = False
    """Whether the extrapolated zero of a counter is looked at before it is decided how far to
    extrapolate (2.x), or after (3.x)."""
    small_deltas_ignored: bool = True
    """Whether buckets of histograms that differ by rounding only count as equal."""
    spread_of_one_is_zero: bool = False
    """Whether stddev and stdvar of one value are 0 also where it is NaN or infinite (2.x)."""
    unmatched_may_meet: bool = False
    """Whether several series may meet one where a comparison leaves at most one of them (2.x)."""
    histograms_linear: bool = False
    """Whether quantiles of native histograms are looked for from the lowest bucket on and taken
    evenly within it (2.x), or from the nearer end and in the logarithm (3.x)."""
    histograms_reach_before_zero: bool = False
    """Whether rates of native histograms reach back to before their zero (2.x)."""


PROMETHEUS_3 = Semantics()
PROMETHEUS_2 = Semantics(
    left_closed=True,
    spread_of_one_is_zero=True,
    zero_before_threshold=True,
    small_deltas_ignored=False,
    unmatched_may_meet=True,
    histograms_linear=True,
    histograms_reach_before_zero=True,
)


def semantics_of(version: str) -> Semantics:
    """The rules of `2.x` or `3.x`.

    Raises:
        InvalidInputError: another text.
    """
    known = {"2.x": PROMETHEUS_2, "3.x": PROMETHEUS_3}
    if version not in known:
        raise InvalidInputError("semantics", version, " or ".join(known))
    return known[version]
