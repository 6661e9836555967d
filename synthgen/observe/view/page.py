"""The page itself: a template, its style and scripts, and the data as a JSON block that no text can break out of.

The browser gets text only as text nodes (assets/text.js). A Content-Security-Policy that names the hashes of the one
script and the one style forbids everything else, so that the page can neither load nor send anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthgen.errors import ConfigError
from synthgen.export.manifest import read_manifest
from synthgen.export.proofs import read_proofs
from synthgen.ledger.run_dir import RunDir
from synthgen.observe.view.content import make_content
from synthgen.observe.view.samples import make_sample, sample_pairs
from synthgen.publish.markup import plain

ASSETS = Path(__file__).with_name("assets")
SCRIPTS = ("text.js", "charts.js", "lines.js", "samples.js", "page.js")

MAX_TEXT = 200_000
"""Characters of one text that the page holds; the data set has all of it."""
MAX_SAMPLES_TEXT = 8_000_000
"""Characters of all samples together: a page of some MB opens on a phone."""

_UNSAFE = re.compile("[<>&\u2028\u2029\x7f\ud800-\udfff]")


def make_html(report: Mapping[str, Any], pairs: Iterable[Mapping[str, Any]], noun: str = "pairs") -> str:
    """Return the page of a run as one HTML document that needs nothing else.

    Args:
        report: report.json; what it does not hold is left out of the page.
        pairs: the samples to browse, as `sample_pairs` returns them (see `make_sample` for other forms). Those that
            no longer fit within MAX_SAMPLES_TEXT are left out, and the page says how many.
        noun: what the samples are called.
    """
    samples, left_out = _fit(make_sample(pair) for pair in pairs)
    return render_page(make_content(report, samples, noun, left_out))


def render_page(content: Mapping[str, Any]) -> str:
    """Return a page of `title`, `state`, `facts`, `sections` (id, title, note, blocks) and `footer` as one document."""
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in SCRIPTS) + "})();\n"
    style = _asset("style.css")
    parts = {
        "title": html.escape(plain(content["title"])),
        "style": style,
        "style_hash": _csp_hash(style),
        "script": script,
        "script_hash": _csp_hash(script),
        "data": embed_json(content),
    }
    first, *rest = _asset("page.html").split("{{")
    pieces = [first]
    for part in rest:
        name, _, text = part.partition("}}")
        pieces += [parts[name], text]
    return "".join(pieces)


def write_page(run_dir: RunDir, report: Mapping[str, Any]) -> None:
    """Write `report.html`: the page of `report` with a sample of the rows that are in `dataset/`."""
    shown = {**report, "proofs": _read_proofs(run_dir)}
    page = make_html(shown, sample_pairs(run_dir), noun="pairs" if report.get("pairs") else "rows")
    run_dir.storage.replace("report.html", page.encode("utf-8", "backslashreplace"))


def _read_proofs(run_dir: RunDir) -> list[dict[str, Any]]:
    try:
        manifest = read_manifest(run_dir.storage)
    except ConfigError:  # damaged: who reads the data set says so
        return []
    return [] if manifest is None else read_proofs(run_dir.storage, manifest)


def embed_json(value: Any) -> str:
    """Return `value` as JSON that may stand inside `<script>`: valid UTF-8, without `<`, `>`, `&` and line separators.

    Numbers that JSON does not know (NaN, infinities) become null; lone surrogates are written as escapes.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _fit(samples: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the samples that fit on the page, and how many do not."""
    kept: list[dict[str, Any]] = []
    left_out = 0
    room = MAX_SAMPLES_TEXT
    for sample in samples:
        size = sum(_cut(holder, key) for holder, key in _texts(sample))
        if size > room:
            left_out += 1
            continue
        room -= size
        kept.append(sample)
    return kept, left_out


def _texts(sample: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for turn in sample["prompt"]:
        yield turn, "content"
    for completion in sample["completions"]:
        yield completion, "text"
        for rating in completion["ratings"]:
            if rating["rationale"]:
                yield rating, "rationale"
        for fact in completion["facts"]:
            yield fact, 1


def _cut(holder: Any, key: Any) -> int:
    """Cut a text that is too long, and return its length."""
    text = holder[key]
    if len(text) > MAX_TEXT:
        holder[key] = f"{text[:MAX_TEXT]}\n… (cut here: {len(text) - MAX_TEXT:,} more characters are in the data set)"
    return len(holder[key])


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
