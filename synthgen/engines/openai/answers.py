"""The parser of answers: any status, headers and bytes in, a completion or the reason why there is none out.

It is pure, and nothing else can come out of it: it takes what is there (no usage, a content in parts, log-probabilities
without their neighbours), and keeps the beginning of what it cannot take.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from synthgen.engines.openai.reply import Kind, Refusal, Reply
from synthgen.engines.openai.retry_after import find_wait_s
from synthgen.engines.openai.values import (
    count_thought,
    measure_thought,
    read_calls,
    read_count,
    read_text,
    read_thought,
)
from synthgen.engines.openai.words import (
    EXHAUSTED,
    MODERATED,
    NEVER_FITS,
    NOT_TAKEN,
    ONLY_OUTPUT,
    TOO_LONG,
    find_most_output,
    find_room,
    read_finish_reason,
)
from synthgen.records import NO_BILL, Bill, ChoiceLogprobs, Completion, OutputFormat

RAW_CHARACTERS = 2000
MESSAGE_CHARACTERS = 300
MAY_PASS = frozenset({408, 409, 425, 429, 498, 499})
"""Besides 5xx. 498 and 499: a token that has expired, a client that a proxy thinks has gone."""


def read_answer(
    reply: Reply, form: OutputFormat | None = None, now: float | None = None, *, calls: bool = False
) -> Completion | Refusal:
    """Return the completion of a reply to a request for one sample, or why it holds none.

    Args:
        form: what the request asked for; log-probabilities are read where it has choices.
        now: the Unix time, s, for waits that are given as a date.
        calls: whether the request had tools; calls of any other are none.
    """
    text = reply.body.decode("utf-8", "replace")
    value = _parse(text)
    raw = _make_valid(text[:RAW_CHARACTERS])
    wait_s = find_wait_s(reply.headers, text, time.time() if now is None else now)
    if not 200 <= reply.status < 300:
        return _read_error(reply.status, value, raw, wait_s)
    if not isinstance(value, dict):
        return Refusal("bad_answer", f"the answer is {_describe(text)}", Kind.again, raw=raw)
    bill = _read_bill(value.get("usage"))
    counted = count_thought(value.get("usage"))
    choices = value.get("choices")
    choice = next(iter(choices), None) if isinstance(choices, list) else None
    found = value.get("error") or (choice.get("error") if isinstance(choice, dict) else None)
    if found:
        status = read_count(found.get("code")) if isinstance(found, dict) else None
        return _read_error(status if status and 400 <= status < 600 else 500, {"error": found}, raw, wait_s, bill)
    if not isinstance(choice, dict):
        if any(value.get(key) for key in ("promptFeedback", "prompt_feedback")) and "block" in raw:
            return Refusal("content_filter", f"the prompt was filtered: {_line(text)}", Kind.give_up, raw=raw)
        return Refusal("no_choices", f"the answer has no choices: {_line(text)}", Kind.again, raw=raw, bill=bill)
    return _read_choice(choice, bill, counted, form, raw, calls=calls)


def _read_choice(
    choice: dict[str, Any], bill: Bill, counted: int | None, form: OutputFormat | None, raw: str, *, calls: bool
) -> Completion | Refusal:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = choice.get("delta") if isinstance(choice.get("delta"), dict) else {}
    assert isinstance(message, dict)
    text = read_text(message.get("content"))
    if text is None and isinstance(choice.get("text"), str):
        text = choice["text"]
    reasoning = read_thought(message)
    if reasoning is None and (counted or (bill.output_tokens and not text and choice.get("finish_reason") == "length")):
        reasoning = ""  # it was thought, and the provider keeps it to itself
    finish = read_finish_reason(choice.get("finish_reason") or choice.get("stop_reason"))
    if finish == "content_filter":
        words = read_text(message.get("refusal")) or text or choice.get("finish_reason")
        return Refusal("content_filter", f"the answer was filtered: {_line(words)}", Kind.give_up, raw=raw, bill=bill)
    if finish == "error":
        word = choice.get("finish_reason")
        return Refusal(
            "server_error", f"the answer ended with finish_reason={_line(word)}", Kind.again, raw=raw, bill=bill
        )
    refusal = read_text(message.get("refusal"))
    if not text and refusal:
        return Refusal("refusal", f"the model refuses: {_line(refusal)}", Kind.give_up, raw=raw, bill=bill)
    called = read_calls(message) if calls else ()
    if called:
        text = text or ""
        finish = "length" if finish == "length" else "stop"  # `tool_calls` says what ended it, not that it was cut
    silent = not text and not called
    if silent and reasoning is not None and form is not None:  # without a form, the thought alone is kept as such
        words = "the model thought and did not answer" + (", up to max_tokens" if finish == "length" else "")
        name = "thought_cut_off" if finish == "length" else "no_answer"
        return Refusal(name, words, Kind.give_up, raw=raw, bill=bill, thought=True)
    if silent and reasoning is None and finish not in ("stop", "length", "unknown"):
        return Refusal(finish, f"the answer has no text, and finish_reason={finish}", Kind.give_up, raw=raw, bill=bill)
    if silent and reasoning is None:
        return Refusal("no_text", f"the answer has no text: {_line(raw)}", Kind.again, raw=raw, bill=bill)
    text = _make_valid(text or "")
    return Completion(
        text=text,
        finish_reason=finish,
        prompt_tokens=bill.input_tokens,
        cached_tokens=bill.cached_tokens,
        output_tokens=bill.output_tokens,
        choice_logprobs=tuple(_choice_logprobs(choice, text, form.choices)) if form and form.choices else (),
        bill=bill,
        reasoning=None if reasoning is None else _make_valid(reasoning),
        reasoning_tokens=measure_thought(reasoning, text, bill.output_tokens, counted),
        tool_calls=called,
    )


def _read_error(status: int, value: Any, raw: str, wait_s: float | None, bill: Bill = NO_BILL) -> Refusal:
    """Return what an error status, or an error in the body of a 200, calls for."""
    words, everything = read_message(value) or raw or "(no words)", raw
    message = f"{status}: {_line(words)}"

    def refuse(reason: str, kind: Kind, **more: Any) -> Refusal:
        return Refusal(reason, message, kind, raw=raw, bill=bill, **more)

    # Gemini's words for a full minute are those of others for an empty account; but it says when to come again.
    for_good = status != 429 or wait_s is None or "insufficient_quota" in everything
    if status == 402 or (status in (400, 403, 429) and for_good and EXHAUSTED.search(everything)):
        return refuse("quota", Kind.exhausted, after_s=wait_s)
    if 300 <= status < 400:
        return refuse("redirected", Kind.no_access)
    if status in (400, 403, 422, 451) and MODERATED.search(everything):
        return refuse("content_filter", Kind.give_up)
    if status == 429:
        if NEVER_FITS.search(everything):
            return refuse("too_large", Kind.give_up)
        return refuse("rate_limited", Kind.slow_down, after_s=wait_s)
    if status in (400, 413, 422) or (status == 500 and "context" in everything):
        lone = (
            find_most_output(everything) is not None and ONLY_OUTPUT.search(everything) and "context" not in everything
        )
        if not lone and (TOO_LONG.search(everything) or status == 413):
            return refuse("prompt_too_long", Kind.too_long, room=find_room(everything))
    if status in (401, 403, 404, 405):
        return refuse("no_access", Kind.no_access)
    if status in MAY_PASS or status >= 500:
        return refuse("server_error", Kind.again, after_s=wait_s)
    return refuse("refused", Kind.parameter if NOT_TAKEN.search(everything) else Kind.give_up)


def read_message(value: Any, depth: int = 5) -> str:
    """Return the words of an error's JSON, wherever a server puts them; empty: there are none."""
    if isinstance(value, str):
        return value
    if not depth:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (read_message(item, depth - 1) for item in value[:4])))
    if not isinstance(value, dict):
        return ""
    words = ""
    for key in ("message", "error", "msg", "detail", "errors", "title"):
        words = read_message(value.get(key), depth - 1)
        if words:
            break
    where = value.get("loc")
    if isinstance(where, list) and words:  # pydantic's: which field it is about
        words = f"{'.'.join(part for part in where if isinstance(part, str) and part != 'body')}: {words}"
    meta = value.get("metadata")
    more = meta.get("raw") if isinstance(meta, dict) else None  # OpenRouter: what its provider said
    if not isinstance(more, str):
        return words
    return words if more in words else f"{words} ({more})"


def _read_bill(usage: Any) -> Bill:
    """Return the token counts of a `usage`; what is absent or no count is 0."""
    if not isinstance(usage, dict):
        return Bill(requests=1)
    details = usage.get("prompt_tokens_details")
    cached = read_count(details.get("cached_tokens")) if isinstance(details, dict) else None
    cached = (
        cached
        or read_count(usage.get("prompt_cache_hit_tokens"))
        or read_count(usage.get("cache_read_input_tokens"))
        or 0
    )
    prompt = read_count(usage.get("prompt_tokens"))
    prompt = read_count(usage.get("input_tokens")) if prompt is None else prompt
    output = read_count(usage.get("completion_tokens"))
    output = read_count(usage.get("output_tokens")) if output is None else output
    total = read_count(usage.get("total_tokens"))
    if output is None and total is not None and prompt is not None:
        output = max(0, total - prompt)
    if prompt is None and total is not None and output is not None:
        prompt = max(0, total - output)
    return Bill(1, prompt or 0, min(cached, prompt or 0), output or 0)


def _choice_logprobs(choice: dict[str, Any], text: str, choices: Sequence[str]) -> Iterator[ChoiceLogprobs]:
    """Yield the log-probabilities of the choices at each position that holds one, by offset in characters."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    offset = 0
    for position in content if isinstance(content, list) else ():
        token = position.get("token") if isinstance(position, dict) else None
        if not isinstance(token, str):
            return  # offsets are lost from here on
        tops = position.get("top_logprobs")
        if token.strip() in choices and isinstance(tops, list):
            masses: dict[str, float] = {}
            for top in tops:
                name = top.get("token") if isinstance(top, dict) else None
                logprob = _read_logprob(top.get("logprob")) if isinstance(top, dict) else None
                if isinstance(name, str) and name.strip() in choices and logprob is not None:
                    masses[name.strip()] = masses.get(name.strip(), 0.0) + math.exp(logprob)
            start = offset + len(token) - len(token.lstrip())
            # A server that spells tokens otherwise than its text shifts the offsets: then nothing is claimed.
            if masses and text.startswith(token.strip(), start):
                yield ChoiceLogprobs(start, {name: math.log(p) for name, p in masses.items() if p > 0})
        offset += len(token)


def _read_logprob(value: Any) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value <= 1e-3
    return float(value) if is_one else None


def _parse(text: str) -> Any:
    """Return the JSON value of `text`, None where it is not JSON (or too deep to be an answer)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _describe(text: str) -> str:
    """Return what a text is that is no answer."""
    if not text.strip():
        return "empty"
    kind = "HTML" if re.match(r"\s*<(!doctype|html|head|body)", text, re.IGNORECASE) else "no answer in JSON"
    return f"{kind}: {_line(text)}"


def _line(value: Any) -> str:
    """Return a value in one line, without what a terminal or a file could not hold."""
    text = value if isinstance(value, str) else ""
    return _make_valid(" ".join(text[: 4 * MESSAGE_CHARACTERS].split()))[:MESSAGE_CHARACTERS]


def _make_valid(text: str) -> str:
    """Return `text` with lone surrogates, which no file can hold, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
