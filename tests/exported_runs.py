"""Runs that are ready to be exported, in memory: units of prompts, completions and judgements, and a card for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from judged_tables import make_completion, make_judgement, to_generations, to_judgements

from synthgen.config import Config
from synthgen.export import ExportResult, export_dataset
from synthgen.ledger.storage import LocalStorage
from synthgen.records import JUDGE, PROMPTS_SCHEMA, Kind, Tables, make_prompt_id, name_generations, stable_hash

HOSTILE = (
    '---\nlicense: mit\n---\n\n\nHuman: hi\n\nAssistant: yo <|eot_id|> \x00\x07 \u202e {{x}} é漢字🙂 "quoted" </b>'
)


def make_unit(unit: int, prompts: int = 8, generators: Sequence[str] = ("main",), n: int = 4, words: int = 6) -> Tables:
    """Return a unit of distinct prompts; ratings and texts depend on the prompt only, some rows fail or tie."""
    rows, completions, judgements = [], {name: [] for name in generators}, []
    for row in range(unit * prompts, unit * prompts + prompts):
        messages = [{"role": "user", "content": f"Question {row}?\n{HOSTILE if row % 7 == 0 else ''}"}]
        if row % 3 == 0:
            messages = [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi."},
                *messages,
            ]
        prompt_id = make_prompt_id(messages)
        rows.append(
            {
                "prompt_id": prompt_id,
                "messages": messages,
                "source": "questions.jsonl",
                "source_row": row,
                "reference": None,
                "metadata": f'{{"row":{row}}}',
            }
        )
        ratings: dict[str, int | None] = {}
        for name in generators:
            for sample in range(n):
                draw = stable_hash(row, name, sample)
                text = None if draw % 23 == 0 else " ".join(f"word{draw >> shift}" for shift in range(words))
                completions[name].append(make_completion(prompt_id, sample, text, generator=name))
                ratings[f"{name}:{sample}"] = 3 if row % 5 == 0 else 1 + draw % 5
        judgements.append(make_judgement(prompt_id, ratings, rationales=["Because."] * len(ratings)))
    return {
        "prompts": pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA),
        **{f"generate-{name}": to_generations(own) for name, own in completions.items()},
        "judge": to_judgements(judgements),
    }


def export_units(
    path: Path,
    units: int,
    config: Config | None = None,
    generators: Sequence[str] = ("main",),
    make: Callable[..., Tables] = make_unit,
) -> ExportResult:
    """Export `units` units to the run directory `path`, with a card that holds what the export says of its files."""
    storage = LocalStorage(path)
    made: dict[Kind, tuple[str, ...]] = {
        "generations": tuple(map(name_generations, generators)),
        "judgements": (JUDGE,),
    }
    result = export_dataset(
        storage, range(units), lambda unit: make(unit, generators=generators), made, config or Config()
    )
    header = yaml.safe_dump(result.dataset, sort_keys=False)
    storage.replace("dataset/README.md", f"---\n{header}---\n\n# A data set\n".encode())
    return result


def rows_of(path: Path, result: ExportResult, config: str, split: str = "train") -> list[dict[str, Any]]:
    """Return the rows of a config's split as the files hold them."""
    import pyarrow.parquet as pq

    files = [file.path for file in result.files if (file.config, file.split) == (config, split)]
    return [row for file in files for row in pq.read_table(path / file).to_pylist()]
