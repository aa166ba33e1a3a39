"""What is scraped: targets, the labels they give their series, and when each is due.

Two targets must differ in their labels: their series would otherwise be one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

from fleet.errors import InvalidInputError
from fleet.inventory import Node, NodePhase
from fleet.metrics.labels import (
    LABELS_MAX,
    LABELS_MAX_BYTES,
    METRIC_NAME,
    Labels,
    labels_of,
)

SUPERVISOR_JOB = "stateroom-node"
"""Job of the nodes' own endpoints."""
EXPORTED = "exported_"
"""Put before the name of a label that both the target and its series have."""
NODE_LABELS: Mapping[str, Callable[[Node], str]] = {
    "node": lambda node: node.node_id,
    "region": lambda node: node.region,
    "zone": lambda node: node.zone,
    "gpu_model": lambda node: node.gpu_model or "",
}
"""What discovery can tell of a node, by label."""

UTF8_MAX_BYTES = 4
"""Of one character: labels of a quarter of the limit in characters are surely within it."""
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_KEYS = frozenset({"url", "job", "instance", "labels", "interval_s", "timeout_s", "samples_max"})


class Endpoint(NamedTuple):
    """Where a target listens."""

    host: str
    port: int
    socket_path: str
    """Of a unix socket; '' for TCP."""
    path: str
    """Path and query of the request."""


class ScrapeTarget(NamedTuple):
    """One endpoint that is scraped; see `make_target`, which checks it."""

    url: str
    """`http://host:port/metrics`, or `unix:/run/x.sock:/metrics`."""
    job: str
    instance: str
    labels: tuple[tuple[str, str], ...] = ()
    """More labels of all its series, by name."""
    interval_ms: int = 15_000
    timeout_ms: int = 10_000
    """For connection and whole answer together; at most the interval."""
    samples_max: int = 100_000
    """A body with more is refused whole, so that no target floods the store."""

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """The labels that all its series carry, by name."""
        return tuple(sorted([("job", self.job), ("instance", self.instance), *self.labels]))


def make_target(
    url: str,
    *,
    job: str,
    instance: str = "",
    labels: Mapping[str, str] | None = None,
    interval_s: float = 15.0,
    timeout_s: float = 10.0,
    samples_max: int = 100_000,
) -> ScrapeTarget:
    """A target whose parts are checked.

    Args:
        url: `http://host:port/path?query` or `unix:/path/to.sock:/path?query`.
        job: what kind of target it is.
        instance: which one; '' takes host:port, or the path of the socket.
        labels: more labels of all its series; empty ones are left out.
        interval_s: between scrapes, at least 0.1.
        timeout_s: for one scrape; cut to the interval.
        samples_max: that one body may have, from 1.

    Raises:
        InvalidInputError: names what is wrong.
    """
    endpoint = endpoint_of(url)
    named = f"{endpoint.host}:{endpoint.port}" if not endpoint.socket_path else endpoint.socket_path
    for field, seconds in (("interval_s", interval_s), ("timeout_s", timeout_s)):
        if not 0.1 <= seconds <= 86_400:
            raise InvalidInputError(field, seconds, "0.1 to 86400 seconds")
    if not job:
        raise InvalidInputError("job", job, "a name for this kind of target")
    if samples_max < 1:
        raise InvalidInputError("samples_max", samples_max, "1 or more")
    more = {name: value for name, value in (labels or {}).items() if value}
    for name in more:
        if _LABEL.fullmatch(name) is None or name in {"job", "instance", METRIC_NAME}:
            allowed = "letters, digits and '_', not a digit first; job and instance stand apart"
            raise InvalidInputError("labels", name, allowed)
    target = ScrapeTarget(
        url=url,
        job=job,
        instance=instance or named,
        labels=tuple(sorted(more.items())),
        interval_ms=round(interval_s * 1000),
        timeout_ms=round(min(timeout_s, interval_s) * 1000),
        samples_max=samples_max,
    )
    labels_of("up", target.identity)
    return target


def endpoint_of(url: str) -> Endpoint:
    """Take the URL of a target apart.

    Raises:
        InvalidInputError: it is none of the two forms.
    """
    allowed = "http://host:port/path or unix:/path/to.sock:/path, without user and password"
    if any(ord(character) <= 0x20 or ord(character) >= 0x7F for character in url):
        raise InvalidInputError("url", url, f"{allowed}, blanks and the like as %20")
    if url.startswith("unix:"):
        socket_path, _, path = url.removeprefix("unix:").rpartition(":")
        if not socket_path.startswith("/") or not path.startswith("/"):
            raise InvalidInputError("url", url, allowed)
        return Endpoint("localhost", 80, socket_path, path)
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError as error:
        raise InvalidInputError("url", url, allowed) from error
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise InvalidInputError("url", url, allowed)
    query = f"?{parts.query}" if parts.query else ""
    return Endpoint(parts.hostname, port, "", (parts.path or "/") + query)


def check_distinct(targets: Iterable[ScrapeTarget]) -> None:
    """Refuse targets of which two would write the same series.

    Raises:
        InvalidInputError: names the second one and the URL of the first.
    """
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for target in targets:
        if target.identity in seen:
            first = seen[target.identity]
            allowed = f"job, instance and labels that no other target has; {first} has the same"
            raise InvalidInputError("target", target.url, allowed)
        seen[target.identity] = target.url


def targets_of_document(rows: Sequence[Mapping[str, object]]) -> list[ScrapeTarget]:
    """Targets as settings write them: tables with the arguments of `make_target` as keys.

    Raises:
        InvalidInputError: a key is missing, unknown or of another type; two targets are one.
    """
    targets = [_target_of_row(row) for row in rows]
    check_distinct(targets)
    return targets


def targets_of_nodes(
    nodes: Iterable[Node],
    *,
    job: str = SUPERVISOR_JOB,
    path: str = "/metrics",
    labels: Sequence[str] = ("zone",),
    interval_s: float = 15.0,
    timeout_s: float = 10.0,
) -> list[ScrapeTarget]:
    """Targets of the node inventory: every node that runs and has an address.

    The instance is the node's name, because its port is another one after each start. A node's own
    series say `node` and `region` themselves, so only the zone is added to them.

    Args:
        nodes: the inventory.
        job: of all these targets.
        path: what is asked for.
        labels: what of the node becomes labels, of `NODE_LABELS`.
        interval_s: between scrapes.
        timeout_s: for one scrape.

    Returns:
        By name of the node.

    Raises:
        InvalidInputError: a label that discovery does not know.
    """
    for name in labels:
        if name not in NODE_LABELS:
            raise InvalidInputError("labels", name, ", ".join(NODE_LABELS))
    return [
        make_target(
            f"http://{node.address}{path}",
            job=job,
            instance=node.node_id,
            labels={name: NODE_LABELS[name](node) for name in labels},
            interval_s=interval_s,
            timeout_s=timeout_s,
        )
        for node in sorted(nodes, key=lambda node: node.node_id)
        if node.address and node.phase is NodePhase.RUNNING
    ]


def with_target_labels(
    name: str, exposed: Sequence[tuple[str, str]], target: Sequence[tuple[str, str]]
) -> Labels:
    """Labels of a series: those of its target, and its own, where they meet as `exported_...`.

    Source: Prometheus, scrape/scrape.go (`resolveConflictingExposedLabels`), `honor_labels` off.

    Args:
        name: of the metric.
        exposed: labels of a line; the grammar of lines vouches for their names and for UTF-8.
        target: `ScrapeTarget.identity`, which `make_target` has checked.

    Raises:
        InvalidInputError: the labels break the rules of `labels_of`.
    """
    own = dict(target)
    names = {label for label, _ in exposed}
    if len(names) < len(exposed) or METRIC_NAME in names:
        return labels_of(name, [*exposed, *target])
    if names.isdisjoint(own):
        kept = [(METRIC_NAME, name), *[pair for pair in exposed if pair[1]], *target]
        small = UTF8_MAX_BYTES * sum(map(len, chain.from_iterable(kept))) <= LABELS_MAX_BYTES
        if small and len(kept) <= LABELS_MAX:
            return tuple(sorted(kept))
        return labels_of(name, [*exposed, *target])
    labels = [(label, value) for label, value in exposed if label not in own]
    clashes = [(label, value) for label, value in exposed if label in own and value]
    taken = names | set(own)
    for label, value in sorted(clashes, key=lambda clash: len(clash[0])):
        moved = EXPORTED + label
        while moved in taken:
            moved = EXPORTED + moved
        taken.add(moved)
        labels.append((moved, value))
    return labels_of(name, [*labels, *target])


def offset_ms(target: ScrapeTarget) -> int:
    """When in its interval a target is scraped: spread evenly, the same after any restart."""
    text = "\0".join(part for pair in target.identity for part in pair)
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % target.interval_ms


def next_due_ms(target: ScrapeTarget, after_ms: int) -> int:
    """The next moment after `after_ms` at which a target is due, milliseconds since 1970."""
    offset = offset_ms(target)
    return (after_ms - offset) // target.interval_ms * target.interval_ms + (
        target.interval_ms + offset
    )


def _target_of_row(row: Mapping[str, object]) -> ScrapeTarget:
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise InvalidInputError("target", unknown[0], ", ".join(sorted(_KEYS)))
    url, job = _text(row, "url"), _text(row, "job")
    labels = row.get("labels", {})
    if not isinstance(labels, Mapping):
        raise InvalidInputError("labels", labels, "a table of label = value")
    samples_max = row.get("samples_max", 100_000)
    if not isinstance(samples_max, int) or isinstance(samples_max, bool):
        raise InvalidInputError("samples_max", samples_max, "a whole number from 1")
    return make_target(
        url,
        job=job,
        instance=_text(row, "instance", ""),
        labels={str(name): _text(labels, str(name)) for name in labels},
        interval_s=_seconds(row, "interval_s", 15.0),
        timeout_s=_seconds(row, "timeout_s", 10.0),
        samples_max=samples_max,
    )


def _text(row: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = row.get(key, default)
    if not isinstance(value, str):
        raise InvalidInputError(key, value, "a text")
    return value


def _seconds(row: Mapping[str, object], key: str, default: float) -> float:
    value = row.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInputError(key, value, "seconds")
    return float(value)
