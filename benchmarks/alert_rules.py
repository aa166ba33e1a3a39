"""How long one alerting rule takes that finds 100,000 series, and what its parts cost.

Prints medians of several rounds, and the ratio to the raw limit measured in the same run: building
one tuple per series in a plain loop. `--quick` takes a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fleet.alerts.groups import GroupState, compile_group, evaluate_group, fresh_state
from fleet.alerts.rules import AlertingRule, RuleGroup
from fleet.alerts.sending import SendPolicy, due_alerts, outgoing
from fleet.alerts.state_json import encode_states
from fleet.metrics.labels import Labels, labels_of
from fleet.metrics.vectors import InstantVector

ROUNDS = 5
MINUTE_MS = 60_000
RULE = AlertingRule(
    "AgentCpuHigh",
    "agent_cpu_usage_ratio > 0.8",
    5 * MINUTE_MS,
    labels=(("severity", "warning"),),
    annotations=(
        ("description", "Agent {{ $labels.agent }} on {{ $labels.node }} of {{ $labels.region }}."),
        ("runbook_url", "docs/runbook_alerts.md#agentcpuhigh"),
        ("summary", "Agent {{ $labels.agent }} uses {{ $value | humanizePercentage }}"),
    ),
)


class Canned:
    """An engine whose answer is at hand: what is measured is the rule, not the query."""

    def __init__(self, labels: list[Labels]) -> None:
        """Answer these elements."""
        self.labels = labels
        self.values = np.linspace(0.8, 1.0, len(labels))

    def instant(self, expr: str, at_ms: int) -> InstantVector:
        """See the port."""
        del expr
        # Equal labels in new objects, as an engine makes them.
        return InstantVector([tuple(one) for one in self.labels], self.values, at_ms)


class Counting:
    """A sink that only counts."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.count = 0

    def write(self, samples: InstantVector) -> None:
        """See the port."""
        self.count += len(samples)


def timed(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median seconds of CPU: on a busy machine the clock on the wall measures the neighbours."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    count = 10_000 if parser.parse_args().quick else 100_000
    labels = [
        labels_of(
            "agent_cpu_usage_ratio",
            {
                "agent": f"agent-{number}",
                "network": f"network-{number % 50}",
                "node": f"node-{number % 1000}",
                "region": f"region-{number % 5}",
                "workload": f"workload-{number % 20}",
            },
        )
        for number in range(count)
    ]
    engine, sink = Canned(labels), Counting()
    program = compile_group(RuleGroup("agents", (RULE,), "agents.yml"))
    empty = fresh_state(program.group, restored=True)
    raw_s = timed(
        lambda: [(one, value, 1) for one, value in zip(labels, engine.values.tolist(), strict=True)]
    )
    first_s = timed(lambda: evaluate_group(program, empty, engine, sink, 0))
    states: list[GroupState] = [evaluate_group(program, empty, engine, sink, 0)]

    def again() -> None:
        before = states[-1]
        assert before.evaluated_at_ms is not None
        after = evaluate_group(program, before, engine, sink, before.evaluated_at_ms + MINUTE_MS)
        states[:] = [after]

    again_s = timed(again, 2 * ROUNDS)
    state, policy = states[-1], SendPolicy()
    at_ms = state.evaluated_at_ms or 0
    compiled = program.programs[0]
    assert compiled is not None
    rule_state = state.rules[0].state
    tell_s = timed(
        lambda: outgoing(compiled, due_alerts(rule_state, at_ms, policy), at_ms, MINUTE_MS, policy)
    )
    keep_s = timed(lambda: encode_states([program], [state]))
    print(f"{count:,} series, one rule, CPU seconds, medians of {ROUNDS} rounds")
    for name, seconds in (
        ("a tuple per series (raw limit)", raw_s),
        ("first evaluation: all new", first_s),
        ("each further one, with its series", again_s),
        ("words of all for sending", tell_s),
        ("the document of states", keep_s),
    ):
        ratio = f"{seconds / raw_s:7.1f} x raw"
        print(f"{name:36} {seconds:7.3f} s  {count / seconds / 1e3:9.0f} k/s  {ratio}")


if __name__ == "__main__":
    main()
