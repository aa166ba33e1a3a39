"""What thousands of autoscalers remember, from columns straight to the lines of `state_json`.

The same texts, letter for letter, as of the records; conditions that many workloads share are put
into words once.

Importing this module loads NumPy: import it where it is used.
"""

from __future__ import annotations

import json

from fleet.rescaling.batch_specs import SpecBatch
from fleet.rescaling.batch_states import EventColumns, StateBatch, Told
from fleet.rescaling.state_json import VERSION

_WORDS = frozenset({Told.TEXT, Told.UNOBTAINABLE})
"""Codes whose words belong to one workload."""
_BY_METRIC = frozenset(range(Told.VALID, Told.NO_TARGET + 1))
"""Codes whose words name a metric of the spec."""


def encode_states(specs: SpecBatch, state: StateBatch) -> list[str]:
    """One line of JSON for each autoscaler, as `encode_autoscaler` writes it."""
    recommended = _pairs(state)
    ups, downs = _events(state.ups), _events(state.downs)
    told = state.told.tolist()
    keys = [
        (*codes, *arguments, *places)
        for codes, arguments, places in zip(
            told, state.argument.tolist(), state.place.tolist(), strict=True
        )
    ]
    shared: dict[tuple[object, ...], str] = {}
    lines = []
    for index, (codes, key) in enumerate(zip(told, keys, strict=True)):
        if _WORDS.isdisjoint(codes):
            named = specs.specs[index].metrics if not _BY_METRIC.isdisjoint(codes) else ()
            whole = (*key, specs.specs[index].namespace, named)
            conditions = shared.get(whole)
            if conditions is None:
                conditions = shared[whole] = _conditions(specs, state, index)
        else:
            conditions = _conditions(specs, state, index)
        parts = [
            f'"version":{VERSION}',
            recommended[index],
            ups[index] and f'"ups":{ups[index]}',
            downs[index] and f'"downs":{downs[index]}',
            conditions,
            '"seen":true' if state.seen[index] else "",
            _details(state, index),
        ]
        lines.append("{" + ",".join(filter(None, parts)) + "}")
    return lines


def _pairs(state: StateBatch) -> list[str]:
    """Recommendations of each workload; empty for none."""
    counts = state.recommendation_count.tolist()
    moments = state.recommendation_at_us.tolist()
    replicas = state.recommendation_replicas.tolist()
    return [
        '"recommendations":['
        + ",".join([f"[{at},{n}]" for at, n in zip(ats[:count], counts_of[:count], strict=True)])
        + "]"
        if count
        else ""
        for count, ats, counts_of in zip(counts, moments, replicas, strict=True)
    ]


def _events(columns: EventColumns) -> list[str]:
    """Changes of each workload in one direction; empty for none."""
    rows = zip(
        columns.count.tolist(),
        columns.at_us.tolist(),
        columns.change.tolist(),
        columns.outdated.tolist(),
        strict=True,
    )
    return [
        "["
        + ",".join(
            [
                f"[{at},{change},{int(outdated)}]"
                for at, change, outdated in list(zip(ats, changes, olds, strict=True))[:count]
            ]
        )
        + "]"
        if count
        else ""
        for count, ats, changes, olds in rows
    ]


def _conditions(specs: SpecBatch, state: StateBatch, index: int) -> str:
    found = [
        [one.type, one.status, one.reason, one.message] for one in state.conditions(specs, index)
    ]
    return f'"conditions":{json.dumps(found, separators=(",", ":"))}' if found else ""


def _details(state: StateBatch, index: int) -> str:
    details = state.details.get(index)
    return f'"details":{json.dumps(dict(details), separators=(",", ":"))}' if details else ""
