"""What a judge is told when its answer cannot be read."""

from __future__ import annotations

from synthgen.judge.aspects import Aspect
from synthgen.judge.formats import AnswerFormat
from synthgen.records import Completion, Message

_QUOTED_CHARACTERS = 2000
_PROBLEMS = {
    "missing": "has no rating",
    "malformed": "has a rating that is not one whole number",
    "out_of_range": "has a rating that is not on the scale",
    "contradictory": "has several ratings that differ",
    "cut_off": "has a rating that is cut off",
}


def complain(form: AnswerFormat, completion: Completion, n: int, aspect: Aspect) -> list[Message] | None:
    """Return the judge's answer and the turn that says what is wrong with it, or None where all `n` texts are rated."""
    parsed = form.read(completion.text, n, aspect, truncated=completion.finish_reason == "length")
    if parsed.status == "ok":
        return None
    wrong = [f"text {place} {_PROBLEMS[p]}" for place, p in enumerate(parsed.problems, 1) if p in _PROBLEMS]
    complaint = (
        f"This answer cannot be used: {'; '.join(wrong) or f'there are {n} texts, and it rates more'}. "
        f"Write the whole answer again in the required format, for exactly {n} texts, "
        f"with whole numbers from {aspect.min_rating} to {aspect.max_rating} as ratings."
    )
    answer = completion.text[:_QUOTED_CHARACTERS]
    return [{"role": "assistant", "content": answer or "(nothing)"}, {"role": "user", "content": complaint}]
