"""Bodies, and what Prometheus says of each: the table that we and a real server are held to."""

from __future__ import annotations

from typing import NamedTuple

from tests.fleet.metrics.exposition.reading import OPENMETRICS, TEXT, ExpositionFormat


class Case(NamedTuple):
    """A body in one of the formats."""

    name: str
    body: str
    line: int | None = None
    """The line that is refused; None: the body is taken."""
    form: ExpositionFormat = TEXT
    differs: bool = False
    """We refuse what Prometheus 2.42 takes, or the other way round; the charter says why."""


def _om(name: str, body: str, line: int | None = None, *, differs: bool = False) -> Case:
    return Case(f"openmetrics, {name}", body, line, OPENMETRICS, differs)


TEXT_CASES = [
    Case("nothing", ""),
    Case("one sample", "a 1\n"),
    Case("no line feed at the end", "a 1"),
    Case("blank lines", "\n\na 1\n  \n"),
    Case("white space at the beginning, as the format's page allows", " \ta 1\n", differs=True),
    Case(
        "all other white space that is allowed",
        'a \t{ x \t= "y" , z="w" , } \t1 \t1700000000000 \t\n',
    ),
    Case("value right behind the brace", 'a{b="c"}5\n'),
    Case("colons in the name", ":a:b 1\n"),
    Case("comments that say nothing", "# hello\n#TYPE a wrong\n#\n# HELPER\na 1\n"),
    Case("numbers", "a 1e3\nb +1.5\nc -.5\nd 5.\ne 1E-3\nf 0\nh 1e-999\n"),
    Case("special numbers", "a NaN\nb nan\nc +Inf\nd -inf\ne Infinity\nf +iNfInItY\n"),
    Case("escapes", 'a{b="x\\\\y\\"z\\nw\\qv"} 1\n'),
    Case("characters beyond ASCII", 'a{b="ü☃\U0001f680"} 1\n'),
    Case("braces, blanks and hashes in values", 'a{b="} 5 # {x=\\"y\\"} 1"} 2\n'),
    Case("empty label", 'a{b=""} 1\n'),
    Case("empty braces", "a{} 1\n"),
    Case("same series twice, the first counts", "a 1\na 2\n"),
    Case("the same series in two spellings", 'a{b="1",c="2"} 1\na{c="2",b="1"} 2\n'),
    Case("an empty label makes no other series", 'a 1\na{b=""} 2\n'),
    Case("labels that the target has too", 'a{job="mine",instance="here",x="1"} 1\n'),
    Case("and the label they would move to", 'a{job="mine",exported_job="2"} 1\n'),
    Case("types", "# TYPE a counter\na 1\n# TYPE b untyped\nb 2\n# HELP c some \\\\ text\nc 1\n"),
    Case("type behind its samples", "a 1\n# TYPE a gauge\n"),
    Case("missing value", "a\n", 1),
    Case("missing value behind labels", 'b 1\na{x="1"}\n', 2),
    Case("no number", "a 1\nb one\n", 2),
    Case("underscore in a number", "a 1_000\n", 1),
    Case("hexadecimal", "a 0x10\n", 1),
    Case("signed NaN", "a +NaN\n", 1),
    Case("beyond a double", "a 1e999\n", 1),
    Case("number with a carriage return", "a 1\r\n", 1),
    Case("unclosed quote", 'a{b="c} 1\n', 1),
    Case("unclosed brace", 'a{b="c" 1\n', 1),
    Case("missing quotes", "a{b=c} 1\n", 1),
    Case("two commas", 'a{b="c",,d="e"} 1\n', 1),
    Case("comma first", 'a{,b="c"} 1\n', 1),
    Case("digit first in a label", 'a{1b="c"} 1\n', 1),
    Case("digit first in a name", "1a 1\n", 1),
    Case("dash in a name", "a-b 1\n", 1),
    Case("timestamp that is no whole number", "a 1 1.5\n", 1),
    Case("something behind the timestamp", "a 1 1000 2\n", 1),
    Case("exemplar in text", 'a 1 # {x="y"} 1\n', 1),
    Case("unknown type", "# TYPE a counters\na 1\n", 1),
    Case("no name behind TYPE", "# TYPE 1a counter\n", 1),
    Case("names in quotes", '{"a.b"} 1\n', 1),
    Case("the name as a label", 'a{__name__="b"} 1\n', 1),
    Case("a label twice", 'a{b="1",b="2"} 1\n', 1),
    Case("no comma between labels", 'a{b="1"c="2"} 1\n', 1, differs=True),
    Case("line feed inside of a value", 'a{b="1\n2"} 1\n', 1, differs=True),
    Case("time before 1970, as the format's page allows", "a 1 -1000\n", differs=True),
]

OPENMETRICS_CASES = [
    _om("nothing", "# EOF\n"),
    _om("no line feed at the end", "# EOF"),
    _om("one sample", "# TYPE a gauge\na 1\n# EOF\n"),
    _om("counter", "# TYPE a counter\n# HELP a x\na_total 1\n# EOF\n"),
    _om("unit", "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n"),
    _om("exemplar", '# TYPE a counter\na_total 1 # {t="x"} 0.5\na_total 2 # {} 1 1.5\n# EOF\n'),
    _om("stateset", '# TYPE s stateset\ns{s="a"} 1\ns{s="b"} 0\n# EOF\n'),
    _om("info", '# TYPE i info\ni_info{v="1"} 1\n# EOF\n'),
    _om("hash in a value", 'a{b=" # {"} 1\n# EOF\n'),
    _om("repeated", "a 1\na 2\n# EOF\n"),
    _om("no end", "a 1\n", 1),
    _om("nothing at all", "", 1, differs=True),
    _om("something behind the end", "a 1\n# EOF\nb 1\n", 3),
    _om("blank line behind the end", "a 1\n# EOF\n\n", 3),
    _om("blank line", "a 1\n\n# EOF\n", 2),
    _om("comment", "# hello\n# EOF\n", 1),
    _om("two blanks", "a  1\n# EOF\n", 1),
    _om("tab", "a\t1\n# EOF\n", 1),
    _om("blank inside of braces", 'a{b="c", d="e"} 1\n# EOF\n', 1),
    _om("comma at the end", 'a{b="c",} 1\n# EOF\n', 1),
    _om("value right behind the brace", 'a{b="c"}1\n# EOF\n', 1),
    _om("unit that is no suffix", "# UNIT a seconds\na 1\n# EOF\n", 1),
    _om("type of the other format", "# TYPE a untyped\na 1\n# EOF\n", 1),
    _om("infinite time", "a 1 +Inf\n# EOF\n", 1),
    _om("broken exemplar", "a_total 1 # {x} 1\n# EOF\n", 1),
    _om("exemplar without value", 'a_total 1 # {x="y"}\n# EOF\n', 1),
]
CASES = TEXT_CASES + OPENMETRICS_CASES
