"""Health checks of endpoints: a connection or a GET, many at once, each within its time limit."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from fleet.ports.clock import Clock
from fleet.service_health import CheckState, ServicePolicy, note_check
from fleet.services import CheckReport, Endpoint, Registration

CHECKS_AT_ONCE = 200
"""Open connections of the checker: below every usual limit of open files."""


class _Track(NamedTuple):
    epoch: int
    state: CheckState
    due_s: float


class HealthChecker:
    """Checks the endpoints it is given, each every `check_interval_s`, and counts the results.

    The endpoints' turns are spread over the interval by their names, so that a thousand endpoints
    are a hundred checks a second and no burst. For one thread.

    Args:
        policy: interval, time limit, and how many results in a row change the health.
        clock: monotonic seconds.
    """

    def __init__(self, policy: ServicePolicy, clock: Clock) -> None:
        """Nothing was checked."""
        self._policy = policy
        self._clock = clock
        self._tracks: dict[str, _Track] = {}

    def check(self, registrations: Sequence[Registration]) -> list[CheckReport]:
        """Check whoever's turn it is.

        Args:
            registrations: everybody this checker is responsible for; others are forgotten.

        Returns:
            Reports of those whose health is not what the registry has; send them with
            `report_checks`. A report that was lost is made again at the next check.
        """
        now_s = self._clock.monotonic_s()
        tracks = {entry.endpoint.key: self._track(entry.endpoint, now_s) for entry in registrations}
        due = [one for one in registrations if tracks[one.endpoint.key].due_s <= now_s]
        found = asyncio.run(_probe_all([one.endpoint for one in due], self._policy))
        reports = []
        for entry, problem in zip(due, found, strict=True):
            endpoint = entry.endpoint
            track = tracks[endpoint.key]
            state = note_check(self._policy, track.state, passed=not problem)
            due_s = track.due_s + self._policy.check_interval_s
            if due_s <= now_s:  # we were late; turns that were missed are not made up for
                due_s = now_s + self._policy.check_interval_s
            tracks[endpoint.key] = _Track(endpoint.epoch, state, due_s)
            if state.health != entry.health:
                reason = problem or "passes its checks"
                reports.append(
                    CheckReport(
                        endpoint.service, endpoint.agent_id, endpoint.epoch, state.health, reason
                    )
                )
        self._tracks = tracks
        return reports

    def _track(self, endpoint: Endpoint, now_s: float) -> _Track:
        known = self._tracks.get(endpoint.key)
        if known is not None and known.epoch == endpoint.epoch:
            return known
        share = zlib.crc32(endpoint.key.encode()) / 2**32
        return _Track(endpoint.epoch, CheckState(), now_s + share * self._policy.check_interval_s)


async def _probe_all(endpoints: Sequence[Endpoint], policy: ServicePolicy) -> list[str]:
    """What is wrong with each endpoint, in order; '' when nothing is."""
    slots = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def probe(endpoint: Endpoint) -> str:
        async with slots:
            try:
                async with asyncio.timeout(policy.check_timeout_s):
                    return await _probe(endpoint)
            except TimeoutError:
                return f"no answer within {policy.check_timeout_s:g} s"
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                return str(error) or type(error).__name__

    return list(await asyncio.gather(*(probe(endpoint) for endpoint in endpoints)))


async def _probe(endpoint: Endpoint) -> str:
    reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
    try:
        if not endpoint.check_path:
            return ""
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        writer.write(
            f"GET {endpoint.check_path} HTTP/1.1\r\nHost: {host}:{endpoint.port}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        line = (await reader.readline()).decode(errors="replace").split()
        if len(line) < 2 or not line[0].startswith("HTTP/") or not line[1].isdecimal():
            return f"GET {endpoint.check_path}: no HTTP answer"
        is_good = 200 <= int(line[1]) < 400
        return "" if is_good else f"GET {endpoint.check_path}: status {line[1]}"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
