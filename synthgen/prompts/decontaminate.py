"""Which prompts repeat an evaluation set: overlap of word 13-grams (GPT-3, arXiv 2005.14165, appendix C)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from synthgen.config import PromptsConfig
from synthgen.errors import ConfigError
from synthgen.records import Messages

ENTRY_KEYS = ("path", "config", "split", "revision", "column")
"""Keys of an entry of `prompts.exclude`; they mean what they mean in `prompts`."""

NGRAM_WORDS = 13

# A word is a run of letters and digits; scripts that write no spaces (kana, Han) count each character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


class OverlapIndex:
    """The 13-grams of some texts. A text of fewer words counts as one gram, which only an equal text matches."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._grams = {gram for text in texts for gram in _iterate_grams(text)}

    def __contains__(self, text: str) -> bool:
        return bool(self._grams) and not self._grams.isdisjoint(_iterate_grams(text))


def list_excluded(entries: Sequence[Any]) -> list[PromptsConfig]:
    """Return what `prompts.exclude` names: a path alone, or an object with the keys of ENTRY_KEYS.

    Raises:
        ConfigError: an entry is neither.
    """
    return [_read_entry(entry) for entry in entries]


def _read_entry(entry: Any) -> PromptsConfig:
    if isinstance(entry, str):
        return PromptsConfig(path=entry)
    if not isinstance(entry, Mapping) or not entry.get("path"):
        raise ConfigError(f"prompts.exclude: {entry} must be a path, or {{path: …}} with {', '.join(ENTRY_KEYS[1:])}")
    for key in entry:
        if key not in ENTRY_KEYS:
            near = difflib.get_close_matches(str(key), ENTRY_KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(ENTRY_KEYS)}"
            raise ConfigError(f"prompts.exclude: {key} is not a key of an entry; {hint}")
    given: dict[str, Any] = {key: str(value) for key, value in entry.items() if value is not None and key != "path"}
    return PromptsConfig(path=entry["path"], **given)


def read_user_text(messages: Messages) -> str:
    """Return what the user says in a conversation, all turns in one text."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def _iterate_grams(text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower())
    if not words:
        return
    for start in range(max(1, len(words) - NGRAM_WORDS + 1)):
        yield " ".join(words[start : start + NGRAM_WORDS])
