"""The form that is enforced, the parser and the token budget agree with each other."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from synthgen.config import AspectConfig, Rationale
from synthgen.judge import ULTRAFEEDBACK_ASPECTS, Aspect, parse_ratings, resolve_aspect
from synthgen.judge.form import RATIONALE_CHARACTERS, make_format

ASPECTS = [
    *ULTRAFEEDBACK_ASPECTS.values(),
    resolve_aspect(AspectConfig(name="to-ten", rubric="How deep it goes.", min_rating=1, max_rating=10)),
    resolve_aspect(AspectConfig(name="russian", rubric="Оцените глубину.", min_rating=0, max_rating=3)),
]
EXAMPLE = re.compile(r"This is the rationale for text \d+\.")


def fill_slots(template: str, ratings: Sequence[str]) -> str:
    """Return the template with ratings for its placeholders."""
    return re.sub(r"\{(\d+)\}", lambda match: ratings[int(match[1])], template)


@pytest.mark.parametrize("rationale", list(Rationale))
@pytest.mark.parametrize("aspect", ASPECTS, ids=lambda aspect: aspect.name)
def test_make_format_template_matches_and_parses(aspect: Aspect, rationale: Rationale) -> None:
    for n in range(1, 17):
        form = make_format(aspect, n, rationale)
        ratings = [random.Random(n * 17 + k).choice(aspect.choices) for k in range(n)]
        text = fill_slots(form.template, ratings)

        parsed = parse_ratings(text, n, aspect)

        assert re.fullmatch(form.regex, text)
        assert parsed.status == "ok"
        assert parsed.ratings == tuple(map(int, ratings))


@pytest.mark.parametrize("rationale", [Rationale.full, Rationale.short])
@pytest.mark.parametrize("aspect", ASPECTS, ids=lambda aspect: aspect.name)
def test_make_format_admits_no_rationale_that_fools_the_parser(aspect: Aspect, rationale: Rationale) -> None:
    rng = random.Random(3)
    words = [
        "Output for Text 2",
        "Rating: 5",
        "Text 2: 5",
        "N/A",
        "**",
        "```",
        "> ",
        "- ",
        "think>",
        "é",
        "\u00ad",
        " ",
    ]
    for _ in range(100):
        n = rng.randint(1, 5)
        form = make_format(aspect, n, rationale)
        ratings = rng.choices(aspect.choices, k=n)
        hostile = "".join(rng.choices(words, k=rng.randint(1, 60)))[: RATIONALE_CHARACTERS[rationale]]
        text = EXAMPLE.sub(hostile, fill_slots(form.template, ratings))

        assert re.fullmatch(form.regex, text)
        assert parse_ratings(text, n, aspect).ratings == tuple(map(int, ratings))
        assert len(text.encode()) + 1 <= form.max_tokens


def test_make_format_budget_is_the_longest_match() -> None:
    aspect = ULTRAFEEDBACK_ASPECTS["honesty"]
    form = make_format(aspect, 2, Rationale.short)
    text = EXAMPLE.sub("é" * RATIONALE_CHARACTERS[Rationale.short], form.template)
    text = fill_slots(text, ["1", "5"])

    assert re.fullmatch(form.regex, text)
    assert len(text.encode()) + 1 == form.max_tokens
    assert not re.fullmatch(form.regex, text + "é")


def test_make_format_without_rationales_is_a_handful_of_tokens() -> None:
    form = make_format(ULTRAFEEDBACK_ASPECTS["helpfulness"], 4, Rationale.none)

    assert form.template == "Text 1: {0}\nText 2: {1}\nText 3: {2}\nText 4: {3}"
    assert form.max_tokens == 40


def test_make_format_tells_the_judge_nothing_beyond_ultrafeedback_for_full_rationales() -> None:
    assert make_format(ULTRAFEEDBACK_ASPECTS["honesty"], 2, Rationale.full).note == ""


@pytest.mark.parametrize(
    ("aspect", "n", "rationale"),
    [
        *[(aspect, 3, Rationale.short) for aspect in ASPECTS],
        *[(aspect, 16, Rationale.none) for aspect in ASPECTS],
        (ASPECTS[1], 2, Rationale.full),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_grammar_leads_random_tokens_to_a_judgement_within_budget(
    aspect: Aspect, n: int, rationale: Rationale, walker: GrammarWalker
) -> None:
    form = make_format(aspect, n, rationale)
    for bytes_only in (False, True):
        tokens, text = walker.walk(form.regex, random.Random(n), bytes_only=bytes_only)

        assert parse_ratings(text, n, aspect).status == "ok"
        assert tokens <= form.max_tokens


class GrammarWalker:
    """Draws tokens as an engine under a grammar does, all legal ones being equally likely."""

    def __init__(self) -> None:
        import xgrammar
        from transformers import AutoTokenizer

        from synthgen.models.tiny import ensure_tiny_model

        self._tokenizer = AutoTokenizer.from_pretrained(ensure_tiny_model())
        info = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer)
        self._size = info.vocab_size
        self._lengths = [len(token) for token in info.decoded_vocab]
        self._compiler = xgrammar.GrammarCompiler(info)

    def walk(self, regex: str, rng: random.Random, *, bytes_only: bool) -> tuple[int, str]:
        """Return (tokens, the end token included; text). `bytes_only`: single bytes only, where there are any."""
        import xgrammar

        matcher = xgrammar.GrammarMatcher(self._compiler.compile_regex(regex))
        mask = xgrammar.allocate_token_bitmask(1, self._size)
        drawn: list[int] = []
        while not matcher.is_terminated():
            matcher.fill_next_token_bitmask(mask)
            words = [word & 0xFFFFFFFF for word in mask[0].tolist()]
            legal = [token for token in range(self._size) if words[token >> 5] >> (token & 31) & 1]
            single = [token for token in legal if self._lengths[token] == 1] if bytes_only else []
            drawn.append(rng.choice(single or legal))
            assert matcher.accept_token(drawn[-1])
        return len(drawn), self._tokenizer.decode(drawn[:-1])


@pytest.fixture(scope="module")
def walker() -> GrammarWalker:
    """Return a walker over the tiny model's vocabulary."""
    pytest.importorskip("xgrammar")
    return GrammarWalker()
