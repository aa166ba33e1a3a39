"""Templates of rules: what Prometheus writes, we write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.alerts.templates import Outside, parse_template
from fleet.errors import InvalidInputError
from tests.servers.promtool import NOBODY, firing_alerts

OUTSIDE = Outside({"fleet": "night"}, "http://prometheus.example/x")
LABELS = {"__name__": "x", "job": "api", "instance": "host-1.example.org:9100", "empty_of": ""}

TEMPLATES = """
{{ $value }}
{{ .Value }} and {{ .Labels.job }} and {{ $labels.missing }}|
{{ $labels.job | toUpper | printf "%s!" }} {{ title "many words_here" }}
{{ humanize $value }} {{ $value | humanize1024 }} {{ $value | humanizeDuration }}
{{ humanizePercentage $value }} {{ printf "%.2f%%" $value }}
{{ printf "%5.1f|%-8.3f|%08.2f|%+.1f|% .1f" $value $value $value $value $value }}
{{ printf "%e %E %g %G %v %6.2e" $value $value $value $value $value $value }}
{{ printf "%d %s %q" $value $value $value }}
{{ printf "%d %5d %-5d| %05d %x %X %o %b %c %+d" 42 42 42 42 255 255 8 5 65 7 }}
{{ printf "%s %q %v %x %5s %-5s| %.2s %d" "a\\"b" "c\\n" "d" "ef" "g" "h" "ijk" "l" }}
{{ printf "%s" }} {{ printf "%s" "a" "b" 1 2.5 }} {{ printf "100%" }} {{ printf "%%" }}
{{ printf "%t %v" true false }} {{ printf "%z" 1 }} {{ print 1 2 "a" "b" 3 4 }} {{ println "a" 1 }}|
{{ if gt $value 1.0 }}more{{ else if eq $value 1.0 }}one{{ else }}less{{ end }}
{{ if and $labels.job (not $labels.missing) }}yes{{ end }}{{ if or $labels.missing "" }}no{{ end }}
{{ if $value }}true{{ else }}false{{ end }} {{ with $labels.job }}<{{ . }}>{{ else }}none{{ end }}
{{ $x := "outer" }}{{ if true }}{{ $x = "inner" }}{{ $y := 1 }}{{ $y }}{{ end }}{{ $x }}
a  {{- " b " -}}  c {{/* nothing */}} d {{- /* gone */ -}} e
{{ index $labels "job" }} {{ len $labels.job }} {{ eq "a" "b" "a" }} {{ ne 1 2 }} {{ lt 1 2 }}
{{ le 2 2 }} {{ ge 1 2 }} {{ gt "b" "a" }} {{ le $value $value }} {{ ge $value 0.5 }}
{{ $externalLabels.fleet }} {{ .ExternalLabels.fleet }} {{ $externalURL }}
{{ reReplaceAll "h(o)st-(\\\\d+)" "$2-${1}" $labels.instance }} {{ match "^host" $labels.instance }}
{{ stripPort $labels.instance }} {{ stripPort "[::1]:90" }}
{{ html "<a href='b'>&\\"" }} {{ urlquery "a b&c" }} {{ toLower "ABC" }}
{{ humanizeTimestamp 1435781430.781 }} {{ humanizeTimestamp 0 }} {{ humanizeTimestamp -1.5 }}
{{ 1e3 }} {{ 0x1F }} {{ -5 }} {{ 1.50 }} {{ `raw\\n` }} {{ "tab\\t" }} {{ 'x' }} {{ true }}
{{ (printf "%s-%s" "a" "b") | toUpper }} {{ "x" | printf "%s %s" "y" }}
{{ humanizeDuration "90061" }} {{ humanize "0.00012" }} {{ humanizeDuration -3700 }}
{{ $labels }}
{{ humanizeDuration 0.25 }} {{ humanizeDuration 59.99 }} {{ humanizePercentage 0.123456 }}
""".strip("\n").splitlines()

VALUES = "0 1 0.5 1234567.891 0.00012345 -42.125 1e18 123456 99999.5 3e-7 -0.75 90061.5 1e6 NaN Inf"


def test_templates_expand_to_what_promtool_expands_them_to(tmp_path: Path) -> None:
    """Every template under every value, as an annotation of a real rule."""
    words = {f"t{number:02}": text for number, text in enumerate(TEMPLATES)}
    rule = {"alert": "A", "expr": "x > 0 or x <= 0 or x != x", "annotations": words}
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    values = VALUES.split()
    inner = ",".join(f'{name}="{text}"' for name, text in LABELS.items() if name != "__name__")
    series = {"series": f"x{{{inner}}}", "values": " ".join(values)}
    test = {
        "name": "t",
        "interval": "1m",
        "input_series": [series],
        "external_labels": dict(OUTSIDE.labels),
        "external_url": OUTSIDE.url,
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": "A", "exp_alerts": [NOBODY]}
            for minute in range(len(values))
        ],
    }
    told = firing_alerts(tmp_path, {"rule_files": ["rules.yml"], "tests": [test]})
    assert len(told) == len(values)
    labels = {name: text for name, text in LABELS.items() if text}
    differ = []
    for text, found in zip(values, told, strict=True):
        ((_, theirs),) = found.alerts
        value = float(text)
        for name, expected in theirs:
            mine = parse_template(words[name]).expand(labels, value, OUTSIDE)
            if expected.startswith("<error expanding template"):
                assert mine.startswith("<error expanding template"), (words[name], value, expected)
            elif mine != expected:
                differ.append((words[name], value, mine, expected))
    assert differ == []


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ range query `up` }}{{ end }}", "'range'"),
        ("{{ query `up` | first | value }}", "'query'"),
        ("{{ template `x` }}", "'template'"),
        ("{{ nosuch 1 }}", "no function 'nosuch'"),
        ("{{ $nobody }}", r"undefined variable '\$nobody'"),
        ("{{ if true }}", "an 'end' for each 'if'"),
        ("{{ end }}", "without its beginning"),
        ("{{ else }}", "without its beginning"),
        ("{{ $value", "ends with }}"),
        ("{{ }}", "no empty action"),
        ("{{ $value | }}", "each side"),
        ("{{ (printf `a` }}", "pairs"),
        ("{{ humanize }}", "1 argument"),
        ("{{ $labels.job 5 }}", "no function"),
        ("{{ printf }}", "arguments of 'printf'"),
        ("{{ § }}", "no mark"),
    ],
)
def test_what_is_not_supported_is_refused_by_name_when_it_is_read(template: str, says: str) -> None:
    """A rule that would only say `<error ...>` at night is refused by day."""
    with pytest.raises(InvalidInputError, match=says):
        parse_template(template)


def test_a_template_that_fails_says_so_in_its_place() -> None:
    """An alert is raised with a bad text rather than not at all."""
    text = parse_template("{{ humanize $labels.job }}").expand({"job": "api"}, 1.0, OUTSIDE)
    assert text == "<error expanding template: can't convert 'api' to float>"


def test_a_template_knows_whether_it_depends_on_the_value() -> None:
    """Names of alerts are remembered only where labels alone decide them."""
    assert not parse_template("{{ $labels.a }}{{ .Labels.b }}{{ $externalURL }}").uses_value
    assert not parse_template("plain").uses_value
    for text in ("{{ $value }}", "{{ .Value }}", "{{ . }}", "{{ with 1 }}{{ . }}{{ end }}"):
        assert parse_template(text).uses_value
