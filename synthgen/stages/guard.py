"""Guarding: a prompt or a completion in, the probability that it is safe out, as a guard model's own template asks.

Llama Guard (arXiv 2312.06674; its version 3: https://www.llama.com/docs/model-cards-and-prompt-formats/llama-guard-3/)
writes `safe`, or `unsafe` and below it the categories S1 to S14. Anything else is no verdict. The value is that of its
first word, as its card gives scores:

    value = p(safe) / (p(safe) + p(unsafe))

Where an engine gives no log-probabilities the value is 1 or 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from synthgen.records import Completion, Message, Messages, OutputFormat, Request, Sampling
from synthgen.stages.model_scorer import ModelScorer, Verdict

SAFE, UNSAFE = "safe", "unsafe"
MAX_TOKENS = 64
"""All fourteen categories take about that many."""
_CATEGORY = r"S(?:1[0-4]|[1-9])"
_UNSAFE = re.compile(rf"{UNSAFE}\n({_CATEGORY}(?:, ?{_CATEGORY})*)")
_BOUNDARY = re.compile(r"<(\s*(?:BEGIN|END)\s[^<>]{0,60})>", re.IGNORECASE)
"""What stands around a conversation in the guard's prompt: plain text, which a completion could write too."""
_SHOWN = 200


class GuardStage(ModelScorer):
    """The stage of a scorer whose model writes whether a text is safe."""

    max_tokens = MAX_TOKENS

    def ask(self, request_id: str, conversation: Messages) -> Request:
        """Return the request: the conversation as it stands, whose last turn the model's template asks about."""
        # The echo engine fills in whole answers; a model's first word is found by its tokens.
        unsafe = f"{UNSAFE}\nS1" if self.model.served_by.makes_text_up else UNSAFE
        text = "\n\n".join(message["content"] for message in conversation[-1:])
        return Request(
            request_id,
            make_guarded(conversation),
            Sampling(temperature=0.0, max_tokens=MAX_TOKENS),
            output_format=OutputFormat("regex", "", choices=(unsafe, SAFE), template="{0}", slot_texts=(text,)),
            priority=self.priority,
            render="whole",
        )

    def read(self, completion: Completion) -> Verdict:
        """Return the probability of `safe`, and the categories that were named."""
        text = completion.text.strip()
        found = _UNSAFE.fullmatch(text)
        if completion.finish_reason != "stop" or (text != SAFE and found is None):
            return None, "unparsable", text[:_SHOWN]
        start = completion.text.index(text)
        slots = [slot.logprobs for slot in completion.choice_logprobs if slot.start == start]
        logprobs = {choice.partition("\n")[0]: value for choice, value in slots[0].items()} if slots else {}
        value = weigh_words(logprobs)
        if value is None:
            value = 1.0 if text == SAFE else 0.0
        return value, "", ", ".join(re.findall(_CATEGORY, found[1])) if found else ""


def weigh_words(logprobs: Mapping[str, float]) -> float | None:
    """Return the probability of `safe` by the log-probabilities of the words; None: there are none of them.

    A word that the vocabulary spells with several tokens has none; then the other's is taken as it is.
    """
    safe, unsafe = logprobs.get(SAFE), logprobs.get(UNSAFE)
    if safe is not None and unsafe is not None:
        return 1 / (1 + math.exp(min(700.0, unsafe - safe)))
    if safe is not None:
        return math.exp(safe)
    return None if unsafe is None else 1 - math.exp(unsafe)


def make_guarded(conversation: Messages) -> Messages:
    """Return the conversation as a guard takes it: turns of a user and an agent, and nothing that ends it early.

    Its template tells whose turn is the last one by their number, and has no system message: that stands at the
    beginning of the first user turn, so that what is asked for there is seen too.
    """
    turns = [Message(role=turn["role"], content=_BOUNDARY.sub(r"(\1)", turn["content"])) for turn in conversation]
    if len(turns) > 1 and turns[0]["role"] == "system":
        first = Message(role=turns[1]["role"], content=f"{turns[0]['content']}\n\n{turns[1]['content']}")
        return [first, *turns[2:]]
    return [Message(role="user", content=turns[0]["content"])] if turns[0]["role"] == "system" else turns
