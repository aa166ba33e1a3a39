"""Settings of objectives: what is promised of services and networks, and how it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fleet.errors import InvalidInputError
from fleet.objectives import LATENCY_BOUNDS_MS, TARGET_MAX, TARGET_MIN, Objective, ObjectiveKind
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """One promise; its error budget, and the alerts on burning it, follow from it."""

    name: str
    kind: str = key(
        kinds.choice(*(one.value for one in ObjectiveKind)),
        "What is promised: requests without error, requests in time, or tasks without error.",
    )
    target: float = key(
        kinds.number(TARGET_MIN, TARGET_MAX, "parts of 1"), "Share of good events, such as 0.999."
    )
    network: str = key(
        kinds.optional_name(), "Network that it is about; empty for all.", default=""
    )
    service: str = key(
        kinds.optional_name(), "Workload that it is about; empty for all.", default=""
    )
    region: str = key(kinds.optional_name(), "Region that it is about; empty for all.", default="")
    latency_ms: int = key(
        kinds.whole(0, max(LATENCY_BOUNDS_MS), "milliseconds"),
        "Of `latency`: an answer within it is good. One of the bounds of agents' histograms.",
        default=0,
        unit="milliseconds",
    )
    window_days: int = key(
        kinds.whole(1, 366, "days"),
        "Length of the window that the budget is for.",
        default=30,
        unit="days",
    )


def declared_objectives(settings: Sequence[ObjectiveSettings]) -> tuple[Objective, ...]:
    """The objectives as the core takes them."""
    return tuple(_objective(one) for one in settings)


def _objective(one: ObjectiveSettings) -> Objective:
    return Objective(
        one.name,
        ObjectiveKind(one.kind),
        one.target,
        one.network,
        one.service,
        one.region,
        one.latency_ms,
        one.window_days,
    )


def objective_violations(
    settings: Sequence[ObjectiveSettings | None],
    regions: Sequence[str],
    networks: Sequence[str],
    workloads: Sequence[str],
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths and messages of objectives that make no sense, or are about what is not declared."""
    known = {"region": regions, "network": networks, "service": workloads}
    for one in settings:
        if one is None:
            continue
        path = ("objectives", one.name)
        for field, names in known.items():
            value = getattr(one, field)
            if value and value not in names:
                there = ", ".join(names) or "none"
                message = f"{value!r} is not valid; allowed: one that is declared ({there})"
                yield (*path, field), message
        try:
            _objective(one)
        except InvalidInputError as error:
            field = error.field.removeprefix("objectives.")
            yield (*path, field), f"{error.value!r} is not valid; allowed: {error.allowed}"
