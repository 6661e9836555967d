"""Scorers as the configuration names them, for whoever must know of them without building a stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from synthgen.config import Config, LongTexts, ModelConfig, ScorerConfig, ScorerInput

VERIFIER = "verifier"
"""`scorers.<name>.type` of a scorer that runs code."""
RECORDED = "recorded"
"""The same of one that reads what stands beside given completions."""
CLASSIFIER = "classifier"
"""The same of one whose model gives a text a class, or a reward."""
GUARD = "guard"
"""The same of one whose model writes whether a text is safe."""
CODE_MODEL = ModelConfig(name="code", id="code", engine="code", license="apache-2.0")
"""What serves verifiers: no model, but processes that run code. Equal for all of them, so that they share one pool."""


def find_scorer_model(scorer: ScorerConfig) -> ModelConfig | None:
    """Return what serves a scorer; None: one of the user's own, whose stage says.

    A classifier's checkpoint is served by vLLM's pooling runner where the entry names vLLM's other engine.
    """
    if scorer.type in (VERIFIER, RECORDED):
        return CODE_MODEL
    if scorer.type == CLASSIFIER and scorer.model.engine == "vllm":
        return replace(scorer.model, engine="pooling")
    return scorer.model if scorer.type in (CLASSIFIER, GUARD) else None


def list_scorer_models(scorers: Mapping[str, ScorerConfig], key: str = "scorers") -> dict[str, tuple[str, ModelConfig]]:
    """Return (dotted key of its model, model) of each scorer that has a model, by name."""
    with_model = {name: one for name, one in scorers.items() if one.type in (CLASSIFIER, GUARD)}
    found = {name: (f"{key}.{name}.model", find_scorer_model(one)) for name, one in with_model.items()}
    return {name: (place, model) for name, (place, model) in found.items() if model is not None}


def list_known_scorers(config: Config) -> list[str]:
    """Return the names of the scorers whose work is known by their configuration, in its order."""
    return [name for name, scorer in config.scorers.items() if find_scorer_model(scorer) is not None]


def list_recorded(config: Config) -> list[str]:
    """Return the names of the scorers that are what was recorded before."""
    return [name for name, scorer in config.scorers.items() if scorer.type == RECORDED]


def find_label(labels: Sequence[str], label: str) -> int | None:
    """Return the place of a label among a classifier's outputs, by its name or its number; None: there is none."""
    if label in labels:
        return list(labels).index(label)
    return int(label) if label.isdecimal() and int(label) < len(labels) else None


def looks_at_prompts(scorer: ScorerConfig) -> bool:
    """Return whether a scorer gives a prompt its value, and so tells nothing of its completions apart."""
    return scorer.type in (CLASSIFIER, GUARD) and scorer.reads is ScorerInput.prompt


def scores_answers(scorer: ScorerConfig) -> bool:
    """Return whether a scorer can score answers that were not there when the data was made."""
    return scorer.type != RECORDED and not looks_at_prompts(scorer)


def list_prompt_scorers(config: Config) -> list[str]:
    """Return the names of the scorers that look at prompts."""
    return [name for name, scorer in config.scorers.items() if looks_at_prompts(scorer)]


def list_scorers(config: Config) -> list[str]:
    """Return the names of all scorers of completions, the judge's first where there is one."""
    of_completions = [name for name, scorer in config.scorers.items() if not looks_at_prompts(scorer)]
    return [*(["judge"] if config.judge.enabled else []), *of_completions]


def list_misplaced_models(key: str, scorer: ScorerConfig) -> Iterator[str]:
    """Yield what is wrong where a scorer is given what only those with a model have; `key`: of the scorer."""
    if scorer.type in (VERIFIER, RECORDED) and scorer.model.name:
        yield (
            f"{key}.model={scorer.model.name} has no effect on {key}.type={scorer.type}, which has no model; "
            f"take scorer@{key}=guard, classifier or reward"
        )
    if scorer.long_texts is not LongTexts.refuse and scorer.type in (VERIFIER, RECORDED, GUARD):
        yield (
            f"{key}.long_texts={scorer.long_texts.value} is for classifiers, and {key}.type={scorer.type} is none; "
            "leave it out"
        )


def list_scoring_problems(key: str, scorer: ScorerConfig, place: str, model: ModelConfig) -> Iterator[str]:
    """Yield what a scorer with a model cannot do; `key`: of the scorer, `place`: of its model."""
    guard = scorer.type == GUARD
    if guard and model.served_by.classifies:
        yield f"{key}.type=guard needs a model that writes, and {place}={model.name} classifies; take scorer=classifier"
    if guard and scorer.reads is ScorerInput.conversation:
        yield f"{key}.reads=conversation: a guard sees the prompt beside a completion anyway; take reads=completion"
    if guard and scorer.label is not None:
        yield f"{key}.label={scorer.label} is for classifiers; a guard's value is the probability of safe: leave it out"
    if scorer.long_texts is not LongTexts.refuse and scorer.reads is ScorerInput.conversation:
        yield (
            f"{key}.long_texts={scorer.long_texts.value} cuts texts, and a whole conversation by a chat template has "
            f"no windows; leave it out, or take {key}.reads=prompt or completion"
        )
    if not guard and model.served_by.is_service:
        yield (
            f"{place}={model.name} is an endpoint, and an endpoint gives no logits of a classifier; take a checkpoint "
            "that this cluster serves"
        )
