"""The page as text: nothing that a run holds can break out of the JSON block."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from synthgen.observe.view import make_html
from synthgen.observe.view.page import MAX_SAMPLES_TEXT, MAX_TEXT, embed_json
from tests.observe.view.conftest import HOSTILE, make_pair


class Outline(HTMLParser):
    """Collects tags, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "title"):
            key = self.tags[-1][1].get("id") or self.tags[-1][0]
            self.texts[key] = self.texts.get(key, "") + data


def read_page(page: str) -> tuple[Outline, dict[str, Any]]:
    outline = Outline()
    outline.feed(page)
    return outline, json.loads(outline.texts["data"])


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_embed_json_gives_the_value_back_and_holds_no_markup(value: Any) -> None:
    text = embed_json(value)
    assert not re.search("[<>&\u2028\u2029]", text)
    text.encode()
    assert json.loads(text) == _without_infinities(value)


def test_embed_json_keeps_lone_surrogates() -> None:
    assert json.loads(embed_json("\ud800 alone")) == "\ud800 alone"


def test_make_html_keeps_hostile_text_in_the_data_alone(report: dict[str, Any], pairs: list[dict[str, Any]]) -> None:
    outline, data = read_page(make_html(report, pairs))
    scripts = [attributes for tag, attributes in outline.tags if tag == "script"]
    assert [s.get("type") for s in scripts] == ["application/json", None]
    assert not any(tag in ("img", "iframe", "object", "form", "b") for tag, _ in outline.tags)
    samples = data["sections"][-2]["blocks"][0]["samples"]
    assert samples[0]["completions"][0]["text"] == HOSTILE
    assert "script><img src=x onerror='window.hacked=2'><!-- &lt; NUL:\\x00 escape" in outline.texts["title"]


def test_make_html_names_nothing_outside_itself() -> None:
    page = make_html({"run_dir": "/runs/demo"}, [])
    code = page[: page.index('id="data"')] + page[page.index("</script>") :]
    assert re.findall(r"https?://[^\s\"']*", code) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(|src=|innerHTML|insertAdjacentHTML|document\.write|eval\(", code)


def test_make_html_of_an_empty_report_has_no_section() -> None:
    _, data = read_page(make_html({}, []))
    assert data["sections"] == []


def test_make_html_tolerates_any_absent_part(report: dict[str, Any]) -> None:
    for key in report:
        read_page(make_html({name: value for name, value in report.items() if name != key}, []))
    for key in report["trust"]:
        trust = {name: value for name, value in report["trust"].items() if name != key}
        read_page(make_html({**report, "trust": trust}, []))


def test_make_html_cuts_endless_texts_and_says_so() -> None:
    pair = make_pair(0, "q", "x" * (MAX_TEXT + 5), "short")
    _, data = read_page(make_html({}, [pair]))
    text = data["sections"][0]["blocks"][0]["samples"][0]["completions"][0]["text"]
    assert text.startswith("x" * MAX_TEXT + "\n… (cut here: 5 more characters")


def test_make_html_leaves_out_what_would_make_the_page_huge() -> None:
    many = MAX_SAMPLES_TEXT // MAX_TEXT + 3
    _, data = read_page(
        make_html({}, [make_pair(i, "", "x" * MAX_TEXT, "") for i in range(many)] + [make_pair(0, "q", "a", "b")])
    )
    block = data["sections"][0]["blocks"][0]
    assert len(block["samples"]) == many - 3
    assert block["note"] == "4 long ones are left out to keep the page small."


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_without_infinities(item) for item in value] if isinstance(value, list) else value
