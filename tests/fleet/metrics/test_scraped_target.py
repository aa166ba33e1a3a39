"""What a scrape means after the one before it."""

from __future__ import annotations

from fleet.metrics.exposition.numbers import ExpositionFormat
from fleet.metrics.labels import METRIC_NAME, metric_of
from fleet.metrics.levels import HOUR_MS
from fleet.metrics.samples import MetricType, SampleBatch, is_stale
from fleet.metrics.scraped_target import (
    AHEAD_MAX_MS,
    CREATED_AGE_MAX_MS,
    HOURS_MAX,
    REPORTS,
    ScrapedTarget,
    ScrapeResult,
)
from fleet.metrics.targets import make_target

TARGET = make_target("http://h:1/m", job="j", labels={"zone": "z"}, samples_max=5)
NOW = 1_800_000_000_000
REPORTED = {name for name, _ in REPORTS}


def shown(batch: SampleBatch) -> set[tuple[str, int, float | str]]:
    """Metric with its own labels, seconds after NOW, value; without the reports."""
    found: set[tuple[str, int, float | str]] = set()
    stale = is_stale(batch.values).tolist()
    columns = zip(
        batch.series_ids.tolist(), batch.ts_ms.tolist(), batch.values.tolist(), stale, strict=True
    )
    for one, ts_ms, value, is_marker in columns:
        labels = dict(batch.series[one].labels)
        assert (labels.pop("job"), labels.pop("instance"), labels.pop("zone")) == ("j", "h:1", "z")
        name = labels.pop(METRIC_NAME)
        if name not in REPORTED or is_marker:
            text = name + "".join(f" {key}={text}" for key, text in labels.items())
            found.add((text, (ts_ms - NOW) // 1000, "stale" if is_marker else value))
    return found


def reports(result: ScrapeResult) -> dict[str, float]:
    """The reports on the scrape, without its duration."""
    batch = result.batch
    pairs = zip(batch.series_ids.tolist(), batch.values.tolist(), strict=True)
    named = {dict(batch.series[one].labels)[METRIC_NAME]: value for one, value in pairs}
    short = {"scrape_samples_scraped": "scraped", "scrape_series_added": "added", "up": "up"}
    return {short[name]: value for name, value in named.items() if name in short}


class Watched:
    """A target that is scraped every 10 s."""

    def __init__(self) -> None:
        """Not scraped yet."""
        self.target = ScrapedTarget(TARGET)
        self.at_s = -10

    def answered(self, body: str, form: ExpositionFormat = ExpositionFormat.TEXT) -> ScrapeResult:
        """The next scrape gives a body; `;` stands for a line feed."""
        self.at_s += 10
        content = "".join(line + "\n" for line in body.split(";") if line).encode()
        return self.target.answered(content, form, NOW + self.at_s * 1000, 0.5)

    def failed(self) -> ScrapeResult:
        """The next scrape fails."""
        self.at_s += 10
        return self.target.failed("no answer", NOW + self.at_s * 1000, 0.5)

    def removed(self) -> ScrapeResult:
        """It is no longer scraped."""
        self.at_s += 10
        return self.target.removed(NOW + self.at_s * 1000)


def test_a_scrape_bears_its_time_and_reports_on_itself() -> None:
    """Samples, then what is known of the scrape."""
    watched = Watched()
    first = watched.answered("a 1;b 2")
    assert shown(first.batch) == {("a", 0, 1.0), ("b", 0, 2.0)}
    assert reports(first) == {"up": 1, "scraped": 2, "added": 2}
    assert (first.up, first.problems) == (True, ())
    second = watched.answered('a 3;c{job="x"} 4')
    assert shown(second.batch) == {
        ("a", 10, 3.0),
        ("c exported_job=x", 10, 4.0),
        ("b", 10, "stale"),
    }
    assert reports(second) == {"up": 1, "scraped": 2, "added": 1}


def test_the_interval_of_the_target_is_that_of_its_series() -> None:
    """Coverage is measured against it."""
    batch = Watched().answered("# TYPE a counter;# HELP a x;a 1").batch
    infos = {dict(info.labels)[METRIC_NAME]: info for info in batch.series.values()}
    assert (infos["a"].type, infos["a"].help) == (MetricType.COUNTER, "x")
    assert {info.interval_ms for info in infos.values()} == {15_000}


def test_a_target_that_is_down_ends_its_series_once() -> None:
    """And begins them again when it is back, without new ones being counted."""
    watched = Watched()
    watched.answered("a 1;b 2")
    down = watched.failed()
    assert shown(down.batch) == {("a", 10, "stale"), ("b", 10, "stale")}
    assert reports(down) == {"up": 0, "scraped": 0, "added": 0}
    assert down.problems == ("http://h:1/m: no answer",)
    assert shown(watched.failed().batch) == set()
    back = watched.answered("a 1;b 2")
    assert shown(back.batch) == {("a", 30, 1.0), ("b", 30, 2.0)}
    assert reports(back)["added"] == 0
    assert shown(watched.failed().batch) == {("a", 40, "stale"), ("b", 40, "stale")}


def test_a_body_with_a_wrong_line_is_a_failure_and_nothing_of_it_is_kept() -> None:
    """The problem names target and line."""
    watched = Watched()
    watched.answered("a 1")
    wrong = watched.answered("a 2;b x")
    assert shown(wrong.batch) == {("a", 10, "stale")}
    assert (wrong.up, reports(wrong)["up"]) == (False, 0)
    assert wrong.problems[0].startswith("http://h:1/m: line 2: 'b x'")


def test_a_body_with_too_many_samples_is_a_failure() -> None:
    """No target floods the store."""
    wrong = Watched().answered(";".join(f"a{n} 1" for n in range(6)))
    assert not wrong.up
    assert "exposes 6 samples; at most 5" in wrong.problems[0]


def test_a_removed_target_ends_its_series_and_its_reports() -> None:
    """Whether it was up or down."""
    watched = Watched()
    watched.answered("a 1")
    ended = {(name, 10, "stale") for name in REPORTED}
    assert shown(watched.removed().batch) == ended | {("a", 10, "stale")}
    watched = Watched()
    watched.failed()
    assert shown(watched.removed().batch) == ended
    assert len(Watched().removed().batch) == 0


def test_series_with_times_of_their_own_do_not_end() -> None:
    """As in Prometheus: they may come from elsewhere, and late."""
    watched = Watched()
    first = watched.answered(f"a 1 {NOW - 60_000};b 2")
    assert shown(first.batch) == {("a", -60, 1.0), ("b", 0, 2.0)}
    assert shown(watched.answered("").batch) == {("b", 10, "stale")}
    assert shown(watched.answered(f"a 1 {NOW}").batch) == {("a", 0, 1.0)}
    assert shown(watched.failed().batch) == set()


def test_samples_of_the_far_future_are_left_out_and_counted() -> None:
    """Ten minutes are tolerated; the other samples count."""
    limit = NOW + AHEAD_MAX_MS
    found = Watched().answered(f"a 1 {limit};b 2 {limit + 1};c 3 {limit + 10**9};d 4")
    assert {name for name, _, _ in shown(found.batch)} == {"a", "d"}
    assert (found.up, found.ahead) == (True, 2)
    assert "2 samples lie more than 10 minutes in the future" in found.problems[0]


def test_of_too_many_hours_in_one_scrape_the_newest_are_taken() -> None:
    """However late they are; those that are left out are told, and the target is up."""
    target = ScrapedTarget(TARGET._replace(samples_max=1000))
    times = [NOW - HOUR_MS * (1000 + number) for number in range(HOURS_MAX + 2)]
    body = "".join(f"a{number} 1 {ts_ms}\n" for number, ts_ms in enumerate(times))
    body += f"ahead 1 {NOW + 10 * HOUR_MS}\nleast 1 {1 - 2**63}\nnow 1\n"
    found = target.answered(body.encode(), ExpositionFormat.TEXT, NOW, 0.1)
    assert {row[0] for row in shown(found.batch)} == {
        "now",
        *(f"a{number}" for number in range(HOURS_MAX - 1)),
    }
    assert (found.up, found.ahead) == (True, 1)
    assert "4 samples lie behind the newest 48 hours of the scrape" in found.problems[1]


def test_a_sample_with_a_time_of_its_own_is_taken_once_as_long_as_it_is_told() -> None:
    """Its hour is not rolled up again and again; another value or time is another sample."""
    watched = Watched()
    early = NOW - 3_600_000
    seen = [
        shown(watched.answered(f"a {value} {early + later};b 2;c NaN {early}").batch)
        for value, later in ((1, 0), (1, 0), (5, 0), (5, 1000), (5, 1000))
    ]
    assert [sorted(row[0] for row in one) for one in seen] == [
        ["a", "b", "c"], ["b"], ["a", "b"], ["a", "b"], ["b"],
    ]  # fmt: skip
    watched.failed()
    assert shown(watched.answered(f"a 5 {early + 1000}").batch) == set()
    ahead = f"a 6 {NOW + watched.at_s * 1000 + AHEAD_MAX_MS + 15_000}"
    found = [bool(shown(watched.answered(ahead).batch)) for _ in range(3)]
    assert found == [False, True, False]


def test_repeated_samples_are_counted() -> None:
    """The first counts; both were exposed."""
    found = Watched().answered("a 1;a 2;b 3")
    assert shown(found.batch) == {("a", 0, 1.0), ("b", 0, 3.0)}
    assert (found.repeated, reports(found)["scraped"]) == (1, 3)
    assert "1 samples" in found.problems[0]


def counter(value: int, created_s: float) -> str:
    """A counter that began to count so many seconds after NOW."""
    began = NOW / 1000 + created_s
    return f"# TYPE c counter;c_total {value};c_created {began};# EOF"


OM = ExpositionFormat.OPENMETRICS


def test_a_series_that_began_lately_gets_a_zero_where_it_began() -> None:
    """Once; a restart in between begins again."""
    watched = Watched()
    assert shown(watched.answered(counter(5, -60), OM).batch) == {
        ("c_total", -60, 0.0),
        ("c_total", 0, 5.0),
    }
    assert shown(watched.answered(counter(7, -60), OM).batch) == {("c_total", 10, 7.0)}
    assert shown(watched.answered(counter(2, 15), OM).batch) == {
        ("c_total", 15, 0.0),
        ("c_total", 20, 2.0),
    }


def test_a_beginning_that_nobody_watched_gives_no_zero() -> None:
    """Too long ago, before the last sample of the series, or after the scrape."""
    early = -CREATED_AGE_MAX_MS / 1000 - 1
    assert len(shown(Watched().answered(counter(5, early), OM).batch)) == 1
    watched = Watched()
    watched.answered(counter(5, early), OM)
    assert len(shown(watched.answered(counter(6, -1), OM).batch)) == 1
    assert len(shown(watched.answered(counter(6, 3600), OM).batch)) == 1


def test_a_series_that_comes_back_gets_no_zero_between_its_samples() -> None:
    """A zero there would look like a reset."""
    watched = Watched()
    watched.answered(counter(5, -60), OM)
    watched.answered("x 1;# EOF", OM)
    assert shown(watched.answered(counter(6, -30), OM).batch) == {
        ("c_total", 20, 6.0),
        ("x", 20, "stale"),
    }
    watched.failed()
    assert shown(watched.answered(counter(6, 10), OM).batch) == {("c_total", 40, 6.0)}


def test_a_target_may_change_its_format_and_its_interval() -> None:
    """Series stay the same."""
    watched = Watched()
    watched.answered("a 1")
    other = watched.answered("a 2;# EOF", OM)
    assert shown(other.batch) == {("a", 10, 2.0)}
    assert reports(other)["added"] == 0
    watched.target.retarget(TARGET._replace(interval_ms=60_000))
    later = watched.answered("a 3;# EOF", OM)
    assert shown(later.batch) == {("a", 20, 3.0)}
    infos = [info for info in later.batch.series.values() if info.labels[0][1] == "a"]
    assert [info.interval_ms for info in infos] == [60_000]


def test_what_series_are_is_said_by_the_same_object_until_something_of_it_changes() -> None:
    """Who gets the batches need not look through it again; a new object may say the same."""
    watched = Watched()
    body = "# TYPE a counter\na 1\nb 2\n"
    said = [watched.answered(body).batch, watched.answered(body.replace("2", "3")).batch]
    assert said[0].series is said[1].series
    assert set(said[1].series_ids.tolist()) <= set(said[1].series)
    for other in (body + "c 1\n", "# TYPE a gauge\na 1\nb 2\n", "a 1\nb 2\n", "b 2\n"):
        said.append(watched.answered(other).batch)
        assert said[-1].series is not said[-2].series
        assert set(said[-1].series_ids.tolist()) <= set(said[-1].series)
        said.append(watched.answered(other).batch)
        assert said[-1].series is said[-2].series
    types = [
        {info.type for info in one.series.values() if metric_of(info.labels) == "a"} for one in said
    ]
    assert types[1] == {MetricType.COUNTER}
    assert types[5] == {MetricType.GAUGE}
    assert types[7] == {MetricType.UNKNOWN}


def test_a_target_that_was_down_says_anew_what_its_series_are() -> None:
    """And its failure says what those that end are."""
    watched = Watched()
    first = watched.answered("a 1\n").batch
    down = watched.failed().batch
    assert set(down.series_ids.tolist()) <= set(down.series)
    again = watched.answered("a 1\n").batch
    assert again.series is not first.series
    assert again.series.items() >= first.series.items()
