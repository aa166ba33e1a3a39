"""What readers of a service are given: checks, silence, the panic rule, and the cache of it all.

Two mistakes would be outages: to send requests to what is gone, and to empty a service because the
observer is blind. So nothing here deletes. `plan_view` withholds what a GRAY verdict or silence
speaks against, never more than `1 - served_min_share` of a service's entries, and counts silence
only after registry and controller have both been healthy for one whole `entry_ttl_s`: whoever was
cut off had the time to renew. While they are not, nothing new is withheld, and what was withheld
before stays so until it renews. Failed health checks
alone never withhold an entry, they lower its weight (`fleet.service_weights`): when every check
fails, the fault is the checker's, and all weights are low alike.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.services import CheckHealth, Registration


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    """Times and limits of discovery; `docs/guarantees.md` says what each line costs."""

    check_interval_s: float = 10.0
    check_timeout_s: float = 5.0
    failures_to_fail: int = 3
    """Checks that fail in a row before an endpoint is FAILING."""
    successes_to_pass: int = 2
    """Checks that pass in a row before it is PASSING again."""
    renew_interval_s: float = 15.0
    """How often an endpoint renews: four times in a time to live."""
    entry_ttl_s: float = 60.0
    """Silence after which an entry is withheld."""
    cache_ttl_s: float = 60.0
    """How long a reader answers from its cache."""
    served_min_share: float = 0.5
    """Share of a service's entries that is always served. Source: Envoy's healthy panic
    threshold, 50 % by default."""


PRODUCTION_SERVICES = ServicePolicy()
EMBEDDED_SERVICES = ServicePolicy(
    check_interval_s=1.0,
    check_timeout_s=0.5,
    renew_interval_s=1.5,
    entry_ttl_s=6.0,
    cache_ttl_s=1.0,
)
"""Seconds instead of a minute, for one machine."""


def validate_service_policy(policy: ServicePolicy) -> ServicePolicy:
    """Return a policy whose numbers fit together.

    Raises:
        InvalidInputError: names the field.
    """
    times = ("check_interval_s", "check_timeout_s", "renew_interval_s", "entry_ttl_s")
    for name in (*times, "cache_ttl_s"):
        value = getattr(policy, name)
        if not 0.0 < value < math.inf:
            raise InvalidInputError(name, value, "seconds above 0")
    if policy.check_timeout_s > policy.check_interval_s:
        raise InvalidInputError("check_timeout_s", policy.check_timeout_s, "up to check_interval_s")
    if policy.entry_ttl_s < 3 * policy.renew_interval_s:
        raise InvalidInputError(
            "entry_ttl_s", policy.entry_ttl_s, "3 times renew_interval_s or more"
        )
    for name in ("failures_to_fail", "successes_to_pass"):
        if getattr(policy, name) < 1:
            raise InvalidInputError(name, getattr(policy, name), "1 or more")
    if not 0.5 <= policy.served_min_share <= 1.0:
        raise InvalidInputError("served_min_share", policy.served_min_share, "0.5 to 1")
    return policy


class CheckState(NamedTuple):
    """The checks of one endpoint, as its checker counts them."""

    health: CheckHealth = CheckHealth.UNKNOWN
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""


def note_check(policy: ServicePolicy, state: CheckState, *, passed: bool) -> CheckState:
    """Fold one check into the state; a single result against the tide changes no health."""
    if passed:
        successes = state.successes + 1
        passing = successes >= policy.successes_to_pass
        return CheckState(CheckHealth.PASSING if passing else state.health, 0, successes)
    failures = state.failures + 1
    failing = failures >= policy.failures_to_fail
    return CheckState(CheckHealth.FAILING if failing else state.health, failures, 0)


class _Seen(NamedTuple):
    epoch: int
    renewals: int
    changed_s: float
    """When we first saw these numbers."""
    unchanged_s: float | None = None
    """When a later look first found them unchanged."""


class RenewalAges:
    """How long each entry has been silent, by the clock of whoever asks.

    A registry tells that a counter has changed; *when* is what we saw. So no other machine's clock
    is believed. One look that finds a counter unchanged proves little: the registry may have been
    down since the look before, and just be back. So silence counts once it has been found by two
    looks that are at least two renewals apart.
    """

    def __init__(self, policy: ServicePolicy) -> None:
        """Nothing was seen."""
        self._confirm_s = 2 * policy.renew_interval_s
        self._seen: dict[str, _Seen] = {}

    def see(self, registrations: Iterable[Registration], now_s: float) -> None:
        """Take in a look at entries, at monotonic `now_s`."""
        for registration in registrations:
            key, epoch = registration.endpoint.key, registration.endpoint.epoch
            known = self._seen.get(key)
            if known is None or known[:2] != (epoch, registration.renewals):
                self._seen[key] = _Seen(epoch, registration.renewals, now_s)
            elif known.unchanged_s is None:
                self._seen[key] = known._replace(unchanged_s=now_s)

    def forget(self, keys: Iterable[str]) -> None:
        """Drop entries that have left the registry."""
        for key in keys:
            self._seen.pop(key, None)

    def restart(self, now_s: float, but: Collection[str] = ()) -> None:
        """Let ages begin now: registry or controller was not healthy until now.

        Args:
            now_s: monotonic seconds.
            but: entries that were withheld before that; they stay so until they renew.
        """
        self._seen = {
            key: seen if key in but else seen._replace(changed_s=now_s, unchanged_s=None)
            for key, seen in self._seen.items()
        }

    def silent_s(self, key: str, now_s: float) -> float:
        """Seconds since the entry's last renewal that we saw; 0 while that is not confirmed."""
        known = self._seen.get(key)
        if known is None or known.unchanged_s is None:
            return 0.0
        if now_s - known.unchanged_s < self._confirm_s:
            return 0.0
        return now_s - known.changed_s


class ServiceView(NamedTuple):
    """A service as its readers get it."""

    service: str
    revision: int
    """Of the registry's read that it was made from; rises with each visible change."""
    served: tuple[Registration, ...]
    """Ordered by agent_id."""
    withheld: Mapping[str, str]
    """agent_id to the reason."""
    kept: Mapping[str, str]
    """agent_id to the reason why it is served although something speaks against it."""
    notes: tuple[str, ...] = ()
    """What limited the view, in sentences; empty when nothing did."""


def plan_view(
    service: str,
    revision: int,
    registrations: Sequence[Registration],
    silent_s: Mapping[str, float],
    policy: ServicePolicy,
    *,
    trusted: bool,
    before: ServiceView | None = None,
) -> ServiceView:
    """Decide whom the readers of a service are given.

    Args:
        service: its name.
        revision: of the read.
        registrations: all entries of the service that are present.
        silent_s: agent_id to seconds of silence (`RenewalAges`).
        policy: limits.
        trusted: registry and controller are healthy now. When not, nobody is withheld whom
            `before` had not withheld already.
        before: the view before, if there was one.
    """
    ordered = sorted(registrations, key=lambda entry: entry.endpoint.agent_id)
    against = {
        entry.endpoint.agent_id: reason
        for entry in ordered
        if (reason := _against(entry, silent_s.get(entry.endpoint.agent_id, 0.0), policy))
    }
    notes: list[str] = []
    kept: dict[str, str] = {}
    if not trusted:
        earlier = before.withheld if before is not None else {}
        for agent_id in [key for key in against if key not in earlier]:
            kept[agent_id] = f"{against.pop(agent_id)}; registry or controller is not healthy"
        if kept:
            notes.append(f"frozen: {len(kept)} entries stay that would have been withheld")
    allowed = len(ordered) - math.ceil(len(ordered) * policy.served_min_share)
    if len(against) > allowed:
        notes.append(
            f"panic rule: {len(against)} of {len(ordered)} entries should be withheld, "
            f"{allowed} may be"
        )
        gray = {entry.endpoint.agent_id for entry in ordered if entry.gray}
        surest = sorted(against, key=lambda key: (key not in gray, -silent_s.get(key, 0.0), key))
        for agent_id in surest[allowed:]:
            kept[agent_id] = f"{against.pop(agent_id)}; served by the panic rule"
    served = tuple(entry for entry in ordered if entry.endpoint.agent_id not in against)
    return ServiceView(service, revision, served, against, kept, tuple(notes))


def _against(entry: Registration, silent_s: float, policy: ServicePolicy) -> str:
    if entry.gray:
        return f"gray: {entry.reason}"
    if silent_s > policy.entry_ttl_s:
        return f"silent for {silent_s:.0f} s, allowed {policy.entry_ttl_s:g} s"
    return ""
