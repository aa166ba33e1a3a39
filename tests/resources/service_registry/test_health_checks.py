"""Health checks against real sockets: passing, refusing, unwell, silent, talking nonsense."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.service_health import EMBEDDED_SERVICES, ServicePolicy
from fleet.services import CheckHealth, CheckReport, Endpoint, Registration
from resources.service_registry.health_checks import HealthChecker
from tests.fakes.clock import ManualClock
from tests.servers.balancers import answering

POLICY = replace(EMBEDDED_SERVICES, check_timeout_s=0.3, failures_to_fail=2, successes_to_pass=2)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A little server that answers, with 503 at /unwell."""
    with answering("well") as ports:
        yield ports["well"]


def entry(agent_id: str, port: int, path: str = "", epoch: int = 1) -> Registration:
    """A registration to be checked."""
    endpoint = Endpoint("web", agent_id, "n", "eu", "127.0.0.1", port, epoch, 1, path)
    return Registration(endpoint)


def rounds(checker: HealthChecker, clock: ManualClock, *entries: Registration) -> list[CheckReport]:
    """Two rounds: enough to change a health."""
    reports = []
    for _ in range(2):
        clock.advance(POLICY.check_interval_s)
        reports += checker.check(entries)
    return reports


def started(policy: ServicePolicy = POLICY) -> tuple[HealthChecker, ManualClock]:
    """A checker and its time."""
    clock = ManualClock()
    return HealthChecker(policy, clock), clock


def told(report: CheckReport) -> tuple[str, CheckHealth, str]:
    """The parts that differ."""
    return report.agent_id, report.health, report.reason


def test_endpoints_are_checked_as_they_asked(port: int) -> None:
    """By connecting, or by a GET whose status counts."""
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        socket.create_server(("127.0.0.1", 0)) as gone,
    ):
        dead = gone.getsockname()[1]
        gone.close()
        checker, clock = started()
        entries = [
            entry("connect", port),
            entry("get", port, "/health"),
            entry("mute", mute.getsockname()[1], "/health"),
            entry("refused", dead),
            entry("unwell", port, "/unwell"),
        ]
        checker.check(entries)
        found = {report.agent_id: report for report in rounds(checker, clock, *entries)}
        # A connection's end is not an answer, but it is one for a check that only connects.
        assert {name: report.health for name, report in found.items()} == {
            "connect": CheckHealth.PASSING,
            "get": CheckHealth.PASSING,
            "mute": CheckHealth.FAILING,
            "refused": CheckHealth.FAILING,
            "unwell": CheckHealth.FAILING,
        }
        assert found["unwell"].reason == "GET /unwell: status 503"
        assert found["mute"].reason == "no answer within 0.3 s"
        assert "refused" in found["refused"].reason.lower() or "111" in found["refused"].reason


def test_a_report_is_made_until_the_registry_has_it(port: int) -> None:
    """What the registry holds is compared, not what was sent."""
    checker, clock = started()
    held = entry("a", port)
    checker.check([held])
    reports = rounds(checker, clock, held)
    assert [told(report) for report in reports] == [("a", CheckHealth.PASSING, "passes its checks")]
    assert len(rounds(checker, clock, held)) == 2
    assert rounds(checker, clock, held._replace(health=CheckHealth.PASSING)) == []


def test_nobody_is_checked_before_its_turn() -> None:
    """Turns are spread over the interval; a late round makes up for none."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        checker, clock = started(replace(POLICY, successes_to_pass=1))
        port = server.getsockname()[1]
        entries = [entry(f"agent-{number}", port) for number in range(60)]
        assert checker.check(entries) == []
        halves = []
        for _ in range(2):
            clock.advance(POLICY.check_interval_s / 2)
            halves.append(len(checker.check(entries)))
        assert sum(halves) == 60
        assert all(10 <= half <= 50 for half in halves)
        clock.advance(10 * POLICY.check_interval_s)
        assert len(checker.check(entries)) == 60
        assert checker.check(entries) == []


def test_a_new_epoch_begins_with_unknown_health(port: int) -> None:
    """The failures of the copy before are not its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = server.getsockname()[1]
    checker, clock = started()
    checker.check([entry("a", dead)])
    assert rounds(checker, clock, entry("a", dead))[0].health is CheckHealth.FAILING
    moved = entry("a", port, epoch=2)
    checker.check([moved])
    clock.advance(POLICY.check_interval_s)
    assert checker.check([moved]) == []
    clock.advance(POLICY.check_interval_s)
    assert [told(report)[:2] for report in checker.check([moved])] == [("a", CheckHealth.PASSING)]


def test_what_is_no_http_fails_a_get() -> None:
    """A server that greets first, in its own language."""
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def greet() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                connection.sendall(b"220 mail ready\r\n")
                connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        checker, clock = started()
        held = entry("mail", server.getsockname()[1], "/")
        checker.check([held])
        reports = rounds(checker, clock, held)
        thread.join()
    assert [report.health for report in reports] == [CheckHealth.FAILING]
