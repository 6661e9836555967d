"""What a judgement must look like, by (aspect, n, rationale length): an expression that an engine can enforce, the most
tokens that it can take, a template for the echo engine, and what the judge is told about it.

The parser reads every text that the expression matches with status `ok`; a test holds the two together. `N/A` is read
but not offered: whether an aspect applies is a matter of the prompt, but a judge would say it of single texts, and
means over different aspects do not compare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from synthgen.config import Rationale
from synthgen.judge.aspects import Aspect

RATIONALE_CHARACTERS = {Rationale.full: 480, Rationale.short: 160}
"""Most characters of one rationale: UltraFeedback's "short sentences", or about 25 words."""

_LATIN = (r'[ !"$-;=-~\u00a1-\u024f]', 2)
_ANY_SCRIPT = (r'[ !"$-;=-~\u00a1-\ud7ff\uf900-\ufefe\uff00-\uffef]', 3)
"""Characters of a rationale, and the most UTF-8 bytes of one.

One line of printable characters, so that no rationale can hold a header; without `#` and `<`, with which headers and
special tokens begin. Latin script only, because the token budget of a character is its length in bytes: a byte-level
tokenizer may spell every byte with a token of its own. ASCII alone would halve the budget, but it cannot spell "naïve",
and xgrammar takes four times as long for it (280 against 70 µs per step and sequence, vocabulary of 131,072). Rubrics
in another script get rationales in any script of the basic plane.
"""

_NOTES = {
    Rationale.full: "",
    Rationale.short: "Keep each rationale to one sentence of at most 25 words.",
    Rationale.none: (
        "Give the ratings only, without rationales: one line for each text, in order, and nothing else. "
        "Write each line like this:\nText 1: [Rating]"
    ),
}


@dataclass(frozen=True, slots=True)
class JudgeFormat:
    """The form of one judgement.

    Attributes:
        regex: matches every judgement of this form and nothing else, in the syntax that xgrammar and `re` share.
        max_tokens: tokens that suffice for every match under any byte-level tokenizer, the end token included.
        template: a match, once `{0}` … `{n-1}` are replaced by ratings.
        note: what the judge is told at the end of its prompt; empty: nothing.
    """

    regex: str
    max_tokens: int
    template: str
    note: str


@lru_cache(maxsize=256)
def make_format(aspect: Aspect, n: int, rationale: Rationale) -> JudgeFormat:
    """Return the form of a judgement of `n` texts."""
    ratings = "|".join(aspect.choices)
    pieces: list[_Piece] = []
    for number in range(1, n + 1):
        if rationale is Rationale.none:
            pieces += _make_line(number, ratings, last=number == n)
        else:
            pieces += _make_section(number, ratings, aspect, rationale, last=number == n)
    return JudgeFormat(
        regex="".join(piece.regex for piece in pieces),
        max_tokens=sum(piece.max_bytes for piece in pieces) + 1,
        template="".join(piece.example for piece in pieces),
        note=_NOTES[rationale],
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a judgement: its expression, the most bytes of a match, and one match."""

    regex: str
    max_bytes: int
    example: str


def _literal(text: str) -> _Piece:
    return _Piece(re.sub(r"([/.])", r"\\\1", text).replace("\n", r"\n"), len(text.encode()), text)


def _slot(number: int, ratings: str) -> _Piece:
    longest = max(map(len, ratings.split("|")))
    return _Piece(f"({ratings})", longest, f"{{{number - 1}}}")


def _make_line(number: int, ratings: str, *, last: bool) -> list[_Piece]:
    """Return `Text k: r`. The last line ends, too: on a scale to 10 a text that ends in `1` might be cut off."""
    return [_literal(f"Text {number}: "), _slot(number, ratings), _literal("\n" if not last or "10" in ratings else "")]


def _make_section(number: int, ratings: str, aspect: Aspect, rationale: Rationale, *, last: bool) -> list[_Piece]:
    latin = aspect.rubric is None or max(aspect.rubric) <= "\u024f"
    characters, bytes_each = _LATIN if latin else _ANY_SCRIPT
    most = RATIONALE_CHARACTERS[rationale]
    line = [
        _literal("Rationale: "),
        _Piece(f"{characters}{{1,{most}}}", most * bytes_each, f"This is the rationale for text {number}."),
    ]
    kinds = _Piece("(None|[1-3](, [1-3]){0,2})", len("1, 2, 3"), "None")
    typed = [_literal("Type: "), kinds, _literal("\n"), *line, _literal("\n")] if aspect.has_type else []
    return [
        _literal(f"#### Output for Text {number}\n"),
        *typed,
        _literal("Rating: "),
        _slot(number, ratings),
        _literal("\n"),
        *line,
        _literal("" if last else "\n\n"),
    ]
