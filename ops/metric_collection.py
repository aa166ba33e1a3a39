"""Takes what scrapes give, commits it to the store, and has rules evaluated on it.

Samples are held in memory until they are committed; a commit is one entry of the store's log. The
process may die at any moment: what was scraped since the last commit (`COMMIT_S`) is then missing,
which shows as a gap, and nothing is stored twice, because a batch that is tried again has the same
name. Where the store stays away, samples wait in memory up to a bound, the oldest go first, and
are counted.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakValueDictionary

from fleet.alerts.groups import GroupProgram, GroupState
from fleet.errors import InvalidInputError, StateroomError
from fleet.metrics.exported.collection import CollectionFacts, RuleGroupFacts
from fleet.metrics.recent_samples import RecentSamples
from fleet.metrics.samples import SampleBatch, SeriesInfo, distinct
from fleet.metrics.scraped_target import SaidOfSeries, ScrapeResult
from fleet.ports.clock import Clock
from fleet.ports.metric_store import MetricStore
from ops.alert_evaluator import AlertTick
from resources.metrics.pieces import content_name, merged
from resources.metrics.store_log import SHARDS_SETTING

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray

COMMIT_S = 15.0
"""Between two commits: a batch of a whole round of scrapes is one small part per shard."""
WAITING_MAX = 20_000_000
"""Samples that wait for a store that is away: 480 MB."""

_log = logging.getLogger(__name__)


class Evaluator(Protocol):
    """Evaluates rules; `ops.alert_evaluator.AlertEvaluator`."""

    def tick(self) -> AlertTick:
        """Evaluate what is due."""
        ...

    def programs(self) -> Sequence[tuple[GroupProgram, GroupState]]:
        """Every group with its state."""
        ...


class Waiting(NamedTuple):
    """A batch that is to be committed, under the name it keeps."""

    name: str
    batch: SampleBatch
    """Leaves out what series are that the store was told before."""
    explained: Sequence[Mapping[int, SeriesInfo]] = ()
    """What all of them are, as scrapes said it; () where `batch` says it all."""


class MetricCollection:
    """What is known between two commits; `take` may be called while `commit` runs.

    Args:
        store: where samples are kept.
        recent: is given every batch, too, so that rules need not read the store.
        clock: names batches.
        writer: name of `store` in its commits; those of others are looked at, so that rules see
            what they brought.
        waiting_max: samples that may wait.
    """

    def __init__(
        self,
        store: MetricStore,
        recent: RecentSamples,
        clock: Clock,
        *,
        writer: str = "",
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """Nothing taken yet."""
        self._store, self._recent = store, recent
        self._clock, self._waiting_max = clock, waiting_max
        self._writer = writer
        self._seen: int | None = None
        """Number of the last commit that was looked at; None before the first of its own."""
        self._lock = threading.Lock()
        self._taken: list[ScrapeResult] = []
        self._waiting: list[Waiting] = []
        self._told: WeakValueDictionary[int, SaidOfSeries] = WeakValueDictionary()
        """What the store was told of series, by `id`, while a target says it still: what millions
        of series are takes ten times as long to look through as their samples."""
        self._problem = ""
        self.evaluator: Evaluator | None = None
        """Evaluates rules after each commit; None: there are none."""
        self._facts = CollectionFacts(0, 0, 0, 0, 0, 0.0, 0, 0, 0, {})

    def take(self, result: ScrapeResult) -> None:
        """Hold what a scrape gave until the next commit; quick, from the event loop."""
        with self._lock:
            self._taken.append(result)

    def round(self) -> None:
        """Commit what was taken, then evaluate the rules that are due; for one thread."""
        began_s = self._clock.monotonic_s()
        self.commit()
        if self.evaluator is not None:
            self._note(self.evaluator.tick())
        with self._lock:
            took_s = self._clock.monotonic_s() - began_s
            self._facts = self._facts._replace(round_s=took_s)

    def commit(self) -> None:
        """Name what was taken and store all that waits, oldest first, up to the first failure."""
        now_ms = round(self._clock.now().timestamp() * 1000)
        self._recent.forget(now_ms)
        self._name(now_ms)
        problem = ""
        while self._waiting:
            first = self._waiting[0]
            try:
                commit = self._store.append(first.batch, first.name)
            except StateroomError as error:
                if _is_of_the_samples(error):
                    self._waiting[:1] = self._retried(first, error)
                    continue
                problem = str(error)
                self._count(commits_failed=1)
                break
            self._seen = commit.number if self._seen is None else self._seen
            del self._waiting[0]
            for one in first.explained:
                if isinstance(one, SaidOfSeries):
                    self._told[id(one)] = one
            self._count(samples=len(first.batch))
        if not problem:
            problem = self._look_at_others()
        if problem != self._problem:
            _log.warning("metric store: %s", problem or "takes samples again")
        self._problem = problem

    def _look_at_others(self) -> str:
        """Have the store answer for times of which another writer has committed samples since.

        Returns:
            Why the log could not be read; '' when it could.
        """
        if self._seen is None:
            return ""
        try:
            commits = self._store.commits(self._seen)
        except StateroomError as error:
            return str(error)
        for commit in commits:
            self._seen = commit.number
            if commit.writer != self._writer:
                self._recent.leave(max((part.max_ts_ms for part in commit.parts), default=0))
        return ""

    def _retried(self, refused: Waiting, error: StateroomError) -> list[Waiting]:
        """What is tried in place of a batch that is refused: first the same one with all told."""
        if not refused.explained:
            return self._without_refused(refused, error)
        return [Waiting(refused.name, replace(refused.batch, series=_union(refused.explained)))]

    def _without_refused(self, refused: Waiting, error: StateroomError) -> list[Waiting]:
        """Two halves of a batch, so that one wrong series keeps no other out; none of a single one.

        What is refused once is refused always: it is let go, counted and named.
        """
        import numpy as np

        batch = refused.batch
        ids = distinct(batch.series_ids)
        if len(ids) < 2:
            self._count(samples_dropped=len(batch))
            _log.error("metric store: refused for good: %s", error)
            return []
        first = np.isin(batch.series_ids, ids[: len(ids) // 2])
        return [
            Waiting(f"{refused.name}-{place}", _rows(batch, rows))
            for place, rows in enumerate((first, ~first))
        ]

    def facts(self, targets: int, missed: int) -> CollectionFacts:
        """What was done since the beginning.

        Args:
            targets: how many are scraped now.
            missed: scrapes that were left out.
        """
        with self._lock:
            return self._facts._replace(targets=targets, scrapes_missed=missed)

    def _name(self, now_ms: int) -> None:
        with self._lock:
            taken, self._taken = self._taken, []
        for problem in (problem for result in taken for problem in result.problems):
            _log.info("%s", problem)
        parts = [result.batch for result in taken if len(result.batch)]
        if not parts:
            return
        explained = list({id(part.series): part.series for part in parts}.values())
        untold = [one for one in explained if id(one) not in self._told]
        batch = replace(merged([replace(part, series={}) for part in parts]), series=_union(untold))
        self._recent.add(batch)
        forgotten = self._recent.unexplained(batch.series_ids)
        if len(forgotten):
            self._recent.explain(_union(explained), forgotten)
        name = content_name(f"collected-{now_ms}", batch)
        self._waiting.append(Waiting(name, batch, explained))
        while sum(len(one.batch) for one in self._waiting) > self._waiting_max:
            gone = self._waiting.pop(0)
            self._count(samples_dropped=len(gone.batch))

    def _note(self, tick: AlertTick) -> None:
        for problem in tick.problems:
            _log.warning("%s", problem)
        assert self.evaluator is not None, "it has just ticked"
        groups = dict(self._facts.rule_groups)
        for program, state in self.evaluator.programs():
            key = program.group.key
            if key in tick.evaluated:
                known = groups.get(key, RuleGroupFacts(0, 0))
                failed = sum(rule.error is not None for rule in state.rules)
                groups[key] = RuleGroupFacts(known.evaluations + 1, known.failures + failed)
        with self._lock:
            self._facts = self._facts._replace(
                alerts_pending=tick.alerts - tick.firing,
                alerts_firing=tick.firing,
                deliveries_failed=self._facts.deliveries_failed + (not tick.delivered),
                rule_groups=groups,
            )

    def _count(self, **more: int) -> None:
        with self._lock:
            counts = {name: getattr(self._facts, name) + value for name, value in more.items()}
            self._facts = self._facts._replace(**counts)


def _union(explained: Iterable[Mapping[int, SeriesInfo]]) -> dict[int, SeriesInfo]:
    found: dict[int, SeriesInfo] = {}
    for one in explained:
        found.update(one)
    return found


def _is_of_the_samples(error: StateroomError) -> bool:
    """Whether a store refuses these samples for good; else it refuses all, until it is mended.

    A damaged or newer store, or one that is divided otherwise, is mended by a person: samples wait.
    """
    return isinstance(error, InvalidInputError) and error.field != SHARDS_SETTING


def _rows(batch: SampleBatch, rows: "BoolArray") -> SampleBatch:
    """Some samples of a batch, with what is known of their series."""
    series_ids = batch.series_ids[rows]
    known = set(series_ids.tolist())
    infos = {identity: info for identity, info in batch.series.items() if identity in known}
    return SampleBatch(series_ids, batch.ts_ms[rows], batch.values[rows], infos)
