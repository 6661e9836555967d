"""How judges are asked and read, by name (`judge.format`): what a request says, the form of the answer, its ratings.

`ultrafeedback` is this package's own (arXiv 2310.01377). A package adds another by an entry point in the group
`synthgen.judge_formats` that names an object with the members of AnswerFormat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from synthgen.config import JudgeLayout, Rationale
from synthgen.config.registry import Registry
from synthgen.judge.aspects import Aspect
from synthgen.judge.form import JudgeFormat, make_format
from synthgen.judge.frame import Question
from synthgen.judge.parse import ParsedRatings, parse_ratings
from synthgen.judge.ultrafeedback import hash_template, render_framed_prompt, render_judge_prompt
from synthgen.records import Message

DEFAULT_FORMAT = "ultrafeedback"
FORMATS = Registry("synthgen.judge_formats", {DEFAULT_FORMAT: "synthgen.judge.formats:ULTRAFEEDBACK"})


class AnswerFormat(Protocol):
    """One way to ask for ratings of texts. All methods are pure; texts and answers are hostile.

    A format may also have `ask_framed(aspect, question, texts, cut, form, rationale, layout)`, as UltraFeedbackFormat
    has: it is then shown texts as they are (`judge.framing=boundary`). Where it has not, `ask` gets an instruction and
    texts from which `neutralise` took what looks like structure.
    """

    def hash_text(self, aspect: Aspect) -> str:
        """Return a hash of all that is put around a prompt and its texts; judgements made with another are stale."""
        ...

    def make_form(self, aspect: Aspect, n: int, rationale: Rationale) -> JudgeFormat:
        """Return what an answer about `n` texts looks like: an expression for the engine, and its token budget."""
        ...

    def ask(
        self, aspect: Aspect, instruction: str, texts: Sequence[str], note: str, layout: JudgeLayout
    ) -> list[Message]:
        """Return the conversation that asks for a rating of each of `texts`, in this order."""
        ...

    def read(self, text: str, n: int, aspect: Aspect, *, truncated: bool) -> ParsedRatings:
        """Return the ratings of `n` texts, None where there is none; never a guess, and no error whatever `text` is."""
        ...


class UltraFeedbackFormat:
    """Sections that begin with `#### Output for Text k` and hold `Rating: r`, or lines `Text k: r`."""

    def hash_text(self, aspect: Aspect) -> str:
        """Hash distilabel's template."""
        return hash_template(aspect)

    def make_form(self, aspect: Aspect, n: int, rationale: Rationale) -> JudgeFormat:
        """Return UltraFeedback's form (synthgen.judge.form)."""
        return make_format(aspect, n, rationale)

    def ask(
        self, aspect: Aspect, instruction: str, texts: Sequence[str], note: str, layout: JudgeLayout
    ) -> list[Message]:
        """Return distilabel's prompt (synthgen.judge.ultrafeedback)."""
        return render_judge_prompt(aspect, instruction, texts, note, layout)

    def ask_framed(
        self,
        aspect: Aspect,
        question: Question,
        texts: Sequence[str],
        cut: Sequence[bool],
        form: JudgeFormat,
        rationale: Rationale,
        layout: JudgeLayout,
    ) -> list[Message]:
        """Return a prompt with boundaries (synthgen.judge.frame); cut[i]: a token limit cut texts[i] off."""
        return render_framed_prompt(aspect, question, texts, cut, rationale, form.note, layout)

    def read(self, text: str, n: int, aspect: Aspect, *, truncated: bool) -> ParsedRatings:
        """Read both forms (synthgen.judge.parse)."""
        return parse_ratings(text, n, aspect, truncated=truncated)


ULTRAFEEDBACK = UltraFeedbackFormat()


def find_format(name: str) -> AnswerFormat:
    """Return the format of `judge.format`. Raises ConfigError for an unknown name."""
    found: AnswerFormat = FORMATS.load(name, "judge.format")
    return found
