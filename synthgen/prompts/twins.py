"""When two conversations are twins: they differ in white space, Unicode form or invisible characters at most."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from synthgen.records import Message, Messages, Tool, make_prompt_id

# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), without the tags that tell flags apart.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U000e0100-\U000e01ef]"
)


Item = TypeVar("Item")


def make_twin_id(messages: Messages, prompt_id: str, tools: Sequence[Tool] = ()) -> str:
    """Return an id that twins share: `make_prompt_id` of the conversation in normal form.

    `prompt_id`: of the conversation as it is.

    The normal form has no invisible characters, is in NFC (Unicode Standard Annex 15; NFKC would take x² for x2), and
    has one space where there is white space between words. The ids of calls are none of it: they are drawn at random.
    """
    normal = [_normalise_turn(turn) for turn in messages]
    return prompt_id if normal == list(messages) else make_prompt_id(normal, tools)


def _normalise_turn(turn: Message) -> Message:
    normal = Message(role=turn["role"], content=normalise(turn["content"]))
    if calls := turn.get("tool_calls"):
        normal["tool_calls"] = [_without_id(call) for call in calls]
    if name := turn.get("name"):
        normal["name"] = name
    return normal


def _without_id(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in call.items() if key != "id"}


def normalise(text: str) -> str:
    """Return the normal form of a text."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())


class Distinct(Generic[Item]):
    """Lets through the first of the items that count as the same.

    Args:
        known: ids of those that a run holds: each is let through once, whatever its twins.
        known_twins: their keys. Another item of such a key is held back: it is new where the known one never comes.
        keeps_removed: not even then, for the run keeps that one.

    Attributes:
        duplicates: items that were not let through.
        twins: of these, those of another id.
    """

    def __init__(self, known: Container[bytes], known_twins: Container[bytes], *, keeps_removed: bool) -> None:
        self._known = known
        self._known_twins = known_twins
        self._keeps_removed = keeps_removed
        self._ids: set[bytes] = set()
        self._keys: set[bytes] = set()  # those that are no id: most texts are their own normal form
        self._held: list[tuple[Item, bytes, bytes]] = []
        self.duplicates = 0
        self.twins = 0

    def take(self, item: Item, identity: bytes, key: bytes) -> bool:
        """Return whether an item is let through; `key`: equal for those that count as the same."""
        if identity in self._known and identity not in self._ids:
            self._add(identity, key)
            return True
        if identity not in self._ids and not self._has(key) and key in self._known_twins:
            self._held.append((item, identity, key))
            return False
        return self._is_new(identity, key)

    def take_held(self) -> Iterator[Item]:
        """Yield, after all items, those that were held back and are new."""
        for item, identity, key in self._held:
            if self._keeps_removed:
                self.duplicates += 1
                self.twins += 1
            elif self._is_new(identity, key):
                yield item

    def _is_new(self, identity: bytes, key: bytes) -> bool:
        seen = identity in self._ids
        if seen or self._has(key):
            self.duplicates += 1
            self.twins += not seen
            self._ids.add(identity)
            return False
        self._add(identity, key)
        return True

    def _has(self, key: bytes) -> bool:
        return key in self._ids or key in self._keys

    def _add(self, identity: bytes, key: bytes) -> None:
        self._ids.add(identity)
        if key != identity:
            self._keys.add(key)
