"""The page in a real browser: no console message, no request, hostile text as text, at three widths in both colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synthgen.observe.view import make_html
from tests.observe.view.chromium import CHROMIUM, Page, open_chromium
from tests.observe.view.conftest import LONG_LINE

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium")

ARTICLES = "document.querySelectorAll('article').length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab: Page, tmp_path: Path, report: dict[str, Any], pairs: list[dict[str, Any]]) -> Page:
    """The tab with the page of the hostile report freshly loaded."""
    path = tmp_path / "report.html"
    path.write_text(make_html(report, judged(pairs)), encoding="utf-8")
    tab.problems.clear()
    tab.requests.clear()
    tab.resize(1200)
    tab.open(path)
    return tab


def judged(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rating = {"aspect": "helpfulness", "rating": 4, "expected": 3.75, "rationale": "rationale of the judge"}
    return [pair | {"chosen_judgements": [rating]} for pair in pairs]


def test_page_asks_for_nothing_and_reports_nothing(page: Page) -> None:
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main > section').length") == 8
    assert page.evaluate("document.querySelectorAll('img, iframe, main script').length") == 0


def test_page_may_not_run_or_load_anything_else(page: Page) -> None:
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked = 3'}))")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    assert page.evaluate("window.hacked") is None
    assert len([problem for problem in page.problems if "Content Security Policy" in problem]) >= 1


def test_page_shows_hostile_text_as_text(page: Page) -> None:
    text = page.evaluate("document.querySelector('article .turn .text').textContent")
    assert text.startswith("</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>")
    codes = page.evaluate("[...document.querySelectorAll('article .turn')][0].querySelectorAll('.code').length")
    assert codes == 6
    shown = page.evaluate(
        "[...document.querySelector('article .turn').querySelectorAll('.code')].map(n => n.textContent)"
    )
    assert shown == ["\\x00", "\\x1b", "\\u202e", "\\u202c", "\\u2028", "\\ufeff"]


def test_page_sets_right_to_left_text_from_the_right(page: Page) -> None:
    style = page.evaluate(
        "(() => { const s = getComputedStyle(document.querySelector('.side.rejected .text'));"
        " return [s.unicodeBidi, s.textAlign]; })()"
    )
    assert style == ["plaintext", "start"]


def test_page_clips_long_lines_and_shows_all_on_demand(page: Page) -> None:
    side = "document.querySelectorAll('article')[1].querySelector('.side.chosen')"
    assert page.evaluate(f"{side}.querySelector('.text').textContent.length") < 1000
    page.evaluate(f"{side}.querySelector('button').click()")
    assert page.evaluate(f"{side}.querySelector('.text').textContent") == LONG_LINE
    page.evaluate(f"{side}.querySelector('button').click()")
    assert page.evaluate(f"{side}.querySelector('.text').textContent.length") < 1000


def choose(page: Page, label: str, value: str) -> None:
    """Set the control with this label and let the page react."""
    page.evaluate(
        f"""(() => {{
          const labels = [...document.querySelectorAll('.tools label')];
          const label = labels.find(node => node.firstChild.textContent === {label!r});
          const control = label.querySelector('input, select');
          const option = [...(control.options || [])].find(one => one.textContent === {value!r});
          control.value = option ? option.value : {value!r};
          control.dispatchEvent(new Event('input'));
          control.dispatchEvent(new Event('change'));
          return new Promise(done => setTimeout(done, 200));
        }})()"""
    )


def test_page_finds_samples_by_words(page: Page) -> None:
    choose(page, "Search", "NEEDLE in")
    assert page.evaluate(ARTICLES) == 1
    assert page.evaluate("document.querySelector('mark').textContent") == "needle in"
    choose(page, "Search", "rationale of the judge")
    assert page.evaluate("document.querySelector('details.ratings').open") is True
    choose(page, "Search", ".*(")
    assert page.evaluate(ARTICLES) == 0
    assert "None of the 40 pairs fit" in page.evaluate("document.querySelector('[aria-live]').textContent")


def test_page_filters_by_source_model_and_margin(page: Page) -> None:
    choose(page, "Source", "<b>hostile</b>.jsonl")
    assert page.evaluate(ARTICLES) == 1
    choose(page, "Source", "all sources")
    choose(page, "Model", "model-b")
    assert page.evaluate("document.querySelector('[aria-live]').textContent").startswith("20 of 40")
    choose(page, "Model", "all models")
    choose(page, "Margin from", "2.3")
    choose(page, "to", "2.345")
    assert page.evaluate("document.querySelector('[aria-live]').textContent").startswith("5 of 40")


def test_page_orders_samples_and_shows_more(page: Page) -> None:
    assert page.evaluate(ARTICLES) == 12
    page.evaluate("[...document.querySelectorAll('button')].at(-1).click()")
    assert page.evaluate(ARTICLES) == 24
    choose(page, "Order", "largest margin first")
    assert page.evaluate("document.querySelector('article .head b').textContent") == "2.39"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_page_fits_the_window(page: Page, width: int, dark: bool) -> None:
    page.resize(width, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 200) is dark
    picture = page.screenshot()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", picture[16:20])[0] == width
    outside = page.evaluate(
        "[...document.querySelectorAll('main .block, main .sample')].filter(node =>"
        " node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === 'visible')"
        ".map(node => node.className + ': ' + node.textContent.slice(0, 60))"
    )
    assert outside == []
