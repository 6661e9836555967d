"""The card of a data set that a distilabel task made. In and out: as synthgen.publish.card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthgen.config import Config
from synthgen.config.public_names import call_model, name_public, public_location
from synthgen.publish.card import card_metadata, render_card
from synthgen.publish.card_config import public_locations
from synthgen.publish.card_content import make_reproduction
from synthgen.publish.licences import check_licences
from synthgen.publish.markup import fence, plain

TEMPLATE = Path(__file__).with_name("card_task.md.jinja")
TAGS = ("synthetic", "distilabel", "synthgen")


def make_task_card(report: Mapping[str, Any], config: Config, dataset: Mapping[str, Any]) -> str:
    """Return the text of README.md.

    Args:
        report: report.json of a task's run.
        dataset: `{"configs": [...], "dataset_info": [...]}`, the card's metadata as `datasets` reads them.
    """
    return render_card(TEMPLATE, _content(report, config, dataset), card_metadata(report, config, dataset, TAGS))


def _content(report: Mapping[str, Any], config: Config, dataset: Mapping[str, Any]) -> dict[str, Any]:
    task, prompts = config.task, config.prompts
    licences = check_licences(config)
    repo = plain(config.publish.repo_id, 100) if config.publish.repo_id else "PATH_OR_REPO"
    name = task.path.rpartition(".")[2]
    info = dataset["dataset_info"][0]
    stage = report["stages"]["task"]
    versions = [f"{package} {version}" for package, version in (report.get("versions") or {}).items()]
    source = [public_locations(prompts.path), prompts.config, f"split {prompts.split}", prompts.revision]
    made = [
        ("task", task.path),
        ("arguments", json.dumps(task.kwargs, ensure_ascii=False) if task.kwargs else ""),
        ("model", f"{call_model(task.model)} ({name_public(task.model)}, {task.model.revision or 'not pinned'})"),
        ("prompts", ", ".join(part for part in source if part)),
        ("completions per prompt", str(task.n)),
        ("sampling", f"temperature {task.sampling.temperature:g}, max_tokens {task.sampling.max_tokens}"),
        ("seed", str(config.run.seed)),
        ("versions", ", ".join(versions)),
    ]
    return {
        "title": repo.rpartition("/")[2] if config.publish.repo_id else f"{name} data",
        "summary": f"{stage['rows']:,} rows: distilabel's {name}, answered by {call_model(task.model)}.",
        "repo": json.dumps(repo),
        "splits": [(split["name"], split["num_examples"]) for split in info["splits"]],
        "columns": [(feature["name"], _name_type(feature)) for feature in info["features"]],
        "made": [row for row in made if row[1]],
        "numbers": _numbers(report, stage),
        "sample": _sample(report.get("sample_row")),
        "licences": [
            (entry.name, public_location(entry.id), entry.license, ", ".join(entry.roles))
            for entry in licences.licences
        ],
        "notices": licences.notices,
        **make_reproduction(report, config),
    }


def _numbers(report: Mapping[str, Any], stage: Mapping[str, Any]) -> list[tuple[str, Any]]:
    failures = sorted(stage["failures"].items())
    return [
        ("prompts used", report["prompts"]["kept"]),
        ("rows", stage["rows"]),
        *((f"of these {reason}", count) for reason, count in failures),
        ("input tokens", stage["input_tokens"]),
        ("output tokens", stage["output_tokens"]),
    ]


def _name_type(feature: Mapping[str, Any]) -> str:
    if "dtype" in feature:
        return str(feature["dtype"])
    inner = feature.get("list", feature.get("struct"))
    text = (
        inner if isinstance(inner, str) else ", ".join(f"{field['name']}: {_name_type(field)}" for field in inner or [])
    )
    return f"list of {text}" if isinstance(inner, str) else f"{'list of ' if 'list' in feature else ''}({text})"


def _sample(row: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if row is None:
        return []
    parts = [(f"Prompt, {turn['role']}", turn["content"]) for turn in row["prompt"]]
    hidden = {"prompt_id", "prompt", "error", "source", "metadata", "sample_index", "model_name"}
    for column, value in row.items():
        if column not in hidden:
            parts.append((column, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return [{"label": label, "text": fence(text)} for label, text in parts]
