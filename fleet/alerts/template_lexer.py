"""Splits a template into text and actions, and an action into words, as Go's text/template does."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from fleet.errors import InvalidInputError

OPEN, CLOSE = "{{", "}}"
_WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<char>'(?:[^'\\\n]|\\.)+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
      | (?P<assign>:=|=)
      | (?P<variable>\$[A-Za-z0-9_]*)
      | (?P<field>\.[A-Za-z_][A-Za-z0-9_]*)
      | (?P<dot>\.)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<pipe>\|)
      | (?P<left>\()
      | (?P<right>\))
      | (?P<comma>,)""",
    re.VERBOSE | re.ASCII,
)
_COMMENT = re.compile(r"\{\{(?:- )?/\*.*?\*/(?: -)?\}\}", re.DOTALL)
_SPACE = " \t\r\n"


class Word(NamedTuple):
    """One word of an action."""

    kind: str
    text: str
    after_space: bool = False
    """Whether space stands before it: `$a.b` is a field of $a, `$a .b` two words."""


class Piece(NamedTuple):
    """Plain text, or the words of an action."""

    text: str
    words: tuple[Word, ...] | None = None


def refuse(template: str, why: str) -> InvalidInputError:
    """The error for a template that cannot be had."""
    return InvalidInputError("template", template[:200], why)


def split_template(template: str) -> list[Piece]:
    """Texts and actions in their order, comments left out, space beside `{{-` and `-}}` trimmed.

    Raises:
        InvalidInputError: an action does not end, or holds a mark that means nothing.
    """
    pieces: list[Piece] = []
    at, trim = 0, False
    while True:
        start = template.find(OPEN, at)
        text = template[at:] if start < 0 else template[at:start]
        text = text.lstrip(_SPACE) if trim else text
        if start < 0:
            pieces.append(Piece(text))
            return [piece for piece in pieces if piece.text or piece.words is not None]
        after = start + len(OPEN)
        mark, behind = template[after : after + 1], template[after + 1 : after + 2]
        if mark == "-" and behind and behind in _SPACE:
            text, after = text.rstrip(_SPACE), after + 1
        pieces.append(Piece(text))
        comment = _COMMENT.match(template, start)
        if comment is not None:
            at, trim = comment.end(), comment.group().endswith(" -}}")
            continue
        words, at, trim = _action(template, after)
        pieces.append(Piece("", words))


def _action(template: str, at: int) -> tuple[tuple[Word, ...], int, bool]:
    """The words from a position to `}}`, where the text goes on, and whether it is trimmed."""
    words: list[Word] = []
    spaced = False
    while True:
        if template.startswith(CLOSE, at):
            return tuple(words), at + len(CLOSE), False
        if spaced and template.startswith("-" + CLOSE, at):
            return tuple(words), at + 1 + len(CLOSE), True
        found = _WORD.match(template, at)
        if found is None:
            mark = template[at : at + 1]
            why = f"no mark {mark!r} in an action" if mark else "an action that ends with }}"
            raise refuse(template, why)
        kind = found.lastgroup or ""
        if kind == "space":
            spaced = True
        else:
            words.append(Word(kind, found.group(), spaced))
            spaced = False
        at = found.end()


def literal(word: Word) -> str | int | float:
    """The value of a text, character or number.

    Raises:
        InvalidInputError: an escape or number that means nothing.
    """
    if word.kind == "raw":
        return word.text[1:-1].replace("\r", "")
    if word.kind == "number":
        bare = word.text.lstrip("+-").lower()
        sign = -1 if word.text.startswith("-") else 1
        if bare.startswith("0x"):
            return sign * int(bare, 16)
        return sign * (int(bare) if bare.isdigit() else float(bare))
    inner = word.text[1:-1]
    if word.kind == "char":
        inner = inner.replace("\\'", "'").replace('"', '\\"')
    try:
        text = json.loads(f'"{_json_escapes(inner)}"', strict=False)
    except ValueError as error:
        raise refuse(word.text, "a text with the escapes of Go") from error
    if word.kind != "char":
        return str(text)
    if len(text) != 1:
        raise refuse(word.text, "one character between single quotes")
    return ord(text)


def _json_escapes(inner: str) -> str:
    """Go's escapes of a text as those of JSON."""

    def replace(found: re.Match[str]) -> str:
        mark = found.group()
        if mark[1] == "x":
            return f"\\u00{mark[2:]}"
        return {"\\a": "\\u0007", "\\v": "\\u000b"}.get(mark, mark)

    return re.sub(r"\\(?:x[0-9a-fA-F]{2}|.)", replace, inner)
