"""What the card says, as values for its template: raw strings, which the template escapes, and `SafeMarkdown`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.config import (
    Config,
    ExportColumns,
    GeneratorTurns,
    JudgeLayout,
    ModelConfig,
    SamplingConfig,
    ScorerConfig,
)
from synthgen.config.own_files import public_own, split_own
from synthgen.config.public_names import call_model, name_public, public_location
from synthgen.config.saved import escape_interpolations
from synthgen.config.scorers import CLASSIFIER, CODE_MODEL, find_scorer_model, list_scorer_models, list_scorers
from synthgen.config.stage_names import JUDGE, name_generations, name_scores
from synthgen.pairs.combine import resolve_weights
from synthgen.publish.card_config import public_config, public_locations
from synthgen.publish.card_numbers import make_numbers
from synthgen.publish.card_proofs import describe_proof, list_proofs
from synthgen.publish.card_tables import format_value
from synthgen.publish.card_trainers import list_trainers
from synthgen.publish.licences import check_licences
from synthgen.publish.markup import SafeMarkdown, fence, plain

_ROWS = {
    "default": "a preference pair for DPO: `prompt`, `chosen`, `rejected`",
    "kto": "one completion for KTO: `prompt`, `completion`, `label`",
    "generations": "one completion with all of its judgements, paired or not",
    "sft": "the best completion of a prompt",
    "text": "a preference pair as plain strings",
    "hh": "a preference pair in the style of Anthropic's HH-RLHF",
    "ultrafeedback": "a preference pair with the columns of UltraFeedback",
    "conversations": "a preference pair, the prompt within `chosen` and `rejected`",
    "kto_conversations": "one completion for KTO, the prompt within `completion`",
    "sharegpt": "a preference pair in ShareGPT's form",
    "sharegpt_sft": "the best completion of a prompt in ShareGPT's form",
    "ranked": "a preference pair as `context` and ranked `completions`",
}


_MORE = {"default": ", models, scores, margin, token counts", "kto": ", score"}
"""What these have besides where `export.columns` leaves it."""


def make_content(report: Mapping[str, Any], config: Config, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of `card.md.jinja`."""
    licences = check_licences(config)
    made = (report.get("pairs") or {}).get("made")
    repo = plain(config.publish.repo_id, 100) if config.publish.repo_id else "PATH_OR_REPO"
    configs = _configs(dataset, repo, _MORE if config.export.columns is ExportColumns.all else {})
    return {
        "title": repo.rpartition("/")[2] if config.publish.repo_id else "Preference data",
        "summary": _summary(made, config),
        "caution": _caution(config),
        "configs": configs,
        "repo": shlex.quote(repo),
        "has_kto": any(entry["name"] == "kto" for entry in configs),
        "trainers": list_trainers([entry["name"] for entry in configs], repo, on_hub=bool(config.publish.repo_id)),
        "made": _made(report, config),
        "models": _models(config),
        "generators": _generators(config),
        "blocks": _blocks(config),
        **make_numbers(report),
        "licences": [
            (entry.name, public_location(entry.id), entry.license, ", ".join(entry.roles))
            for entry in licences.licences
        ],
        "notices": licences.notices,
        "proofs": list_proofs(report.get("proofs") or []),
        "proof_notes": [describe_proof(proof) for proof in report.get("proofs") or []],
        **make_reproduction(report, config),
    }


def _summary(made: Any, config: Config) -> str:
    what = f"{made:,} preference pairs" if isinstance(made, int) else "Preference pairs"
    generators = _join([call_model(one.model) or f"the authors of {name}" for name, one in config.generators.items()])
    judge, pairs = config.judge, config.pairs
    parts = [f"{generators or 'no model'} wrote the completions"]
    if judge.enabled:
        parts.append(f"{call_model(judge.model)} rated them for {_join(judge.aspects)}")
    if config.scorers:
        parts.append(f"{_join(list(config.scorers))} checked them")
    if pairs.policy == "by_generator":
        parts.append(f"those of {pairs.chosen_generator} were chosen over those of {pairs.rejected_generator}")
    return f"{what}: {', '.join(parts)}."


def _caution(config: Config) -> str:
    models = [generator.model for generator in config.generators.values() if generator.path is None]
    if len(models) == len(config.generators) and all(model.served_by.makes_text_up for model in models):
        return "No model took part: these are words without meaning, for trying things out."
    rated = " and rated" if config.judge.enabled else ""
    return f"The text is written{rated} by language models, not by people."


def _configs(dataset: Mapping[str, Any], repo: str, more: Mapping[str, str]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, int]] = {}
    for info in dataset.get("dataset_info") or []:
        splits = info.get("splits") or []
        rows[str(info.get("config_name"))] = {str(s.get("name")): s.get("num_examples") for s in splits}
    found = []
    for entry in dataset.get("configs") or []:
        name = str(entry.get("config_name"))
        splits = rows.get(name) or {str(f.get("split")): None for f in _data_files(entry)}
        extra = "" if name == "default" else f", {json.dumps(plain(name))}"
        described = [
            f"{split} ({count:,} rows)" if isinstance(count, int) else split for split, count in splits.items()
        ]
        row = SafeMarkdown(_ROWS[name] + more.get(name, "")) if name in _ROWS else ""
        call = f"load_dataset({json.dumps(repo)}{extra})"
        found.append({"name": name, "call": call, "cells": (name, row, ", ".join(described))})
    return found


def _data_files(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    files = entry.get("data_files")
    return [file for file in files if isinstance(file, Mapping)] if isinstance(files, list) else []


def _made(report: Mapping[str, Any], config: Config) -> list[tuple[str, str]]:
    judge, pairs, prompts = config.judge, config.pairs, config.prompts
    source = [public_locations(prompts.path), prompts.config, f"split {prompts.split}", prompts.revision]
    rules = [
        call_model(judge.model),
        f"rationale {judge.rationale.value}",
        judge.mode.value,
        *(["texts shown before the rubric"] if judge.layout is JudgeLayout.texts_first else []),
        f"each set in {judge.orders} order{'s' if judge.orders > 1 else ''}",
        *(["what the place adds taken out of the scores"] if judge.correct_place else []),
        "scored by the expected rating where log-probabilities exist" if judge.expected else "scored by the rating",
        "output constrained where the engine can" if judge.constrained else "output free",
    ]
    policy = [
        public_own(pairs.policy),
        *([f"chosen from {pairs.chosen_generator}"] if pairs.chosen_generator else []),
        *([f"rejected from {pairs.rejected_generator}"] if pairs.rejected_generator else []),
        *([f"chosen passes {_join(pairs.chosen_must_pass)}"] if pairs.chosen_must_pass else []),
        *([f"rejected fails {_join(pairs.rejected_must_fail)}"] if pairs.rejected_must_fail else []),
        *([f"the prompt passes {_join(pairs.prompt_must_pass)}"] if pairs.prompt_must_pass else []),
        *([f"the prompt fails {_join(pairs.prompt_must_fail)}"] if pairs.prompt_must_fail else []),
        *([f"lengths at most {pairs.max_length_gap} tokens apart"] if pairs.max_length_gap else []),
        f"margin >= {pairs.min_margin:g}",
        *([f"margin <= {pairs.max_margin:g}"] if pairs.max_margin else []),
        *([f"standard deviation of a prompt's scores <= {pairs.max_score_std:g}"] if pairs.max_score_std else []),
        f"at most {pairs.max_pairs_per_prompt} per prompt",
    ]
    versions = [f"{name} {version}" for name, version in (report.get("versions") or {}).items()]
    rows = [
        ("prompts", ", ".join(part for part in source if part)),
        (
            "models of a prompt",
            f"{config.generators_per_prompt} of {len(config.generators)}, drawn by hash"
            if config.generators_per_prompt
            else "",
        ),
        ("aspects", _join(judge.aspects) if judge.enabled else ""),
        ("judge", ", ".join(rules) if judge.enabled else "none"),
        ("scorers", "; ".join(f"{name}: {_scorer(one)}" for name, one in config.scorers.items())),
        ("stages of an own pipeline", _own_stages(report, config)),
        ("score", _score(config)),
        ("pair policy", ", ".join(policy)),
        ("KTO labels", _kto(report, config)),
        ("test split", f"{config.export.test_fraction:g} of the prompts, by prompt hash"),
        ("seed", str(config.run.seed)),
        ("versions", ", ".join(versions)),
        ("configuration fingerprint", str(report.get("config_fingerprint") or "")),
        ("git commit", str(report.get("git_commit") or "")),
    ]
    return [(name, value) for name, value in rows if value]


def _own_stages(report: Mapping[str, Any], config: Config) -> str:
    """Return the stages that the configuration does not name, and who made their tables."""
    known = {JUDGE, *map(name_generations, config.generators), *map(name_scores, config.scorers)}
    stages = (report.get("stages") or {}).items()
    return ", ".join(f"{name} ({stage.get('model')})" for name, stage in stages if name not in known)


def _models(config: Config) -> list[tuple[str, ...]]:
    used = [(f"generator {name}", one.model) for name, one in config.generators.items() if one.path is None]
    used += [("judge", config.judge.model)] if config.judge.enabled else []
    used += [(f"scorer {name}", model) for name, (_, model) in list_scorer_models(config.scorers).items()]
    return [(role, *_model(model)) for role, model in used]


def _scorer(scorer: ScorerConfig) -> str:
    own = split_own(scorer.kind)  # where it lies is the user's own business
    kind = f"the function {own[1]} of its maker's" if own else scorer.kind
    if (model := find_scorer_model(scorer)) is not None and model != CODE_MODEL:
        what = f"P({scorer.called_label})" if scorer.label else "reward" if scorer.type == CLASSIFIER else "P(safe)"
        kind = f"{what} of each {scorer.reads.value} by {call_model(model)}"
    return f"{kind or public_own(scorer.type)}, passes from {scorer.threshold:g} on"


def _score(config: Config) -> str:
    weights = resolve_weights(config.pairs, list_scorers(config))
    terms = " + ".join(f"{weight:g} × {name}" for name, weight in weights.items())
    scaled = " (each in standard deviations within prompts, of the first unit)" if len(weights) > 1 else ""
    length = ", what length adds taken out" if config.pairs.length_control else ""
    return (terms if len(weights) > 1 else "".join(weights)) + scaled + length


def _kto(report: Mapping[str, Any], config: Config) -> str:
    weights = resolve_weights(config.pairs, list_scorers(config))
    if not weights:
        return ""
    if "judge" in weights:
        kto, used = config.pairs.kto, (report.get("labels") or {}).get("kto") or {}
        high, low = used.get("high", kto.high), used.get("low", kto.low)
        if high is None or low is None:
            return f"the best {kto.desirable:.0%} desirable, the worst {kto.undesirable:.0%} not"
        return f"score >= {high:g} desirable, score <= {low:g} not"
    return f"what passes {_join(list(weights))} desirable, what fails not"


def _model(model: ModelConfig) -> tuple[str, ...]:
    adapters = [*([model.lora] if model.lora else []), *model.adapters.values()]
    served = f" with LoRA {', '.join(map(public_location, adapters))}" if adapters else ""
    engine = public_own(model.engine) + served
    name, model_id = call_model(model), name_public(model)
    if model.served_by.makes_text_up:
        return (name, model_id, "–", "–", engine, "–")
    return (name, model_id, model.revision or "not pinned", _quantization(model), engine, model.license)


def _quantization(model: ModelConfig) -> str:
    stored = model.architecture.get("quantization_config") or {}
    method = model.quantization or (stored.get("quant_method") if isinstance(stored, Mapping) else None)
    if method:
        return str(method)
    dtype = model.architecture.get("torch_dtype")
    return f"none ({dtype})" if dtype else "as the checkpoint says"


def _generators(config: Config) -> list[tuple[str, int | str, str]]:
    defaults = SamplingConfig()
    found: list[tuple[str, int | str, str]] = []
    for name, generator in config.generators.items():
        if generator.path is not None:
            paths = generator.path if isinstance(generator.path, list) else [generator.path]
            where = ", ".join(public_location(str(path)) for path in paths)
            found.append((name, "–", f"completions that existed: {where}"))
            continue
        shown = [
            f"{key} {value}" if isinstance(value, int | float) else f"{key} {format_value(value)}"
            for key, value in vars(generator.sampling).items()
            if key in ("temperature", "top_p", "max_tokens") or value != getattr(defaults, key)
        ]
        if generator.turns is GeneratorTurns.all:
            shown.append("answers the earlier turns of conversations, for all generators")
        found.append((name, generator.n, ", ".join(shown)))
    return found


def _blocks(config: Config) -> list[dict[str, str]]:
    """Return the user's own texts that shaped the data: system prompts, principles and rubrics."""
    blocks = [
        {"label": f"System prompt of {name}", "text": fence(generator.system_prompt)}
        for name, generator in config.generators.items()
        if generator.system_prompt
    ]
    principles: dict[tuple[str, ...], list[str]] = {}  # generators that share theirs are named together
    for name, generator in config.generators.items():
        if generator.principles:
            principles.setdefault(tuple(generator.principles), []).append(name)
    for texts, names in principles.items():
        listed = "\n".join(f"{place}. {text}" for place, text in enumerate(texts, 1))
        label = f"Principles of {_join(names)}: one is drawn for each completion, as its system prompt"
        blocks.append({"label": label, "text": fence(listed)})
    for name, aspect in config.judge.aspect.items():
        if config.judge.enabled and name in config.judge.aspects:
            label = f"Own rubric {aspect.name} (ratings {aspect.min_rating} to {aspect.max_rating})"
            blocks.append({"label": label, "text": fence(aspect.rubric)})
    return blocks


def make_reproduction(report: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the template's variables `config_yaml` and `version`."""
    import yaml

    # ASCII with escapes: what is shown is exactly what YAML reads back.
    text = yaml.safe_dump(escape_interpolations(public_config(config)), sort_keys=False, width=120)
    return {
        "config_yaml": fence(f"# @package _global_\n{text}".rstrip(), 100_000, "yaml"),
        "version": str((report.get("versions") or {}).get("synthgen") or ""),
    }


def _join(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(str(name) for name in names))
    return " and ".join([", ".join(unique[:-1]), unique[-1]]) if len(unique) > 1 else "".join(unique)
