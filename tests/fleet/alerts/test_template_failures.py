"""Templates that cannot be expanded for some values, and formats of Go at their edges."""

from __future__ import annotations

import pytest

from fleet.alerts.go_format import go_float, go_printf, go_value
from fleet.alerts.templates import Outside, parse_template
from fleet.errors import InvalidInputError

OUTSIDE = Outside({"fleet": "f"}, "http://x")


def expanded(template: str) -> str:
    """For the label job=api and the value 1.5."""
    return parse_template(template).expand({"job": "api"}, 1.5, OUTSIDE)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ humanize true }}", "can't convert true to float"),
        ("{{ humanizeTimestamp 1e300 }}", "cannot be represented"),
        ("{{ gt $value 1 }}", "incompatible types"),
        ("{{ eq 1 }}", "missing argument"),
        ("{{ eq $labels $labels }}", "invalid type"),
        ("{{ lt true false }}", "a boolean has no order"),
        ("{{ index $labels 5 }}", "can't index"),
        ("{{ len 5 }}", "len of 5"),
        ("{{ toUpper 5 }}", "expected string; got 5"),
        ("{{ match `[` `a` }}", "error parsing regexp"),
        ("{{ reReplaceAll `a` `$9` `a` }}", "error in regexp"),
        ("{{ parseDuration `soon` }}", "soon"),
        ("{{ .Nothing }}", "can't evaluate field Nothing"),
        ("{{ $value.x }}", "can't evaluate field x"),
    ],
)
def test_a_template_that_fails_names_its_reason(template: str, says: str) -> None:
    """In the text of the alert, as Prometheus does."""
    text = expanded(template)
    assert text.startswith("<error expanding template: ")
    assert says in text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ externalURL }}", "http://x"),
        ("{{ humanizeTimestamp `NaN` }}", "NaN"),
        ("{{ parseDuration `1h` }}", "3600"),
        ("{{ stripDomain `a.b.c:90` }} {{ stripDomain `10.0.0.1:90` }} {{ stripDomain `a.b` }}",
         "a:90 10.0.0.1:90 a"),
        ("{{ stripPort `host` }} {{ stripPort `::1` }}", "host ::1"),
        ("{{ printf `%t|%5t|%d` true false true }}", "true|false|%!d(bool=true)"),
        ("{{ printf `%s` $labels }} {{ printf `%d` $labels }}",
         "map[job:api] %!d(map[string]string=map[job:api])"),
        ("{{ 'x' }}{{ '\\'' }}", "12039"),
        ('{{ "\\x41\\u00e9" }}', "A\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("{{ with $x := `v` }}{{ $x }}{{ . }}{{ end }}", "vv"),
        ("{{ nil }}", "<no value>"),
    ],
)  # fmt: skip
def test_what_promtool_cannot_show_is_written_as_go_writes_it(template: str, text: str) -> None:
    """Rarer than the conformance test's, and each once."""
    assert expanded(template) == text


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ if }}x{{ end }}", "a condition behind 'if'"),
        ("{{ with 1 }}{{ else if 2 }}{{ end }}", "'else' in a 'with'"),
        ("{{ $x = 1 }}", "undefined variable"),
        ("{{ and }}", "'and' and 'or'"),
        ("{{ (1 }}", "pairs"),
        ("{{ 1) }}", "pairs"),
        ("{{ , }}", "a value instead of"),
        ('{{ "a".b }}', "no field of"),
        ('{{ "\\q" }}', "escapes of Go"),
        ("{{ 'ab' }}", "one character"),
    ],
)
def test_what_does_not_parse_is_refused(template: str, says: str) -> None:
    """When the rule is loaded."""
    with pytest.raises(InvalidInputError, match=says):
        parse_template(template)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e-5, "1e-05"),
        (123456.0, "123456"),
        (1234567.0, "1.234567e+06"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_floats_have_the_fewest_digits_that_read_back(value: float, text: str) -> None:
    """Exponents from 1e6 on and below 1e-4."""
    assert go_value(value) == text
    assert float(go_float(value, "f")) == value


def test_printf_never_fails() -> None:
    """Verbs that do not fit stand in the text."""
    assert go_printf("%d %z %", [1.5]) == "%!d(float64=1.5) %!z(MISSING) %!(NOVERB)"
    assert go_printf("%.3s|%x|%X", ["abcdef", "hi", "hi"]) == "abc|6869|6869".replace(
        "6869", "6869"
    )
    assert go_printf("%c|%c", [65, -1]) == "A|\ufffd"
