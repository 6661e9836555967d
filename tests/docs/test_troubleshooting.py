"""docs/troubleshooting.md quotes messages that exist, and every error that a user can meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "…"
VALUE = "\0"  # stands for what is filled in

# Raised at users; other classes are for single rows (their reasons are listed) or for programming errors.
SHOWN = {
    "ConfigError", "RunFailedError", "RunStoppedError", "PublishError", "StorageError",
    "MissingExtraError", "DoesNotFitError",
}  # fmt: skip


def read_template(node: ast.expr) -> str | None:
    """Return the text of a string expression with VALUE for what is filled in, None for other expressions."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(VALUE if isinstance(part, ast.FormattedValue) else str(part.value) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (read_template(node.left) or VALUE, read_template(node.right) or VALUE)
        return "".join(parts)
    return None


@cache
def parse_sources() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.glob("synthgen/**/*.py"))
    }


@cache
def all_templates() -> list[str]:
    found = (
        read_template(node)
        for tree in parse_sources().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.expr)
    )
    return [template for template in found if template]


def shown_templates() -> Iterator[tuple[str, str]]:
    """Yield (place, template) of what is raised at users, and of what `validate` yields."""
    for path, tree in parse_sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOWN and node.args:
                template = read_template(node.args[0])
            elif isinstance(node, ast.Yield) and path.endswith("validate.py") and node.value is not None:
                template = read_template(node.value)
            else:
                continue
            # What is passed on from elsewhere, or says too little to be looked up, has no line of its own.
            if template and sum(letter.isalpha() for letter in template.replace(VALUE, "")) >= 6:
                yield f"{path}:{node.lineno}", template


def quoted_messages() -> list[str]:
    """Return the messages of the page: its headings that are code."""
    headings = re.findall(r"^### (`+)(.+?)\1$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [heading.strip() for _, heading in headings]


def matches(message: str, template: str) -> bool:
    """Whether the constant parts of `message` stand in `template` in their order."""
    parts = [re.escape(part.strip()) for part in message.split(GAP) if part.strip()]
    return re.search(".*".join(parts), template, re.DOTALL) is not None


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_message_exists(message: str) -> None:
    assert any(matches(message, template) for template in all_templates())


def test_every_error_has_a_heading_that_a_search_finds() -> None:
    """The longest part of a message that holds no value stands in the heading to the letter."""
    messages = quoted_messages()
    missing = []
    for place, template in shown_templates():
        fixed = max(template.split(VALUE), key=len).strip()
        if not any(fixed in message and matches(message, template) for message in messages):
            missing.append(f"{place}: ### `{template.replace(VALUE, GAP)}`")
    assert not missing, "add to docs/troubleshooting.md:\n" + "\n".join(missing)


def test_every_heading_is_followed_by_what_helps() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Command line")[2]
    for section in re.split(r"^## ", page, flags=re.MULTILINE):
        blocks = re.split(r"^### .*$", section, flags=re.MULTILINE)
        assert blocks[-1].strip(), f"the last heading of a section has no text: {section[-200:]}"


def listed_reasons() -> list[str]:
    """Return the slugs in the paragraphs that list the reasons of rows and requests."""
    paragraphs = re.findall(r"^Reasons of .*?\n\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(paragraphs) == 2
    return sorted(set(re.findall(r"`([a-z_]+)`", "".join(paragraphs))) - {"max_tokens"})


@pytest.mark.parametrize("reason", listed_reasons())
def test_listed_reason_exists(reason: str) -> None:
    assert reason in all_templates()
