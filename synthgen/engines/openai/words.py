"""The words of servers: what a finish reason or an error message of any of them means.

The forms stand for those of vLLM, OpenAI, Azure, OpenRouter, Together, Anthropic, Gemini, llama.cpp, SGLang, DeepSeek,
Mistral, Groq and Cohere, as they were in 2026.
"""

from __future__ import annotations

import re

ENDED = frozenset(
    [
        "stop",
        "end_turn",
        "stop_sequence",
        "eos",
        "eos_token",
        "end_of_text",
        "end",
        "complete",
        "completed",
        "stop_token",
        "finished",
    ]
)
CUT_OFF = frozenset(
    [
        "length",
        "max_tokens",
        "max_token",
        "model_length",
        "max_output_tokens",
        "max_new_tokens",
        "max_length",
        "token_limit",
        "model_context_window_exceeded",
        "context_length",
    ]
)
FILTERED = frozenset(
    [
        "content_filter",
        "content_filtered",
        "safety",
        "image_safety",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "language",
        "refusal",
        "sensitive",
        "guardrail_intervened",
        "moderation",
        "other_safety",
    ]
)
BROKEN = frozenset(
    [
        "error",
        "abort",
        "aborted",
        "cancelled",
        "canceled",
        "insufficient_system_resource",
        "network_error",
        "timeout",
        "failed",
        "malformed_function_call",
        "server_error",
    ]
)


def read_finish_reason(word: object) -> str:
    """Return `stop`, `length`, `content_filter`, `error`, or the server's own word in lower case (`tool_calls`, …).

    `unknown`: it gives none. What is neither `stop` nor `length` did not end by itself, whatever its name.
    """
    if not isinstance(word, str) or not word.strip():
        return "unknown"
    slug = re.sub(r"[^a-z0-9]+", "_", word.strip().lower()).strip("_")[:40].removeprefix("finish_reason_")
    for name, words in (("stop", ENDED), ("length", CUT_OFF), ("content_filter", FILTERED), ("error", BROKEN)):
        if slug in words:
            return name
    return slug or "unknown"


TOO_LONG = re.compile(
    r"context.?(length|window|size)"
    r"|(prompt|input|message|request|conversation)s?( \([^)]*\))? (is|are) (too long|longer than)"
    r"|too many (input )?tokens|max_model_len|reduce the length|exceeds? the (maximum|available|model)"
    r"|exceed(s|ed)? context|`?max_new_tokens`? must be <=|string_above_max_length",
    re.IGNORECASE,
)
ONLY_OUTPUT = re.compile(r"(completion|output) tokens|max(_completion|_output)?_tokens", re.IGNORECASE)

_NUMBER = r"(\d[\d,_]*)"
_CONTEXT = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"context (?:length|window|size)(?: limit)?(?: is| of)? \(?{_NUMBER}",
        rf"(?:maximum|model's|available) context (?:length|window|size) \(?(?:of |is )?{_NUMBER}",
        rf"with {_NUMBER} maximum context length",
        rf"\+ `?max_new_tokens`? must be <= {_NUMBER}",
        rf"(?:\+ \d+|tokens) > {_NUMBER}",
        rf"maximum number of tokens allowed \({_NUMBER}\)",
        rf"cannot exceed {_NUMBER}",
        rf'"n_ctx": ?{_NUMBER}',
    )
)
_PROMPT = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_NUMBER} (?:input tokens|in the messages|of text input|tokens from the input|in the prompt)",
        rf"{_NUMBER} `inputs` tokens",
        rf"resulted in {_NUMBER} tokens",
        rf"too long: {_NUMBER} tokens",
        rf"exceed context limit: {_NUMBER} \+",
        rf"Prompt contains {_NUMBER} tokens",
        rf"input token count \({_NUMBER}\)",
        rf"(?:input|request|prompt) \({_NUMBER} tokens\)",
        rf'"n_prompt_tokens": ?{_NUMBER}',
    )
)


def find_room(message: str) -> int | None:
    """Return how many tokens a context has left after the prompt, as a server's refusal tells it; None: it does not."""
    if "at least" in message:
        return None
    context = next((int(_digits(found[1])) for form in _CONTEXT if (found := form.search(message))), None)
    prompt = next((int(_digits(found[1])) for form in _PROMPT if (found := form.search(message))), None)
    return None if context is None or prompt is None else max(0, context - prompt)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)[:18]


_MOST_OUTPUT = tuple(
    re.compile(form, re.IGNORECASE | re.DOTALL)
    for form in (
        rf"supports at most {_NUMBER} (?:completion|output) tokens",
        rf"range of max_tokens should be \[\d+, ?{_NUMBER}\]",
        rf"max_(?:completion_|output_|new_)?tokens.{{0,60}}(?:less than or equal to|at most|<=|up to) {_NUMBER}",
        rf"max_(?:completion_|output_|new_)?tokens.{{0,60}}(?:(?:can)?not exceed|maximum (?:\w+ )?(?:is|of)) {_NUMBER}",
        rf"max_(?:completion_|output_)?tokens: \d+ > {_NUMBER}",
        rf"valid range of max_tokens is \[\d+, ?{_NUMBER}\]",
    )
)


def find_most_output(message: str) -> int | None:
    """Return the most output tokens that a server takes, where its refusal says so."""
    found = next((found for form in _MOST_OUTPUT if (found := form.search(message))), None)
    return int(_digits(found[1])) if found else None


MODERATED = re.compile(
    r"content.?filter|content management policy|responsibleai|content.?polic|moderation|flagged|datainspectionfailed"
    r"|inappropriate content|safety (system|filter|setting|polic)|usage polic|prohibited.?content|blocked by|guardrail",
    re.IGNORECASE,
)
EXHAUSTED = re.compile(
    r"insufficient.?(quota|balance|credit|fund)|exceeded your current quota|credit balance|billing|out of credits"
    r"|requires more credits|payment required|quota (has been )?exhausted|account (is )?(suspended|deactivated)",
    re.IGNORECASE,
)
NEVER_FITS = re.compile(r"request too large", re.IGNORECASE)
"""A 429 that no waiting mends: one request needs more tokens than a minute has."""
NOT_TAKEN = re.compile(
    r"not supported|unsupported|n't support|not support|unrecognized|unknown|not permitted|not allowed|unexpected"
    r"|extra (inputs|fields)|no such|only the default|not available|invalid (param|arg|field|value|type)|not enabled"
    r"|disabled|not implemented|must be (removed|omitted)|use '?max_completion_tokens|should be less|must be less"
    r"|less than or equal",
    re.IGNORECASE,
)

REFUSES_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)s? (is |are )?(not|n't|in)"
    r"|does(n't| not) (support|accept|allow).{0,20}system"
    r"|conversation roles must alternate|developer instruction is not enabled",
    re.IGNORECASE,
)
"""What servers say where a model's template knows no system message: Gemma's "System role not supported",
Mistral's "Conversation roles must alternate user/assistant/…", Google's "Developer instruction is not enabled"."""
