"""What the one-line forms of errors say."""

from __future__ import annotations

from synthgen.errors import first_line, one_line


def test_first_line_is_the_first_that_says_something() -> None:
    assert first_line(ValueError("\n  no such key \nTraceback …")) == "no such key"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(ValueError("x" * 900), 10) == "x" * 10


def test_one_line_keeps_what_stands_further_down() -> None:
    assert one_line(ValueError("1 error for A\nfield\n  must be positive")) == "1 error for A field must be positive"
    assert one_line(ValueError("")) == "ValueError"
