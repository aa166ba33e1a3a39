"""Puts what an observer knows into one sentence of plain English.

The sentences vary with the number of readings, not by chance: the same knowledge gives the same
sentence. They carry numbers and times, so that a search by meaning finds the moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stateroom_agent.observation import Observation
from stateroom_agent.running_statistics import RunningStatistics

UNUSUAL_DEVIATIONS = 3.0
UNUSUAL_MIN_READINGS = 12
"""With fewer readings nobody knows what is usual."""


class Wording(NamedTuple):
    """How one kind of observer speaks."""

    leading: str
    """Name of the quantity the sentences are about."""
    format_level: Callable[[float], str]
    high_level: float
    """At or above this a reading is noteworthy by itself."""
    smallest_change: float
    """Changes below this are not worth a word."""
    ordinary: Sequence[str]
    noteworthy: Sequence[str]


def percent(value: float) -> str:
    """`83 %`, and one decimal below ten."""
    return f"{value:.1f} %" if value < 9.95 else f"{value:.0f} %"


def data_rate(bytes_per_s: float) -> str:
    """`1.2 MB/s`; decimal units, as network equipment counts."""
    for unit in ("B/s", "kB/s", "MB/s", "GB/s"):
        if bytes_per_s < 999.5 or unit == "GB/s":
            break
        bytes_per_s /= 1000
    return f"{bytes_per_s:.1f} {unit}" if bytes_per_s < 9.95 else f"{bytes_per_s:.0f} {unit}"


def is_noteworthy(wording: Wording, statistics: RunningStatistics) -> bool:
    """Tell whether the last reading is high, or far from what has been usual."""
    if statistics.last >= wording.high_level:
        return True
    distance = abs(statistics.last - statistics.mean)
    return (
        statistics.count >= UNUSUAL_MIN_READINGS
        and distance >= wording.smallest_change
        and distance > UNUSUAL_DEVIATIONS * statistics.deviation()
    )


def compose_note(
    wording: Wording, observation: Observation, now_s: float, *, first: bool, place: str = ""
) -> str:
    """One sentence or two about the last reading.

    Args:
        wording: of the kind of observer.
        observation: with at least one reading.
        now_s: seconds since 1970; times in the sentence are UTC.
        first: the first note of this life; says so when there were earlier lives.
        place: what is observed, for example the path of a disk.
    """
    statistics = observation.statistics[wording.leading]
    unusual = is_noteworthy(wording, statistics)
    sentences = wording.noteworthy if unusual else wording.ordinary
    level = wording.format_level
    text = sentences[observation.tasks % len(sentences)].format(
        now=level(statistics.last),
        mean=level(statistics.mean),
        least=level(statistics.minimum),
        most=level(statistics.maximum),
        count=_count(statistics.count),
        clock=time.strftime("%H:%M UTC", time.gmtime(now_s)),
        day=time.strftime("%A", time.gmtime(now_s)),
        change=_change(wording, observation, statistics.last, now_s),
        relation=_relation(wording, statistics),
        place=place,
    )
    if first and observation.lives > 1:
        text += f" I am back after a restart, with {_count(statistics.count)} remembered."
    return text


def _change(wording: Wording, observation: Observation, now: float, now_s: float) -> str:
    earlier = observation.earlier(now_s)
    if earlier is None:
        return ""
    minutes = round(earlier.age_s / 60)
    ago = "an hour ago" if minutes >= 55 else f"{minutes} minutes ago"
    difference = now - earlier.value
    if abs(difference) < wording.smallest_change:
        return f", much as {ago}"
    direction = "more" if difference > 0 else "less"
    return f", {wording.format_level(abs(difference))} {direction} than {ago}"


def _relation(wording: Wording, statistics: RunningStatistics) -> str:
    distance = statistics.last - statistics.mean
    if abs(distance) < max(wording.smallest_change, statistics.deviation()):
        return "about what is usual here"
    return "more than usual" if distance > 0 else "less than usual"


def _count(readings: int) -> str:
    return "one reading" if readings == 1 else f"{readings} readings"


CPU = Wording(
    "busy_percent",
    percent,
    high_level=90.0,
    smallest_change=5.0,
    ordinary=(
        "The processors were {now} busy at {clock}{change}.",
        "At {clock} this machine worked at {now} of its CPU capacity, {relation}.",
        "CPU use has ranged from {least} to {most} so far; it stood at {now} at {clock}.",
        "A calm look at the load: {now} busy at {clock}, {mean} on average over {count}.",
        "On {day} at {clock} I saw {now} CPU use, {relation} after {count}.",
    ),
    noteworthy=(
        "CPU use stood out at {clock}: {now}, while the average of {count} is {mean}.",
        "Heavy or odd load at {clock}: the processors were {now} busy, against {mean} as a rule.",
    ),
)
MEMORY = Wording(
    "used_percent",
    percent,
    high_level=90.0,
    smallest_change=1.0,
    ordinary=(
        "Memory was {now} in use at {clock}{change}.",
        "At {clock} programs held {now} of the memory, {relation}.",
        "Between {least} and {most} of the memory has been taken so far; {now} at {clock}.",
        "{count} in, memory use averages {mean}; the latest, at {clock}, was {now}.",
        "On {day} at {clock} the machine used {now} of its RAM{change}.",
    ),
    noteworthy=(
        "Memory use stood at {now} at {clock}; the average of {count} is {mean}.",
        "Watch the memory: {now} was taken at {clock}{change}; usual is {mean}.",
    ),
)
DISK = Wording(
    "used_percent",
    percent,
    high_level=85.0,
    smallest_change=0.1,
    ordinary=(
        "Disk {place} was {now} full at {clock}{change}.",
        "At {clock} the file system at {place} had {now} of its space taken, {relation}.",
        "Disk {place} has been between {least} and {most} full so far; {now} at {clock}.",
        "Over {count}, {place} was {mean} full on average, and {now} at {clock}.",
        "On {day} at {clock} I found {now} of {place} in use{change}.",
    ),
    noteworthy=(
        "Disk {place} stands out: {now} full at {clock}{change}.",
        "Space on {place} needs attention: {now} was taken at {clock}; the average is {mean}.",
    ),
)
NETWORK = Wording(
    "bytes_per_s",
    data_rate,
    high_level=100e6,
    smallest_change=10e3,
    ordinary=(
        "The network carried {now} at {clock}{change}.",
        "At {clock} traffic in both directions came to {now}, {relation}.",
        "Traffic has ranged from {least} to {most} so far; it was {now} at {clock}.",
        "Network traffic averages {mean} over {count}; the latest, at {clock}, was {now}.",
        "On {day} at {clock} the interfaces moved {now}{change}.",
    ),
    noteworthy=(
        "A burst on the network at {clock}: {now}, while {mean} is the average of {count}.",
        "Network traffic was out of the ordinary at {clock}: {now} against {mean} as a rule.",
    ),
)
