"""Templates of labels and annotations: the part of Go's text/template that rules use.

`{{ $labels.region }}`, `{{ $value | humanize }}`, `{{ printf "%.2f" $value }}`, `if`, `else if`,
`else`, `with`, `end`, variables, comments, trimmed space, `$externalLabels`, `$externalURL`.
Whatever else Go or Prometheus know is refused when the rule is loaded, by name.

A template is parsed once into closures; one that fails for certain values says so in its text, as
Prometheus does, and never keeps an alert from being raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.alerts.go_format import go_value
from fleet.alerts.template_functions import (
    ARITY,
    FUNCTIONS,
    UNSUPPORTED,
    TemplateFailedError,
    is_true,
)
from fleet.alerts.template_lexer import Piece, Word, literal, refuse, split_template
from fleet.errors import InvalidInputError

_LITERALS = {"string", "raw", "char", "number"}
_FIELDS = ("Labels", "ExternalLabels", "ExternalURL", "Value")
_GIVEN = {
    "$labels": "Labels",
    "$externalLabels": "ExternalLabels",
    "$externalURL": "ExternalURL",
    "$value": "Value",
}
"""Variables that every template begins with. Source: Prometheus, rules/alerting.go (`defs`)."""


class Scope:
    """What a template sees while it is expanded: the alert, its variables, and the dot."""

    __slots__ = ("data", "dot", "variables")

    def __init__(self, data: Mapping[str, Any]) -> None:
        """Begin with the variables that Prometheus gives."""
        self.data: Mapping[str, Any] = data
        self.dot: Any = data
        self.variables: dict[str, Any] = {"$": data}
        for name, field in _GIVEN.items():
            self.variables[name] = data[field]


Value = Callable[[Scope], Any]
Node = Callable[[Scope], str]


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A parsed template."""

    source: str
    nodes: tuple[Node, ...]
    constant: str | None
    """Its text where it has no action."""
    uses_value: bool
    """Whether the text may depend on the value, and not on labels alone."""

    def expand(self, labels: Mapping[str, str], value: float, outside: Outside) -> str:
        """The text for one element of a rule's result.

        Args:
            labels: of the element, `__name__` among them where it has one.
            value: of the element.
            outside: labels and address of this deployment.
        """
        if self.constant is not None:
            return self.constant
        data = {
            "Labels": labels,
            "ExternalLabels": outside.labels,
            "ExternalURL": outside.url,
            "Value": value,
        }
        try:
            scope = Scope(data)
            return "".join([node(scope) for node in self.nodes])
        except (TemplateFailedError, OverflowError, ValueError, TypeError) as error:
            return f"<error expanding template: {error}>"


@dataclass(frozen=True, slots=True)
class Outside:
    """What a deployment says of itself in each alert."""

    labels: Mapping[str, str]
    url: str = ""


def parse_template(source: str) -> Template:
    """Parse a template.

    Raises:
        InvalidInputError: it does not parse, or uses what is not supported; names it.
    """
    if "{{" not in source:
        return Template(source, (), source, uses_value=False)
    parser = _Parser(source, split_template(source))
    return Template(source, tuple(parser.body()), None, parser.uses_value)


class _Parser:
    """Reads pieces one after another."""

    def __init__(self, source: str, pieces: Sequence[Piece]) -> None:
        self.source = source
        self.pieces = pieces
        self.at = 0
        self.uses_value = False
        self.scopes: list[set[str]] = [{"$", *_GIVEN}]

    def body(self) -> list[Node]:
        """All nodes of the template."""
        nodes, end = self.until()
        if end is not None:
            raise refuse(self.source, f"no {end[0].text!r} without its beginning")
        return nodes

    def until(self) -> tuple[list[Node], tuple[Word, ...] | None]:
        """Nodes up to `else` or `end`, and its words; None at the end of the template."""
        nodes: list[Node] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            if piece.words is None:
                nodes.append(_text_node(piece.text))
                continue
            words = piece.words
            if not words:
                raise refuse(self.source, "no empty action {{ }}")
            if words[0].kind == "name" and words[0].text in {"else", "end"}:
                return nodes, words
            if words[0].kind == "name" and words[0].text in {"if", "with"}:
                nodes.append(self.branch(words))
            else:
                nodes.append(self.action(words))
        return nodes, None

    def action(self, words: Sequence[Word]) -> Node:
        """A pipeline whose value is written, or a variable that is set."""
        if len(words) > 1 and words[0].kind == "variable" and words[1].kind == "assign":
            setter = self.assignment(words)

            def silent(scope: Scope) -> str:
                setter(scope)
                return ""

            return silent
        value = self.pipeline(words)
        return lambda scope: go_value(value(scope))

    def assignment(self, words: Sequence[Word]) -> Value:
        """`$x := pipeline` or `$x = pipeline`; answers the value."""
        name = words[0].text
        value = self.pipeline(words[2:])
        if words[1].text == "=":
            self.known(name)
        else:
            self.scopes[-1].add(name)

        def assign(scope: Scope) -> Any:
            found = value(scope)
            scope.variables[name] = found
            return found

        return assign

    def known(self, name: str) -> None:
        """Refuse a variable that nobody has set."""
        if not any(name in scope for scope in self.scopes):
            raise refuse(self.source, f"no undefined variable {name!r}")

    def branch(self, words: Sequence[Word]) -> Node:
        """`if` or `with`, with what follows it up to its `end`."""
        keyword, rest = words[0].text, words[1:]
        if not rest:
            raise refuse(self.source, f"a condition behind {keyword!r}")
        self.scopes.append(set())
        assigns = len(rest) > 1 and rest[0].kind == "variable" and rest[1].kind == "assign"
        condition = self.assignment(rest) if assigns else self.pipeline(rest)
        then, end = self.until()
        otherwise: list[Node] = []
        if end is not None and end[0].text == "else":
            if len(end) > 1:
                if end[1].text != "if" or keyword != "if":
                    raise refuse(self.source, "'else' or 'else if' in an 'if', 'else' in a 'with'")
                otherwise = [self.branch(end[1:])]
                end = (Word("name", "end"),)
            else:
                otherwise, end = self.until()
        if end is None or end[0].text != "end":
            raise refuse(self.source, f"an 'end' for each {keyword!r}")
        self.scopes.pop()
        return _branch_node(condition, then, otherwise, moves_dot=keyword == "with")

    def pipeline(self, words: Sequence[Word]) -> Value:
        """Commands joined by `|`: each gets the value of the one before as its last argument."""
        value: Value | None = None
        for command in _split(words, self.source):
            value = self.command(command, value)
        assert value is not None, "a split has at least one part"
        return value

    def command(self, words: Sequence[Word], piped: Value | None) -> Value:
        """One call, or one value."""
        operands = self.operands(words)
        first = operands[0]
        if isinstance(first, str):
            return self.call(first, [self.argument(one) for one in operands[1:]], piped)
        if len(operands) > 1 or piped is not None:
            raise refuse(self.source, f"no arguments for {words[0].text!r}, which is no function")
        return first

    def argument(self, operand: Value | str) -> Value:
        """A function among the arguments is called without any."""
        return self.call(operand, [], None) if isinstance(operand, str) else operand

    def operands(self, words: Sequence[Word]) -> list[Value | str]:
        """Values, and names of functions, that follow one another."""
        found: list[Value | str] = []
        at = 0
        while at < len(words):
            word = words[at]
            if word.kind == "left":
                close = _closing(words, at, self.source)
                inner = words[at + 1 : close]
                operand: Value | str = self.pipeline(inner)
                at = close + 1
            else:
                operand = self.operand(word)
                at += 1
            while at < len(words) and words[at].kind == "field" and not words[at].after_space:
                operand = self.field(self.argument(operand), words[at].text[1:], word)
                at += 1
            found.append(operand)
        return found

    def operand(self, word: Word) -> Value | str:
        """One value that stands alone, or the name of a function."""
        if word.kind in _LITERALS:
            constant = literal(word)
            return lambda _: constant
        if word.kind == "variable":
            self.known(word.text)
            self.uses_value |= word.text not in {"$labels", "$externalLabels", "$externalURL"}
            name = word.text
            return lambda scope: scope.variables[name]
        if word.kind == "dot":
            self.uses_value = True
            return lambda scope: scope.dot
        if word.kind == "field":
            name = word.text[1:]
            self.uses_value |= name not in {"Labels", "ExternalLabels", "ExternalURL"}
            return lambda scope: _field(scope.dot, name)
        if word.kind == "name":
            return self.name(word.text)
        raise refuse(self.source, f"a value instead of {word.text!r}")

    def name(self, text: str) -> Value | str:
        """A constant by name, or a function that exists."""
        if text in {"true", "false", "nil"}:
            constant = {"true": True, "false": False, "nil": None}[text]
            return lambda _: constant
        if text in FUNCTIONS or text in {"and", "or", "externalURL"}:
            return text
        if text in UNSUPPORTED:
            raise refuse(self.source, f"templates without {text!r}, which Stateroom does not have")
        raise refuse(self.source, f"no function {text!r}; there are {', '.join(sorted(FUNCTIONS))}")

    def field(self, value: Value, name: str, word: Word) -> Value:
        """A field or key of a value."""
        if word.kind in _LITERALS:
            raise refuse(self.source, f"no field of {word.text!r}")
        return lambda scope: _field(value(scope), name)

    def call(self, name: str, arguments: Sequence[Value], piped: Value | None) -> Value:
        """A function on its arguments; the piped value comes last."""
        values = (*arguments, piped) if piped is not None else tuple(arguments)
        wanted = ARITY.get(name)
        if wanted is not None and len(values) != wanted:
            raise refuse(self.source, f"{wanted} argument(s) of {name!r}, not {len(values)}")
        if name == "externalURL":
            return lambda scope: scope.data["ExternalURL"]
        if name in {"and", "or"}:
            return _lazy(values, until=name == "or", source=self.source)
        if name in {"printf", "index", "eq"} and not values:
            raise refuse(self.source, f"arguments of {name!r}")
        function = FUNCTIONS[name]
        return lambda scope: function(*[value(scope) for value in values])


def _text_node(text: str) -> Node:
    return lambda _: text


def _branch_node(
    condition: Value, then: Sequence[Node], otherwise: Sequence[Node], *, moves_dot: bool
) -> Node:
    def run(scope: Scope) -> str:
        dot, variables = scope.dot, dict(scope.variables)
        found = condition(scope)
        true = is_true(found)
        if true and moves_dot:
            scope.dot = found
        text = "".join([node(scope) for node in (then if true else otherwise)])
        scope.dot = dot
        # What was declared inside ends here; what was set outside keeps its new value.
        scope.variables = {name: scope.variables[name] for name in variables}
        return text

    return run


def _lazy(values: Sequence[Value], *, until: bool, source: str) -> Value:
    """`and` and `or`: the first value that decides, else the last."""
    if not values:
        raise refuse(source, "arguments of 'and' and 'or'")

    def run(scope: Scope) -> Any:
        found = None
        for value in values:
            found = value(scope)
            if is_true(found) == until:
                break
        return found

    return run


def _field(value: Any, name: str) -> Any:
    """A field of what templates see, or a label: one that is missing is the empty text."""
    if isinstance(value, Mapping):
        if "Labels" in value and "ExternalURL" in value:
            if name not in _FIELDS:
                raise TemplateFailedError(f"can't evaluate field {name}; there are {_FIELDS}")
            return value[name]
        return value.get(name, "")
    raise TemplateFailedError(f"can't evaluate field {name} of {go_value(value)}")


def _split(words: Sequence[Word], source: str) -> list[Sequence[Word]]:
    """The commands of a pipeline; bars inside parentheses belong to those."""
    parts: list[Sequence[Word]] = []
    start, depth = 0, 0
    for at, word in enumerate(words):
        depth += (word.kind == "left") - (word.kind == "right")
        if word.kind == "pipe" and depth == 0:
            parts.append(words[start:at])
            start = at + 1
    parts.append(words[start:])
    if depth != 0 or not all(parts):
        raise refuse(source, "a value on each side of '|', and parentheses in pairs")
    return parts


def _closing(words: Sequence[Word], at: int, source: str) -> int:
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for position in range(at, len(words)):
        depth += (words[position].kind == "left") - (words[position].kind == "right")
        if depth == 0:
            return position
    raise refuse(source, "parentheses in pairs")


def check_template(source: str) -> str:
    """What is wrong with a template, as the end of "allowed: "; '' when nothing is."""
    try:
        parse_template(source)
    except InvalidInputError as error:
        return error.allowed
    return ""
