"""Classifying: a text or a conversation in, the probability of a label out, or the reward of a model without labels.

    value = exp(logit of the label) / Σ exp(logits)      value = the logit itself, where `label` is not set

Of a text that was read in several windows (`scorers.<name>.long_texts`) it is the lowest or the highest of theirs.

A reward is a number without a scale of its own (Bradley and Terry 1952; arXiv 2203.02155): only differences within a
prompt mean something.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.config import LongTexts, ScorerInput
from synthgen.config.scorers import find_label
from synthgen.records import Completion, Message, Messages, OutputFormat, Request, Sampling
from synthgen.stages.model_scorer import ModelScorer, Verdict

REWARDS = tuple(f"{step / 4:.2f}" for step in range(-16, 17))
"""Logits that the echo engine chooses from."""


class ClassifyStage(ModelScorer):
    """The stage of a scorer whose model is a sequence-classification checkpoint."""

    def fingerprint_fields(self) -> Mapping[str, Any]:
        """Return what changes the values."""
        long_texts = self.config.long_texts
        more = {} if long_texts is LongTexts.refuse else {"long_texts": long_texts.value}
        return {**super().fingerprint_fields(), "label": self.config.label, **more}

    def ask(self, request_id: str, conversation: Messages) -> Request:
        """Return the request: a conversation by the chat template, or a text as it stands.

        Of a prompt the text is that of all turns but the assistant's, of a completion its own.
        """
        whole = self.config.reads is ScorerInput.conversation
        if self.of_prompts:
            conversation = [message for message in conversation if message["role"] != "assistant"] or conversation
        turns = conversation if whole or self.of_prompts else conversation[-1:]
        text = "\n\n".join(message["content"] for message in turns)
        labels = [self.config.label, "other"] if self.config.label is not None else [""]
        answer = {"labels": labels, "logits": ["{0}", *[0.0] * (len(labels) - 1)]}
        template = json.dumps(answer).replace('"{0}"', "{0}")
        return Request(
            request_id,
            conversation if whole else [Message(role="user", content=text)],
            Sampling(temperature=0.0, max_tokens=64),
            output_format=OutputFormat("json", "", choices=REWARDS, template=template, slot_texts=(text,)),
            priority=self.priority,
            tags={} if self.config.label is None else {"label": self.config.label},
            render="whole" if whole else "plain",
            windowed=self.config.long_texts is not LongTexts.refuse,
        )

    def read(self, completion: Completion) -> Verdict:
        """Return the value that the logits give."""
        try:
            answer: dict[str, Any] = json.loads(completion.text)
        except ValueError:  # a placeholder's, of the check before the run
            return None, "no_verdict", completion.text
        windows = answer.get("windows") or [answer["logits"]]
        key = f"scorers.{self.scorer}.label"
        read = [read_logits(answer["labels"], logits, self.config.label, key) for logits in windows]
        return choose_verdict(read, highest=self.config.long_texts is LongTexts.highest)


def choose_verdict(verdicts: Sequence[Verdict], *, highest: bool) -> Verdict:
    """Return the verdict with the lowest or the highest value; one that has none where there is such a one."""
    values = [math.nan if value is None else value for value, _, _ in verdicts]
    for value, verdict in zip(values, verdicts, strict=True):
        if not math.isfinite(value):
            return verdict
    return verdicts[values.index(max(values) if highest else min(values))]


def read_logits(labels: Sequence[str], logits: Sequence[float], label: str | None, key: str) -> Verdict:
    """Return the probability of a label, or the logit of a model with one output.

    Args:
        labels, logits: of the model's outputs, in order. key: dotted key of `label`, for people.
    """
    known = ", ".join(labels)
    if label is None:
        if len(logits) == 1:
            return logits[0], "", ""
        return None, "no_label", f"the model has the labels {known}; name one in {key}"
    chosen = find_label(labels, label)
    if chosen is None or len(labels) == 1:
        return None, "unknown_label", f"{key}={label} is none of the model's labels: {known}"
    top = max(logits)
    shares = [math.exp(logit - top) for logit in logits]
    best = labels[shares.index(max(shares))]
    return shares[chosen] / sum(shares), "", best
