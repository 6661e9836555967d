"""The judge's prompt: distilabel's UltraFeedback task writes it, for own rubrics too.

`render_judge_prompt` leaves it as `format_input` makes it (`judge.framing=brackets`); `render_framed_prompt` takes its
rubric and its form of the answer, and puts what is judged between boundaries (`judge.framing=boundary`). The task is
used without its pipeline: a stub stands for its model. See arXiv 2310.01377 for the rubrics.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from synthgen.config import JudgeLayout, Rationale
from synthgen.errors import ConfigError
from synthgen.judge.aspects import Aspect
from synthgen.judge.frame import Question, frame_texts
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
"""Where the texts end, and the judge's answer is to begin; in the general part, what the answer is to look like."""

_FORMAT_LINE = re.compile(r"^## Format:?\n", re.MULTILINE)
_ASKS_FOR_RATIONALES = " with a rating and rationale."


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


def render_framed_prompt(
    aspect: Aspect,
    question: Question,
    texts: Sequence[str],
    cut: Sequence[bool],
    rationale: Rationale,
    note: str = "",
    layout: JudgeLayout = JudgeLayout.rubric_first,
) -> list[Message]:
    """Return the conversation that asks for a rating of each of `texts` (in this order), shown letter for letter.

    What is asked for stands together: the rubric, the form of the answer and `note`, which says more of it. Without
    rationales nothing asks for any. The answer begins right below the last heading.

    Args:
        question: the prompt and its reference (`frame_question`).
        cut: whether a token limit cut a text off, aligned with `texts`.
    """
    n = len(texts)
    task = _load_task(_OWN_RUBRIC_BASE if aspect.rubric is not None else aspect.name)
    system, user = cast(list[Message], task.format_input({"instruction": "", "generations": [""] * n}))
    rubric, general = _FORMAT_LINE.split(user["content"].partition(_ANNOTATION_HEADING)[0], maxsplit=1)
    if aspect.rubric is not None:
        rubric = _render_rubric(aspect)
    answer = general.partition(_OUTPUT_HEADING)[2].removesuffix("---\n\n").strip()
    if rationale is Rationale.none:
        system["content"] = system["content"].replace(_ASKS_FOR_RATIONALES, " with a rating.")
        answer = "\n".join(f"Text {k}: [Rating{f' for text {k}' if k == 1 else ''}]" for k in range(1, n + 1))
        note = "Write one line for each text, in order, and nothing else."
    shown_as = "\n".join(f"<text {k}> [Text {k}] </text {k}>" for k in range(1, n + 1))
    task_text = (
        f"{rubric.rstrip().removesuffix('---').rstrip()}\n\n## Format\n\n### Input\n"
        f"<instruction> [Task goal and restrictions] </instruction>\n{shown_as}\n\n{_OUTPUT_HEADING}{answer}"
    )
    if note:
        task_text += f"\n\n{note}"
    material = f"{_ANNOTATION_HEADING}\n### Input\n{question.text}\n\n{frame_texts(texts, cut, question.nonce)}"
    parts = [material, task_text] if layout is JudgeLayout.texts_first else [task_text, material]
    body = "\n\n---\n\n".join(parts)
    end = "\n\n---\n\n" if layout is JudgeLayout.texts_first else "\n\n"
    return [system, Message(role="user", content=f"{body}{end}{_OUTPUT_HEADING}")]


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
