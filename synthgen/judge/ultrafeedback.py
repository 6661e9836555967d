"""The judge's prompt: distilabel's UltraFeedback task writes it (`format_input` as it is), for own rubrics too.

The task is used without its pipeline: a stub stands for its model. See arXiv 2310.01377 for the rubrics.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from synthgen.config import JudgeLayout
from synthgen.errors import ConfigError
from synthgen.judge.aspects import Aspect
from synthgen.judge.render import quote_rubric_marks
from synthgen.records import Message, stable_hex
from synthgen.tasks.stub import loading, make_stub

if TYPE_CHECKING:
    from distilabel.steps.tasks import UltraFeedback

_OWN_RUBRIC_BASE = "overall-rating"
_FORMAT_HEADING = "## Format:"
"""Where a template's rubric ends and its general part begins."""

_ANNOTATION_HEADING = "## Annotation\n"
"""Where a template's general part ends, and the instruction and the texts begin."""

_OUTPUT_HEADING = "### Output\n"
"""Where the texts end, and the judge's answer is to begin."""


def render_judge_prompt(
    aspect: Aspect,
    instruction: str,
    texts: Sequence[str],
    note: str = "",
    layout: JudgeLayout = JudgeLayout.rubric_first,
) -> list[Message]:
    """Return the conversation that asks for a rating of each of `texts` (in this order) under `aspect`.

    What requests share is their beginning, and the engine's prefix cache holds it. With `rubric_first` that is the
    rubric, as in UltraFeedback; the instruction and the texts follow. With `texts_first` these come before the rubric,
    with quoted whatever could pass for one, and all aspects share them. `note` is put at the very end.
    """
    if layout is JudgeLayout.texts_first:
        heading = (aspect.rubric or "").strip().partition("\n")[0]
        instruction = quote_rubric_marks(instruction, heading)
        texts = [quote_rubric_marks(text, heading) for text in texts]
    task = _load_task(_OWN_RUBRIC_BASE if aspect.rubric is not None else aspect.name)
    messages = cast(list[Message], task.format_input({"instruction": instruction, "generations": list(texts)}))
    # Hostile text moves no cut: the template's own heading is the first of its kind, its `### Output` below the last.
    rubric, annotation, shown = messages[1]["content"].partition(_ANNOTATION_HEADING)
    if aspect.rubric is not None:
        general = rubric.partition(_FORMAT_HEADING)[2]
        rubric = f"{_render_rubric(aspect)}\n\n{_FORMAT_HEADING}{general}"
    if layout is JudgeLayout.texts_first:
        shown, output, end = shown.rpartition(_OUTPUT_HEADING)
        messages[1]["content"] = f"{annotation}{shown.rstrip()}\n\n---\n\n{rubric}{output}{end}"
    else:
        messages[1]["content"] = f"{rubric}{annotation}{shown}"
    if note:
        messages[1]["content"] += f"\n\n{note}"
    return messages


def hash_template(aspect: Aspect) -> str:
    """Return a hash of all the text that distilabel puts around an aspect's prompts; distilabel is not imported.

    Raises:
        ConfigError: distilabel is not installed.
    """
    tasks = _find_distilabel() / "steps" / "tasks"
    name = _OWN_RUBRIC_BASE if aspect.rubric is not None else aspect.name
    template = (tasks / "templates" / "ultrafeedback" / f"{name}.jinja2").read_text(encoding="utf-8")
    task = (tasks / "ultrafeedback.py").read_text(encoding="utf-8")  # holds the system prompt
    return stable_hex(template, task)


def _render_rubric(aspect: Aspect) -> str:
    return f"{aspect.rubric}\n\n**Scoring**: Rate outputs {aspect.min_rating} to {aspect.max_rating}, in whole numbers."


def _find_distilabel() -> Path:
    spec = importlib.util.find_spec("distilabel")
    if spec is None or spec.origin is None:
        raise ConfigError("distilabel is not installed; install it with: pip install distilabel")
    return Path(spec.origin).parent


@cache
def _load_task(name: str) -> UltraFeedback:
    """Return distilabel's task for a built-in aspect, ready for `format_input`."""
    with loading():
        from distilabel.steps.tasks import UltraFeedback

        task = UltraFeedback(llm=make_stub(), aspect=name, use_default_structured_output=False)
        task.load()
    return task
