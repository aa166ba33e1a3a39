"""A story says first what matters, and says the same of the same incident."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fleet.incident_story import duration_text, tell_incident
from fleet.incident_timeline import EntryKind, read_incident
from fleet.incidents import IncidentHeader, IncidentKind, IncidentState
from fleet.journal import JournalEntry
from tests.fleet.incident_records import act, ended, fact, header_of, later, night

GOLDEN = Path(__file__).parent.parent / "golden" / "incident_stories.txt"


def acting(header: IncidentHeader) -> IncidentHeader:
    """Something is being done about it."""
    return header._replace(state=IncidentState.ACTING)


def stories() -> list[tuple[str, list[str]]]:
    """Title and story of each kind of night."""
    node, region = header_of(), header_of("eu", IncidentKind.REGION)
    claimed = node._replace(
        acknowledged_at=later(60), acknowledged_by="kim", note="I am looking at the rack"
    )
    said = JournalEntry("i", "acknowledged", "done", "n", "kim: I am looking", later(60))
    approved = JournalEntry("i", "approved/evacuate/eu", "done", "eu", "lee: go", later(130))
    next_day = fact(EntryKind.SEEN, "back", "node-3 reports again.", 80_000)
    cases: list[tuple[str, IncidentHeader, list[JournalEntry], float]] = [
        ("just seen", node, night()[:2], 0.05),
        ("in the middle", acting(node), night()[:10], 2.0),
        ("a batch has failed", acting(node), night()[:9], 30.0),
        ("over", ended(claimed), [*night(), said], 600.0),
        (
            "a region waits for a person",
            region._replace(waits_for="evacuate_region:region/eu"),
            [fact(EntryKind.DECIDED, "wait", "all 12 nodes are silent", 120, "region_mode")],
            125.0,
        ),
        ("a region was approved", acting(region), [approved], 200.0),
        ("came back the next day", ended(node, 80_000, "it has come back"), [next_day], 90_000.0),
        (
            "the controller is frozen",
            header_of("controller", IncidentKind.CONTROLLER, "")._replace(
                waits_for="look at the store"
            ),
            [],
            7200.0,
        ),
    ]
    return [
        (title, tell_incident(read_incident(header, entries), later(now_s)))
        for title, header, entries, now_s in cases
    ]


def test_stories_read_as_written_down() -> None:
    """The golden file is what a person would be shown; read it when you change it."""
    text = "\n".join(f"== {title}\n" + "\n".join(lines) + "\n" for title, lines in stories())
    assert text == GOLDEN.read_text()


@given(st.lists(st.sampled_from(night()), max_size=20), st.floats(-10, 1e6))
def test_any_part_of_a_journal_can_be_told(entries: list[JournalEntry], now_s: float) -> None:
    """In any order, at any moment, also before it began: one line an act or fact, no blank one."""
    incident = read_incident(header_of(), entries)
    told = tell_incident(incident, later(now_s))
    lines = [line for line in told if line[2] == ":" and line[5] == ":"]
    assert len(lines) == len(incident.timeline)
    assert all(line.strip() and line.rstrip()[-1] in ".`" for line in told)


@given(st.floats(0, 1e9))
def test_a_duration_is_never_off_by_more_than_its_last_digit(seconds: float) -> None:
    """`95 s` and not `2 min`, `2 min` from two minutes on."""
    number, unit = duration_text(seconds).split()
    size = {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit]
    last = {"s": 0.1 if seconds < 10 else 1, "min": 1, "h": 0.1, "d": 0.1}[unit]
    assert abs(float(number) * size - seconds) <= last * size / 2 + 1e-6 * seconds
    assert unit == "s" or seconds >= 2 * size


def test_an_act_that_was_never_finished_says_for_how_long() -> None:
    """What hangs is seen in the story."""
    incident = read_incident(header_of(), [act("fence", "started", 0.0)])
    assert tell_incident(incident, later(95))[-1].endswith("still running after 95 s.")
