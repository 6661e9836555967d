"""The requests of a judge: what those of a prompt share, how texts are shown, in which parts where that is too long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from synthgen.config import JUDGE_THINKING_BUDGET, JudgeConfig, JudgeFraming, ModelConfig
from synthgen.judge.aspects import Aspect
from synthgen.judge.calls import show_conversation
from synthgen.judge.form import JudgeFormat
from synthgen.judge.formats import AnswerFormat
from synthgen.judge.frame import Question, break_marks, draw_nonce, frame_question
from synthgen.judge.order import apply_order
from synthgen.judge.render import neutralise, render_instruction
from synthgen.judge.tasks import JudgeTask
from synthgen.records import Completion, Message, OutputFormat, Request, RequestFailure, Sampling, Tool, make_seed
from synthgen.stages.generate import fit_seed

JUDGE_PRIORITY = 0
UNENFORCED_MAX_TOKENS = 1024
"""Least token budget of a judge that may write what it likes around the format."""


class Asking:
    """Makes requests. Holds configuration only.

    Args:
        aspects: of the run. form: how the judge is asked and read. framing: how texts are told from instructions.
    """

    def __init__(
        self,
        config: JudgeConfig,
        run_seed: int,
        aspects: Sequence[Aspect],
        form: AnswerFormat,
        framing: JudgeFraming,
    ) -> None:
        self.config = config
        self.run_seed = run_seed
        self.aspects = tuple(aspects)
        self.format = form
        self.framing = framing

    @property
    def model(self) -> ModelConfig:
        """The judge's model."""
        return self.config.model

    def divide(self, request: Request, failure: RequestFailure) -> list[Request]:
        """Return what `JudgeStage.divide` does."""
        form = request.output_format
        if failure.reason != "prompt_too_long" or form is None or request.tags.get("planted"):
            return []
        n = len(form.slot_texts)
        if n < 2:
            return []
        tags = request.tags
        whole, first = tags.get("part_of", request.request_id), int(tags.get("first", 0))
        aspect = next(a for a in self.aspects if a.name == tags["aspect"])
        question = Question(tags["question"], tags["nonce"])
        half = -(-n // 2)
        return [
            self._ask(
                f"{whole}/{first + low}-{first + high}",
                aspect,
                question,
                form.slot_texts[low:high],
                [mark == "1" for mark in tags["cut"][low:high]],
                {"part_of": whole, "first": str(first + low), "end": str(first + high)},
            )
            for low, high in ((0, half), (half, n))
        ]

    def make_question(
        self, messages: Sequence[Message], reference: str | None, tasks: Sequence[JudgeTask], tools: Sequence[Tool] = ()
    ) -> Question:
        """Return what the requests of one prompt share. All of them have one nonce, so that they share a beginning."""
        if tools or any(len(turn) > 2 for turn in messages):
            messages = show_conversation(messages, tools)
        if self.framing is JudgeFraming.brackets:
            return Question(render_instruction(messages, reference))
        turns = [part for message in messages for part in (message["role"], message["content"])]
        asked = [*turns, reference or ""]
        texts = {text: None for task in tasks if task.canary is None for text in task.texts}
        planted = [text for task in tasks if task.canary is not None for text in task.texts]
        nonce = draw_nonce(self.run_seed, [*asked, *sorted(texts)], [*asked, *texts, *planted])
        if not self.model.served_by.is_service:
            return frame_question(messages, reference, nonce)
        safe = [Message(role=message["role"], content=break_marks(message["content"])) for message in messages]
        broken = any(break_marks(text) != text for text in (*asked, *texts, *planted))
        return frame_question(safe, break_marks(reference or ""), nonce, marks_broken=broken)

    def make_request(self, task: JudgeTask, question: Question) -> Request:
        """Return the request of a task."""
        texts, cut = apply_order(task.texts, task.order), apply_order(task.cut, task.order)
        tags = {"planted": "1"} if task.canary is not None else {}
        return self._ask(task.request_id, task.aspect, question, texts, cut, tags)

    def _ask(
        self,
        request_id: str,
        aspect: Aspect,
        question: Question,
        texts: Sequence[str],
        cut: Sequence[bool],
        tags: Mapping[str, str],
    ) -> Request:
        """Return a request that shows `texts` in this order. Its tags hold what `divide` needs beside them."""
        config = self.config
        form = self.format.make_form(aspect, len(texts), config.rationale)
        shared = {"question": question.text, "nonce": question.nonce, "cut": "".join("01"[one] for one in cut)}
        return Request(
            request_id=request_id,
            tags={"aspect": aspect.name, **shared, **tags},
            messages=self._render(aspect, question, texts, cut, form),
            sampling=Sampling(
                temperature=config.temperature, max_tokens=self._budget(form), thinking_budget=self._thinking_budget()
            ),
            seed=fit_seed(make_seed(self.run_seed, "judge", request_id), self.model, 1),
            output_format=OutputFormat(
                kind="regex",
                spec=form.regex if config.constrained else "",
                choices=aspect.choices,
                template=form.template,
                slot_texts=tuple(texts),
            ),
            priority=JUDGE_PRIORITY,
        )

    def _render(
        self, aspect: Aspect, question: Question, texts: Sequence[str], cut: Sequence[bool], form: JudgeFormat
    ) -> list[Message]:
        layout, rationale = self.config.layout, self.config.rationale
        if self.framing is JudgeFraming.brackets:
            safe = [neutralise(text) for text in texts]
            return self.format.ask(aspect, question.text, safe, form.note, layout)
        if self.model.served_by.is_service:
            texts = [break_marks(text) for text in texts]
        ask: Callable[..., list[Message]] = self.format.ask_framed  # type: ignore[attr-defined]
        return ask(aspect, question, texts, cut, form, rationale, layout)

    def widen(self, sampling: Sampling, completion: Completion) -> Sampling:
        """Give an answer that was cut off twice the tokens, which `judge.max_retries` bounds."""
        if completion.finish_reason != "length":
            return sampling
        return replace(sampling, max_tokens=2 * sampling.max_tokens)

    def _thinking_budget(self) -> int | None:
        """Return the budget of thoughts; a service that has its own is not told one that nobody has set."""
        if self.config.thinking_budget is None and not self.model.served_by.is_service:
            return JUDGE_THINKING_BUDGET
        return self.config.thinking_budget

    def _budget(self, form: JudgeFormat) -> int:
        if self.config.max_tokens is not None:
            return self.config.max_tokens
        enforced = self.config.constrained and not self.model.served_by.is_service
        return form.max_tokens if enforced else max(form.max_tokens, UNENFORCED_MAX_TOKENS)
