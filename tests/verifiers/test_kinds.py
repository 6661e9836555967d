"""Each kind of verifier on texts that it must tell apart."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen.config import ScorerConfig
from synthgen.errors import ConfigError
from synthgen.verifiers.cases import Case, CheckError
from synthgen.verifiers.constraints import loosen, read_columns
from synthgen.verifiers.ifeval import INSTRUCTIONS, RELATIONS, BadConstraint, count_sentences, follows
from synthgen.verifiers.settings import make_check

PROMPT = [{"role": "user", "content": "Write a word."}]


def verify(completion: str, reference: str | None = None, metadata: Any = None, **config: Any) -> float | str | None:
    """Return the value, or the reason for none."""
    from importlib import import_module

    check = make_check("scorers.a", ScorerConfig(**config))
    verdict = import_module(check.kind.module).make(check.settings)(Case(PROMPT, completion, reference, metadata or {}))
    return verdict.reason if verdict.value is None else verdict.value


@pytest.mark.parametrize(
    ("reference", "completion", "value"),
    [
        ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "So there are 7 apples.\n#### 7", 1),
        ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "3 + 4 makes 8.\n#### 8", 0),
        ("work\n#### 70,000", "The profit is $70,000.", 1),
        ("work\n#### 18", "She makes 9 * 2 = 18 dollars, and 20 with tips. The answer is 18.", 1),
        ("work\n#### 18", "There are 18 ducks; she sells 20.", 0),
        (r"\frac{1}{2}", r"Thus \boxed{0.5}.", 1),
        (r"Adding both gives $x = \boxed{\frac{3}{4}}$.", r"Hence $\frac{6}{8}$.", 1),
        ("5", "no number at all", 0),
        (None, "7", "no_reference"),
        ("   ", "7", "no_reference"),
    ],
)
def test_math_compares_final_answers(reference: str | None, completion: str, value: float | str) -> None:
    assert verify(completion, reference, kind="math") == value


def test_regex_looks_in_the_whole_text() -> None:
    assert verify("a\nANSWER: 4", kind="regex", pattern=r"ANSWER: \d") == 1
    assert verify("answer: 4", kind="regex", pattern=r"ANSWER: \d") == 0
    assert verify("answer: 4", kind="regex", pattern=r"ANSWER: \d", ignore_case=True) == 1
    assert verify("x\ny", kind="regex", pattern="^y$") == 0


def test_exact_takes_the_last_match_of_extract() -> None:
    assert verify(" Paris \n", "Paris", kind="exact") == 1
    assert verify("It is Paris", "Paris", kind="exact") == 0
    assert verify("Answer: Rome\nAnswer: Paris", "paris", kind="exact", extract=r"Answer: (\w+)", ignore_case=True) == 1
    assert verify("Paris", "Paris", kind="exact", extract=r"Answer: (\w+)") == 0
    assert verify("Paris", kind="exact") == "no_reference"


def test_json_schema_takes_one_value_and_nothing_around_it() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    assert verify('{"a": 1}', kind="json_schema", schema=schema) == 1
    assert verify('```json\n{"a": 1}\n```', kind="json_schema", schema=schema) == 1
    assert verify('{"a": "1"}', kind="json_schema", schema=schema) == 0
    assert verify('Here: {"a": 1}', kind="json_schema", schema=schema) == 0
    assert verify("[NaN]", kind="json_schema") == 0
    assert verify("[1]", kind="json_schema") == 1


CONSTRAINTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["tea", "cup"]}, "A Cup of tea.", "A cup of coffee."),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "tea tea", "tea"),
    ("keywords:forbidden_words", {"forbidden_words": ["tea"]}, "A team.", "Tea, please."),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 2, "let_relation": "less than"}, "an", "banana"),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist ein ganz gewöhnlicher deutscher Satz.",
        "This is quite an ordinary English sentence.",
    ),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "One, v1.5.", "One. Two!"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at most"}, "one two three", "one two three four"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "First.\n\nThen, more.",
        "First.\n\nNow, more.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a] and b"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. Me too.", "Bye."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and b"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Tea>>\nA poem.", "Tea\nA poem."),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. I did.", "I did. Say it."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "Tea. That is all.", "That is all. Tea."),
    ("startend:quotation", {}, '"Tea."', '"Tea.'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "A BC d", "A b"),
    (
        "change_case:english_capital",
        {},
        "THIS IS QUITE AN ORDINARY SENTENCE ABOUT TEA.",
        "This is quite an ordinary sentence about tea.",
    ),
    (
        "change_case:english_lowercase",
        {},
        "this is quite an ordinary sentence about tea.",
        "This is quite an ordinary sentence about tea.",
    ),
    ("punctuation:no_comma", {}, "a and b", "a, b"),
]


@pytest.mark.parametrize(("id", "kwargs", "good", "bad"), CONSTRAINTS, ids=[one[0] for one in CONSTRAINTS])
def test_constraint_tells_a_good_text_from_a_bad_one(id: str, kwargs: dict[str, Any], good: str, bad: str) -> None:
    assert follows(id, kwargs, good, "prompt")
    assert not follows(id, kwargs, bad, "prompt")


def test_every_constraint_is_tried() -> None:
    assert sorted(one[0] for one in CONSTRAINTS) == sorted(INSTRUCTIONS)
    assert all(wanted(2, 2) or wanted(1, 2) or wanted(3, 2) for wanted in RELATIONS.values())


def test_constraints_come_from_the_columns_as_ifeval_has_them() -> None:
    columns = {
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{"num_words": None}, {"num_words": 2, "relation": "less than", "keywords": None}],
    }
    assert verify("one", metadata=columns, kind="constraints") == 1
    assert verify("one two", metadata=columns, kind="constraints") == 0.5
    assert verify("one, two", metadata=columns, kind="constraints") == 0
    assert verify("one", metadata={}, kind="constraints") == "no_constraints"
    as_text = {name: str(value).replace("'", '"').replace("None", "null") for name, value in columns.items()}
    assert read_columns(as_text) == read_columns(columns)


def test_constraints_of_a_prompt_that_cannot_be_checked_are_an_error() -> None:
    with pytest.raises(CheckError, match="keywords:all is not known"):
        verify("one", metadata={"instruction_id_list": ["keywords:all"]}, kind="constraints")
    with pytest.raises(BadConstraint, match="its arguments: num_words, relation"):
        follows("length_constraints:number_words", {"words": 3}, "one", "")


def test_loose_readings_forgive_what_stands_around() -> None:
    config = {"constraints": ["startend:quotation"], "kind": "constraints"}
    assert verify('Sure:\n"Tea."', **config) == 0
    assert verify('Sure:\n"Tea."', strict=False, **config) == 1
    assert len(loosen("a\n*b*\nc")) == 8


def test_sentences_end_before_white_space_only() -> None:
    assert [count_sentences(text) for text in ("", "One", "v1.5 is out. Yes!", "What?! No...")] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "scorers.a.kind is not set; give one of math, constraints,"),
        ({"kind": "maths"}, "scorers.a.kind='maths' is not known; did you mean math?"),
        ({"kind": "regex"}, "scorers.a.pattern is not set;"),
        ({"kind": "regex", "pattern": "("}, r"scorers.a.pattern='\(' is not a regular expression"),
        ({"kind": "exact", "extract": "["}, r"scorers.a.extract='\[' is not a regular expression"),
        ({"kind": "math", "pattern": "a"}, "scorers.a.pattern=a has no effect on kind=math; leave it out"),
        ({"kind": "json_schema", "schema": {"type": "nothing"}}, "scorers.a.schema is no JSON schema"),
        ({"kind": "json_schema", "schema": "/no/such.json"}, "scorers.a.schema=/no/such.json cannot be read"),
        ({"kind": "json_schema", "schema": [1]}, r"scorers.a.schema=\[1\] is no JSON schema; give a mapping"),
        ({"kind": "constraints", "constraints": [{"num_words": 1}]}, r"scorers.a.constraints\[0\]=.* has no id"),
        ({"kind": "constraints", "constraints": ["a:b"]}, r"scorers.a.constraints\[0\].id=a:b is not known"),
        (
            {"kind": "constraints", "constraints": [{"id": "keywords:existence", "words": ["a"]}]},
            r"scorers.a.constraints\[0\]: keywords:existence: .* its arguments: keywords",
        ),
        ({"kind": "python:no"}, "scorers.a.kind=python:no is not of the form <file.py>:<function>"),
        ({"kind": "python:/no/such.py:f"}, "scorers.a.kind: /no/such.py cannot be read"),
    ],
)
def test_settings_that_cannot_work_are_one_line(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        make_check("scorers.a", ScorerConfig(**config))
    assert "\n" not in str(error.value)


def test_own_file_is_looked_into_and_not_run(tmp_path: Any) -> None:
    path = tmp_path / "own.py"
    path.write_text("raise SystemExit('it ran')\ndef good(**_): return 1\n")
    make_check("scorers.a", ScorerConfig(kind=f"python:{path}:good"))
    with pytest.raises(ConfigError, match="has no function 'bad'; it has good"):
        make_check("scorers.a", ScorerConfig(kind=f"python:{path}:bad"))
    path.write_text("def good(:\n")
    with pytest.raises(ConfigError, match=r"own.py:1 is not Python"):
        make_check("scorers.a", ScorerConfig(kind=f"python:{path}:good"))
