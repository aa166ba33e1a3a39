"""Probes of one observer as compact JSON: arrays in the order of `Probe`'s fields."""

from __future__ import annotations

import json

from fleet.names import validate_text
from fleet.probe_reports import Probe, ProbeOutcome

_OUTCOMES = {str(outcome): outcome for outcome in ProbeOutcome}


def encode_probes(probes: tuple[Probe, ...]) -> str:
    """A JSON array with one array per probe.

    Raises:
        InvalidInputError: a text that not every store can hold.
    """
    for probe in probes:
        validate_text("probe.detail", probe.detail)
    return json.dumps(probes, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode_probes(text: str) -> tuple[Probe, ...]:
    """What `encode_probes` wrote; an outcome of a newer writer reads as UNSURE."""
    return tuple(
        Probe(row[0], _OUTCOMES.get(row[1], ProbeOutcome.UNSURE), *row[2:6])
        for row in json.loads(text)
    )
