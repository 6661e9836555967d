"""IFEval's 25 kinds of instruction, each a function of the text and its own arguments (arXiv 2311.07911, table 5).

Names and arguments are those of the paper's code; its quirks that decide are kept: paragraphs are parted by `***`,
words are runs of \\w, postscripts and keywords are looked for without case. See synthgen.verifiers.constraints.

One file because it is one list.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from synthgen.verifiers.json_schema import parse_json

RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "at least": lambda found, wanted: found >= wanted,
    "less than": lambda found, wanted: found < wanted,
    "at most": lambda found, wanted: found <= wanted,
    "more than": lambda found, wanted: found > wanted,
    "exactly": lambda found, wanted: found == wanted,
}
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_SENTENCE = re.compile(r"[^\s.!?][^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*(?:[.!?]+|$)")


class BadConstraint(ValueError):
    """An instruction that cannot be checked: an unknown id, or arguments that it does not take."""


def follows(id: str, kwargs: Mapping[str, Any], text: str, prompt: str) -> bool:
    """Return whether `text` follows an instruction. Raises BadConstraint."""
    check = INSTRUCTIONS.get(id)
    if check is None:
        raise BadConstraint(f"{id} is not known; there are {', '.join(INSTRUCTIONS)}")
    wanted = inspect.signature(check).parameters
    given = dict(kwargs)
    if "prompt" in wanted:
        given.setdefault("prompt", prompt)
    try:
        inspect.signature(check).bind(text, **given)
    except TypeError as error:
        names = ", ".join(name for name in wanted if name not in ("text", "prompt")) or "none"
        raise BadConstraint(f"{id}: {error}; its arguments: {names}") from None
    try:
        return bool(check(text, **given))
    except (TypeError, ValueError, AttributeError) as error:
        raise BadConstraint(f"{id} with {dict(kwargs)}: {error}") from error


def count_words(text: str) -> int:
    """Return the number of words, as IFEval counts them."""
    return len(re.findall(r"\w+", text))


def count_sentences(text: str) -> int:
    """Return the number of sentences: pieces that end at . ! ? before white space, or with the text."""
    return len(_SENTENCE.findall(text))


def _compare(found: int, wanted: Any, relation: str) -> bool:
    if relation not in RELATIONS:
        raise ValueError(f"relation {relation!r} is not one of {', '.join(RELATIONS)}")
    return RELATIONS[relation](found, int(wanted))


def _split_paragraphs(text: str, by: str) -> list[str] | None:
    """Return the paragraphs, None where one in the middle is empty."""
    parts = re.split(by, text)
    if any(not part.strip() for part in parts[1:-1]):
        return None
    return [part for part in parts if part.strip()]


def _has_keywords(text: str, keywords: list[str]) -> bool:
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in keywords)


def _has_frequency(text: str, keyword: str, frequency: int, relation: str = "at least") -> bool:
    return _compare(len(re.findall(keyword, text, re.IGNORECASE)), frequency, relation)


def _lacks_words(text: str, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _has_letters(text: str, letter: str, let_frequency: int, let_relation: str = "at least") -> bool:
    return _compare(text.lower().count(letter.lower()), let_frequency, let_relation)


def _is_in_language(text: str, language: str) -> bool:
    try:
        import langdetect
    except ImportError as error:
        raise ValueError("it needs the package langdetect; install it with: pip install langdetect") from error
    langdetect.DetectorFactory.seed = 0  # or it draws
    try:
        return bool(langdetect.detect(text) == language)
    except langdetect.LangDetectException:  # nothing to go by, such as digits: IFEval lets it pass
        return True


def _has_sentences(text: str, num_sentences: int, relation: str = "at least") -> bool:
    return _compare(count_sentences(text), num_sentences, relation)


def _has_paragraphs(text: str, num_paragraphs: int) -> bool:
    parts = _split_paragraphs(text, r"\s?\*\*\*\s?")
    return parts is not None and len(parts) == int(num_paragraphs)


def _has_words(text: str, num_words: int, relation: str = "at least") -> bool:
    return _compare(count_words(text), num_words, relation)


def _has_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = [part for part in re.split(r"\n\n", text) if part.strip()]
    if len(parts) != int(num_paragraphs) or not 1 <= int(nth_paragraph) <= len(parts):
        return False
    word = parts[int(nth_paragraph) - 1].split()[0].lstrip("'\"")
    return re.split(r"[.,?!'\"]", word)[0].lower() == first_word.lower()


def _has_placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(num_placeholders)


def _has_postscript(text: str, postscript_marker: str = "P.S.") -> bool:
    marker = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(postscript_marker, postscript_marker.lower())
    return re.search(rf"\s*{marker}.*$", text.lower(), re.MULTILINE) is not None


def _has_bullets(text: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == int(num_bullets)


def _is_constrained(text: str) -> bool:
    return any(option in text.strip() for option in _CONSTRAINED)


def _has_highlights(text: str, num_highlights: int) -> bool:
    single = [one for one in re.findall(r"\*[^\n\*]*\*", text) if one.strip("*").strip()]
    double = [one for one in re.findall(r"\*\*[^\n\*]*\*\*", text) if one.strip("*").strip()]
    return len(single) + len(double) >= int(num_highlights)


def _has_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{section_spliter}\s?\d+\s?", text)) - 1 >= int(num_sections)


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _has_title(text: str) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _has_two_responses(text: str) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    answers = [part.strip() for part in parts if part.strip()]
    return len(answers) == 2 and answers[0] != answers[1]


def _repeats_prompt(text: str, prompt: str, prompt_to_repeat: str | None = None) -> bool:
    return text.strip().lower().startswith((prompt_to_repeat or prompt).strip().lower())


def _ends_with(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _is_quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _has_capitals(text: str, capital_frequency: int, capital_relation: str = "at least") -> bool:
    words = [word for word in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text) if word.isupper()]
    return _compare(len(words), capital_frequency, capital_relation)


def _is_upper(text: str) -> bool:
    return text.isupper() and _is_in_language(text.lower(), "en")


def _is_lower(text: str) -> bool:
    return text.islower() and _is_in_language(text, "en")


def _has_no_comma(text: str) -> bool:
    return "," not in text


INSTRUCTIONS: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": _has_keywords,
    "keywords:frequency": _has_frequency,
    "keywords:forbidden_words": _lacks_words,
    "keywords:letter_frequency": _has_letters,
    "language:response_language": _is_in_language,
    "length_constraints:number_sentences": _has_sentences,
    "length_constraints:number_paragraphs": _has_paragraphs,
    "length_constraints:number_words": _has_words,
    "length_constraints:nth_paragraph_first_word": _has_first_word,
    "detectable_content:number_placeholders": _has_placeholders,
    "detectable_content:postscript": _has_postscript,
    "detectable_format:number_bullet_lists": _has_bullets,
    "detectable_format:constrained_response": _is_constrained,
    "detectable_format:number_highlighted_sections": _has_highlights,
    "detectable_format:multiple_sections": _has_sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _has_title,
    "combination:two_responses": _has_two_responses,
    "combination:repeat_prompt": _repeats_prompt,
    "startend:end_checker": _ends_with,
    "startend:quotation": _is_quoted,
    "change_case:capital_word_frequency": _has_capitals,
    "change_case:english_capital": _is_upper,
    "change_case:english_lowercase": _is_lower,
    "punctuation:no_comma": _has_no_comma,
}
