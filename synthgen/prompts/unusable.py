"""Rows that give no prompt, and texts that none can hold."""

from __future__ import annotations


class UnusableRowError(Exception):
    """A row gives no prompt; `reason` is the slug that is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_text(text: str) -> None:
    """Raise UnusableRowError for characters that tokenizers or files cannot take."""
    if "\0" in text:
        raise UnusableRowError("nul_character", "the text holds a NUL character")
    if not is_utf8(text):
        raise UnusableRowError("lone_surrogate", "the text holds half of a surrogate pair, which UTF-8 cannot write")


def is_utf8(text: str) -> bool:
    """Return whether `text` can be written as UTF-8 (JSON may hold half of a surrogate pair)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
