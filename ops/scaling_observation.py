"""What a look sees of all workloads at once: one read of the store, a query for each metric.

A metric that cannot be had is a fault with its reason, never 0: the engine then neither scales on
it nor takes it for idle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from fleet.errors import InvalidInputError, PermanentError, StateroomError, TransientError
from fleet.metrics.vectors import InstantVector
from fleet.ports.control_store import ControlStore
from fleet.ports.query_engine import QueryEngine
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rescaling.metric_queries import (
    FAULTS,
    expression_of,
    samples_by_agent,
    samples_of,
    values_of,
)
from fleet.rescaling.observation import (
    MetricFault,
    PodSample,
    Reading,
    WorkloadObservation,
)
from fleet.rescaling.pods import (
    CONTAINER,
    CPU,
    MEMORY,
    WorkloadAgents,
    by_workload,
    pods_of,
    resource_samples,
)
from fleet.rescaling.spec import MetricKind, MetricSpec

NO_AGENTS = WorkloadAgents((), 0)

Read = Callable[[MetricSpec], Reading]


@dataclass(frozen=True)
class Seen:
    """One workload in one region, as one look sees it; records are made when they are asked for."""

    agents: WorkloadAgents
    metrics: Sequence[MetricSpec]
    now: datetime
    read: Read

    @property
    def current(self) -> int:
        """Agents that are wanted."""
        return len(self.agents.wanted)

    @cached_property
    def observation(self) -> WorkloadObservation:
        """Counts, pods and readings."""
        return WorkloadObservation(
            spec_replicas=self.current,
            status_replicas=self.current,
            pods=pods_of(self.agents.wanted, self.now),
            readings=[self.read(metric) for metric in self.metrics],
        )

    def column_readings(self) -> list[Reading | None]:
        """A reading for each metric; None where columns take it from the agents themselves."""
        return [None if _is_reported(one) else self.read(one) for one in self.metrics]


def _is_reported(metric: MetricSpec) -> bool:
    """Whether nodes report a metric of each agent."""
    is_ours = metric.kind is MetricKind.RESOURCE or metric.container == CONTAINER
    return metric.kind.is_resource and is_ours and metric.name in {CPU, MEMORY}


class MetricQueries:
    """The queries of one look: each expression is asked once, whoever needs it."""

    def __init__(self, engine: QueryEngine | None, at: datetime) -> None:
        """Ask nothing yet; without an engine there is no source."""
        self._engine, self._at = engine, at
        self._answers: dict[str, InstantVector | str] = {}
        self._by_agent: dict[str, dict[str, PodSample]] = {}
        self.problems: dict[str, str] = {}
        """Expression -> why its source gave no answer."""

    def answer(self, expression: str) -> InstantVector | str:
        """The answer, or why there is none."""
        if expression not in self._answers:
            self._answers[expression] = self._asked(expression)
        return self._answers[expression]

    def _asked(self, expression: str) -> InstantVector | str:
        if self._engine is None:
            return "there is no source of metrics"
        try:
            return self._engine.instant(expression, round(self._at.timestamp() * 1000))
        except TransientError as error:
            self.problems[expression] = str(error)
            return f"the source of metrics does not answer: {error}"
        except PermanentError as error:
            self.problems[expression] = str(error)
            return str(error)

    def by_agent(self, expression: str) -> dict[str, PodSample] | str:
        """The answer dealt by agent, or why there is none."""
        found = self.answer(expression)
        if isinstance(found, str):
            return found
        if expression not in self._by_agent:
            self._by_agent[expression] = samples_by_agent(found, self._at)
        return self._by_agent[expression]


def observe(
    store: ControlStore,
    declaration: RescalingDeclaration,
    queries: MetricQueries,
    now: datetime,
) -> dict[tuple[str, str], Seen]:
    """Every workload in every region, by workload and region.

    Args:
        store: is read once.
        declaration: which workloads, and how old samples may be.
        queries: of this look.
        now: the moment of the look, by the store's clock or close to it.

    Raises:
        StoreUnavailableError: nothing can be seen.
    """
    found = by_workload(store.scaled_agents(list(declaration.workloads)))
    fresh = now - timedelta(seconds=declaration.sample_age_max_s)
    seen = {}
    for workload, scaling in declaration.workloads.items():
        for region in declaration.regions:
            agents = found.get((workload, region), NO_AGENTS)
            read = _reader(queries, agents, (workload, region), fresh)
            seen[workload, region] = Seen(agents, scaling.spec.metrics, now, read)
    return seen


def _reader(
    queries: MetricQueries,
    agents: WorkloadAgents,
    key: tuple[str, str],
    fresh: datetime,
) -> Read:
    def read(metric: MetricSpec) -> Reading:
        if metric.kind is MetricKind.CONTAINER_RESOURCE and metric.container != CONTAINER:
            return MetricFault(
                "FailedGetContainerResourceMetric",
                f"an agent is one container, `{CONTAINER}`; there is no `{metric.container}`",
            )
        if metric.kind.is_resource:
            return resource_samples(metric.name, agents.wanted, fresh)
        try:
            names = [one.agent.agent_id for one in agents.wanted]
            return _queried(queries, metric, expression_of(metric, *key), names)
        except InvalidInputError as error:
            return MetricFault(FAULTS[metric.kind], str(error))

    return read


def _queried(
    queries: MetricQueries, metric: MetricSpec, expression: str, names: Sequence[str]
) -> Reading:
    """What the source says of a metric, or why it says nothing."""
    if metric.kind is MetricKind.PODS:
        samples = queries.by_agent(expression)
        if isinstance(samples, str):
            return MetricFault(FAULTS[metric.kind], samples)
        return samples_of(metric, samples, names)
    answer = queries.answer(expression)
    if isinstance(answer, str):
        return MetricFault(FAULTS[metric.kind], answer)
    return values_of(metric, answer)


def open_sessions(engine: QueryEngine | None, now: datetime) -> Mapping[str, int] | str:
    """Open sessions by agent, as far as agents report them, or why nobody knows.

    Who stops without knowing them goes by the other reasons, and says so.
    """
    if engine is None:
        return "there is no source of metrics"
    try:
        answer = engine.instant("agent_active_sessions", round(now.timestamp() * 1000))
    except StateroomError as error:
        return str(error)
    return {
        name: sample.value_milli // 1000 for name, sample in samples_by_agent(answer, now).items()
    }
