"""A judge's answer in, a row of JUDGEMENTS_SCHEMA out, in canonical order."""

from __future__ import annotations

from typing import Any

from synthgen.judge.expected import expect_ratings
from synthgen.judge.formats import AnswerFormat
from synthgen.judge.order import invert_order, undo_order
from synthgen.judge.tasks import JudgeTask
from synthgen.records import Completion, Outcome, Request, RequestFailure, list_reasoning


def make_row(form: AnswerFormat, task: JudgeTask, request: Request | None, outcome: Outcome | None) -> dict[str, Any]:
    """Return the row of `task`, but for what the stage knows of itself (mode, judge_model) and of canaries.

    Args:
        form: reads the answer.
        request: the last that was sent for the task; None (and no outcome): there was nothing to show.

    Raises:
        ValueError: the request is another task's.
    """
    n = len(task.completion_ids)
    row: dict[str, Any] = {
        "prompt_id": task.prompt_id,
        "aspect": task.aspect.name,
        "repetition": task.repetition,
        "group": task.group,
        "completion_ids": task.completion_ids,
        "slots": invert_order(task.order),
        "ratings": [None] * n,
        "expected": [None] * n,
        "rationales": [None] * n,
        "status": "error",
        "attempts": 0,
        "error": "no_completions",
    }
    if request is None or outcome is None:
        return row
    if request.request_id != task.request_id:
        raise ValueError(f"the request {request.request_id} does not belong to the task {task.request_id}")
    row["attempts"] = request.attempt
    if isinstance(outcome, RequestFailure):
        row["error"] = outcome.reason
    elif isinstance(outcome[0], RequestFailure):
        row["error"] = outcome[0].reason
    else:
        row |= _read_answer(form, task, outcome[0])
    return row


def _read_answer(form: AnswerFormat, task: JudgeTask, completion: Completion) -> dict[str, Any]:
    cut = completion.finish_reason == "length"
    parsed = form.read(completion.text, len(task.order), task.aspect, truncated=cut)
    expected = expect_ratings(parsed.starts, completion.choice_logprobs, task.aspect)
    rationales = [None if text is None else _make_valid(text) for text in parsed.rationales]
    return {
        "ratings": undo_order(parsed.ratings, task.order),
        "expected": undo_order(expected, task.order),
        "rationales": undo_order(rationales, task.order),
        "status": parsed.status,
        "raw_text": _make_valid(completion.text),
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "output_tokens": completion.output_tokens,
        "error": completion.fault
        or (None if parsed.status != "invalid" else "judgement_cut_off" if cut else "unparsable"),
        **{name: column[0] for name, column in list_reasoning([completion]).items()},
    }


def _make_valid(text: str) -> str:
    """Return `text` with lone surrogates, which no file can hold, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
