"""Raw judge texts that were recorded before in, judgements out; no engine takes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from synthgen.config import AspectConfig
from synthgen.errors import ConfigError
from synthgen.judge import parse_ratings
from synthgen.judge.aspects import Aspect, resolve_aspect
from synthgen.judge_eval.labelled import LabelledSet
from synthgen.judge_eval.tables import COMPLETION_IDS, make_pair_id
from synthgen.prompts.files import READERS, FileSource, data_suffix
from synthgen.prompts.rows import Row
from synthgen.records import JUDGEMENTS_SCHEMA

ORDERS = {"AB": (0, 1), "BA": (1, 0)}
"""`order` of a record → the 0-based place in which A and B were shown."""


def judgements_from_texts(
    labelled: LabelledSet,
    recorded_path: str,
    *,
    key: str = "recorded",
    aspect: str = "overall-rating",
    own_aspects: Mapping[str, AspectConfig] | None = None,
) -> pa.Table:
    """Return JUDGEMENTS_SCHEMA, one row per record, in the file's order.

    A record (a line of JSONL, or a row of any other format) has the fields
    - `id`: of the labelled pair (`LabelledPair.id`);
    - `order`: `AB` if A (chosen, output_1, response_A) was shown as Text 1, `BA` if it was shown as Text 2;
    - `text`: what the judge wrote, in the format of the aspect; null where it wrote nothing;
    - `aspect`, `judge_model`, `finish_reason` (`stop` or `length`): optional.
    The first record of a (judge_model, id, aspect) is repetition 0, the next one repetition 1, and so on.

    Args:
        key: the configuration key that holds the path, for messages.
        aspect: of records that name none.
        own_aspects: `judge.aspect`.

    Raises:
        ConfigError: the file cannot be read; a record lacks a field, or has an id, order or aspect that is not known.
    """
    path = Path(recorded_path).expanduser()
    if not path.is_file() or data_suffix(path) not in READERS:
        raise ConfigError(f"{key}={recorded_path} is no file of {', '.join(READERS)}")
    prompt_ids = {pair.id: make_pair_id(pair) for pair in labelled.pairs}
    seen: Counter[tuple[str, str, str]] = Counter()
    rows = []
    for row in FileSource(path, path.name).rows():
        if not isinstance(row, Row):
            raise ConfigError(f"{key}={recorded_path} line {row.line}: {row.message}")
        record = {"aspect": aspect, "judge_model": "recorded", **row.values}
        _check_record(record, prompt_ids, f"{key}={recorded_path} line {row.line}")
        identity, rated = str(record["id"]), str(record["aspect"])
        name = str(record["judge_model"]), identity, rated
        rows.append(_make_row(record, prompt_ids[identity], seen[name], resolve_aspect(rated, own_aspects)))
        seen[name] += 1
    return pa.Table.from_pylist(rows, schema=JUDGEMENTS_SCHEMA)


def _check_record(record: Mapping[str, Any], prompt_ids: Mapping[str, str], place: str) -> None:
    for field in ("id", "order", "text"):
        if field not in record:
            raise ConfigError(f"{place}: a record needs the fields id, order and text; {field} is missing")
    if record["order"] not in ORDERS:
        raise ConfigError(f"{place}: order={record['order']} must be {' or '.join(ORDERS)}")
    if str(record["id"]) not in prompt_ids:
        raise ConfigError(f"{place}: no labelled pair has the id {record['id']}")


def _make_row(record: Mapping[str, Any], prompt_id: str, repetition: int, aspect: Aspect) -> dict[str, Any]:
    text, slots = str(record["text"] or ""), ORDERS[record["order"]]
    finish_reason = record.get("finish_reason")
    truncated = None if finish_reason is None else finish_reason == "length"
    parsed = parse_ratings(text, len(slots), aspect, truncated=truncated)
    return {
        "prompt_id": prompt_id,
        "aspect": str(record["aspect"]),
        "repetition": repetition,
        "group": 0,
        "mode": "listwise",
        "judge_model": str(record["judge_model"]),
        "completion_ids": list(COMPLETION_IDS),
        "slots": list(slots),
        "ratings": [parsed.ratings[slot] for slot in slots],
        "expected": [None] * len(slots),
        "rationales": [None] * len(slots),
        "status": parsed.status,
        "raw_text": text.encode("utf-8", "replace").decode(),
        "attempts": 1,
        "finish_reason": finish_reason,
        "error": None if parsed.status != "invalid" else _explain(text, truncated),
    }


def _explain(text: str, truncated: bool | None) -> str:
    """Return why a text without any rating has none."""
    if not text.strip():
        return "no_text"
    return "judgement_cut_off" if truncated else "unparsable"
