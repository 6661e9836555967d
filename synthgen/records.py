"""The records that flow through a run, and the Arrow schemas of the files that hold them.

Everything here is plain data. The schemas are declared once, and every file of a run is written with one of them, and
the columns that only some runs have.

One file because it is one list: whoever asks what a column means looks here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NotRequired, TypedDict, cast

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA_VERSION = 1
"""Part of every stage fingerprint: raise it when the meaning of a stored column changes."""


class Message(TypedDict):
    """One turn of a conversation: `role` is `system`, `user`, `assistant` or `tool`.

    An assistant's turn may call tools. A tool's turn is what a call gave, and may say which one, and the tool's name.
    """

    role: str
    content: str
    tool_calls: NotRequired[Sequence[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


Messages = Sequence[Message]
Tool = Mapping[str, Any]
"""A tool as chat templates and endpoints take it: `{"type": "function", "function": {name, description, parameters}}`,
`parameters` a JSON schema."""
ToolCall = Mapping[str, Any]
"""A call of one: `{"id": …, "type": "function", "function": {"name": …, "arguments": {…}}}`. `id` may be absent;
`arguments` are an object, which chat templates want, and endpoints are sent as JSON text."""
Tables = Mapping[str, pa.Table]
"""A unit's input tables by the name of the stage that wrote them (`prompts`, `generate-main`, …)."""

FinishReason = str
"""Why a completion ended: `stop` (by itself), `length` (cut off by a limit), or a word of an endpoint's own, such as
`tool_calls`; `unknown` where it gives none. What is neither `stop` nor `length` is never judged nor paired."""
WHOLE_FINISH_REASONS = ("stop", "length")


@dataclass(frozen=True, slots=True)
class Bill:
    """What an endpoint counted for requests, unusable answers included. `cached_tokens` are part of `input_tokens`."""

    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Bill) -> Bill:
        return Bill(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
        )


NO_BILL = Bill()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of one request. `stop` are strings that end the text and are not part of it."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    max_tokens: int = 1024
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, bias)
    thinking_budget: int | None = None  # tokens of a thought, beside max_tokens; None: max_tokens bounds both

    @property
    def most_tokens(self) -> int:
        """Most tokens of thought and answer together."""
        return self.max_tokens + (self.thinking_budget or 0)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """What the text of a completion must look like; engines that can, constrain their output to it.

    Attributes:
        kind: the language of `spec`: a regular expression, an EBNF grammar (xgrammar's), or a JSON schema.
        spec: the text of that expression, grammar or schema; empty: nothing is enforced (`choices` work as ever).
        choices: the legal values of a choice slot in the output, for example `("1", "2", "3", "4", "5")`. If not empty,
            the engine returns for every output position that holds one of them the log-probabilities of all of them
            (`Completion.choice_logprobs`).
        template: a text that matches `spec` once `{0}` … `{n-1}` are replaced by choices. The `echo` engine fills it.
        slot_texts: the text that each slot of the template is about, in slot order (the `echo` judge rates these).
    """

    kind: Literal["regex", "grammar", "json"]
    spec: str
    choices: tuple[str, ...] = ()
    template: str | None = None
    slot_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One call of an engine: a conversation in, `n` completions out.

    Attributes:
        request_id: unique within the (stage, unit), and the same on every run.
        messages: the conversation; the last turn is the user's, or the assistant's (then it is continued).
        seed: seed of sample 0; sample i uses `seed + i` (vLLM's rule for n > 1), so base seeds must be hashes.
        output_format: constraint on the text, or None.
        priority: lower goes first where the engine schedules by priority.
        attempt: 1, and one more for each time that a stage asked again.
        adapter: which of the model's adapters answers (`model.adapters`); None: none of them.
        render: how the conversation becomes a text: as one whose next turn is asked for (`turn`), as it stands, with
            nothing asked for and nothing continued (`whole`), or its messages alone, without a chat template (`plain`).
        tags: what the stage that made the request wants to know of it later (a judge's: which `aspect`). An engine of
            models reads none of them; a check before the run does (`label`).
        tools: that the model may call.
        windowed: a text that is longer than the model's context is read in windows that overlap; of `plain` ones only.
        prompt_token_ids: filled in by `Engine.encode`; None means that the engine takes `messages`.
        windows: the ids of each window, where it takes several (`prompt_token_ids` are then the first one's).
    """

    request_id: str
    messages: Messages
    sampling: Sampling
    n: int = 1
    seed: int = 0
    output_format: OutputFormat | None = None
    priority: int = 0
    attempt: int = 1
    adapter: str | None = None
    render: Literal["turn", "whole", "plain"] = "turn"
    tags: Mapping[str, str] = field(default_factory=dict)
    tools: Sequence[Tool] = ()
    windowed: bool = False
    prompt_token_ids: tuple[int, ...] | list[int] | None = None
    windows: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True)
class ChoiceLogprobs:
    """Log-probabilities of all choices at one output position.

    Attributes:
        start: character offset in `Completion.text` of the choice that was drawn there.
        logprobs: natural-log probability per choice (`"1"` … `"5"`), summed over the tokens that spell it; choices that
            the engine gave no probability for are absent. Not normalised.
    """

    start: int
    logprobs: dict[str, float]


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call of a tool as a model wrote it: `arguments` is text, which may be no JSON."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion as an engine returned it. Token counts: the prompt's are the same for all n of a request.

    Attributes:
        text: the answer alone, without the thought before it.
        output_tokens: of thought and answer.
        reasoning: the thought; None: the model did not think, or nothing could be told apart. Empty: a provider hides
            it.
        reasoning_tokens: how many of `output_tokens` are the thought's; None as for `reasoning`.
        tool_calls: what it calls, beside the text; empty: nothing. As the model wrote them: see `check_calls`.
        bad_call: a call that could not be read, as it was written; None: there is none.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    choice_logprobs: tuple[ChoiceLogprobs, ...] = ()
    bill: Bill = NO_BILL  # of an endpoint, for this completion and the tries before it
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    tool_calls: tuple[WrittenCall, ...] = ()
    bad_call: str | None = None

    @property
    def fault(self) -> str | None:
        """Why a thought is no answer: `thought_cut_off` (at a limit) or `no_answer` (it ended itself); else None."""
        if self.reasoning is None or self.text.strip() or self.tool_calls or self.bad_call is not None:
            return None
        return "thought_cut_off" if self.finish_reason == "length" else "no_answer"


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """A request that gave no completion: a slug for the report, one line for people, and whether to try again."""

    reason: str
    message: str
    retryable: bool = False
    raw: str = ""  # the beginning of an answer that could not be used
    bill: Bill = NO_BILL


Outcome = Sequence[Completion | RequestFailure] | RequestFailure
"""What became of one request: its n samples (len == n), each a completion or why there is none; or why there is no
sample at all. Where one sample is asked for, a failure is never inside a sequence."""


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """What one task did, in numbers: all that a replica sends back to the driver.

    `started_at` and `ended_at` are Unix times in seconds of the task's first request and last completion.
    Prompt tokens count once per request, output tokens once per completion.
    """

    rows: int = 0
    failed_rows: int = 0
    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)  # reason → rows
    may_pass: dict[str, int] = field(default_factory=dict)  # the same, of failures that another try may mend
    tries: int = 0  # how often rows of it were asked again at a later start
    billed_requests: int = 0  # of endpoints, which count each sample's prompt: see Bill
    billed_input_tokens: int = 0
    billed_cached_tokens: int = 0
    billed_output_tokens: int = 0
    reasoning_tokens: int = 0  # of output_tokens, those of thoughts
    reused: dict[str, int] = field(default_factory=dict)  # run directory → rows that were taken from it


def add_counts(items: Sequence[UnitCounts]) -> UnitCounts:
    """Return the sum of counts, with the earliest start and the latest end."""
    failures: Counter[str] = Counter()
    may_pass: Counter[str] = Counter()
    reused: Counter[str] = Counter()
    for item in items:
        reused.update(item.reused)
        failures.update(item.failures)
        may_pass.update(item.may_pass)
    starts = [item.started_at for item in items if item.started_at]
    return UnitCounts(
        rows=sum(item.rows for item in items),
        failed_rows=sum(item.failed_rows for item in items),
        requests=sum(item.requests for item in items),
        input_tokens=sum(item.input_tokens for item in items),
        cached_input_tokens=sum(item.cached_input_tokens for item in items),
        output_tokens=sum(item.output_tokens for item in items),
        started_at=min(starts, default=0.0),
        ended_at=max((item.ended_at for item in items), default=0.0),
        failures=dict(failures),
        may_pass=dict(may_pass),
        tries=max((item.tries for item in items), default=0),
        billed_requests=sum(item.billed_requests for item in items),
        billed_input_tokens=sum(item.billed_input_tokens for item in items),
        billed_cached_tokens=sum(item.billed_cached_tokens for item in items),
        billed_output_tokens=sum(item.billed_output_tokens for item in items),
        reasoning_tokens=sum(item.reasoning_tokens for item in items),
        reused=dict(reused),
    )


def sampling_fields(sampling: Any) -> dict[str, Any]:
    """Return what sampling parameters (a dataclass) add to a hash: fields of later versions only where they are set."""
    fields = asdict(sampling)
    return {key: value for key, value in fields.items() if key != "thinking_budget" or value is not None}


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, non-ASCII kept, the same on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def stable_hash(*parts: Any, bits: int = 64) -> int:
    """Return an unsigned integer of `bits` bits that depends on `parts` only (never on Python's hash seed)."""
    digest = hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[: bits // 8], "big")


def stable_hex(*parts: Any, digits: int = 16) -> str:
    """Return the first `digits` hexadecimal digits of the SHA-256 of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def make_prompt_id(messages: Messages, tools: Sequence[Tool] = ()) -> str:
    """Return the identity of a conversation: 20 hexadecimal digits over its canonical messages, and tools if any."""
    turns = [[m["role"], m["content"], *([more] if (more := read_call_fields(m)) else [])] for m in messages]
    return stable_hex(turns, *([list(tools)] if tools else []), digits=20)


CALL_FIELDS = ("tool_calls", "tool_call_id", "name")
"""What a turn may have beside role and content."""


def read_call_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a turn has beside role and content; empty: nothing."""
    return {key: message[key] for key in CALL_FIELDS if message.get(key)}


def make_seed(run_seed: int, *parts: Any) -> int:
    """Return a seed in [0, 2**62) for `parts`; adjacent inputs give unrelated seeds."""
    return stable_hash(run_seed, *parts, bits=64) >> 2


MESSAGES_TYPE = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())]))

PROMPTS_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("messages", MESSAGES_TYPE, nullable=False),
        pa.field("source", pa.string(), nullable=False),  # file name or data set id
        pa.field("source_row", pa.int64(), nullable=False),  # 0-based row (line for JSONL) within the source
        pa.field("reference", pa.string()),  # a reference answer, where the table has one
        pa.field("metadata", pa.string(), nullable=False),  # JSON object of all other columns
    ]
)


def write_arguments(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose calls have their arguments as JSON text: endpoints take them so, and some templates."""
    return [
        {**turn, "tool_calls": [_spell(call) for call in turn["tool_calls"]]} if turn.get("tool_calls") else dict(turn)
        for turn in messages
    ]


def _spell(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": canonical_json(function["arguments"])}}


def number_calls(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as an endpoint takes them: arguments as text, an id for each call, and the same for its result.

    Where ids are missing, results are taken to stand in the order of the calls.
    """
    numbered: list[dict[str, Any]] = []
    ids = (f"call_{number}" for number in range(sum(len(turn.get("tool_calls", ())) for turn in messages)))
    waiting: Iterator[str] = iter(())
    for turn in write_arguments(messages):
        if turn.get("tool_calls"):
            turn["tool_calls"] = [{**call, "id": call.get("id") or next(ids)} for call in turn["tool_calls"]]
            waiting = iter([call["id"] for call in turn["tool_calls"]])
        elif turn["role"] == "tool":
            following = next(waiting, "call_0")
            turn.setdefault("tool_call_id", following)
        numbered.append(turn)
    return numbered


CALL_MARK = "[Tool call]"
"""What stands before a call in a text that is for readers."""


def spell_calls(text: str, calls: Sequence[ToolCall]) -> str:
    """Return an answer as text: what it says, and below it each call on a line of its own, as JSON."""
    if not calls:
        return text
    lines = [spell_json({key: call["function"][key] for key in ("name", "arguments")}) for call in calls]
    marked = [f"{CALL_MARK} {line}" for line in lines]
    return "\n".join([*([text] if text.strip() else []), *marked])


def spell_json(value: Any) -> str:
    """Return a value as one line of JSON for readers."""
    return json.dumps(value, ensure_ascii=False, default=str).translate(_LINE_ENDS)


_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Ends of lines that JSON leaves as they are."""


def tell_turns(turns: Sequence[Any]) -> list[dict[str, str]]:
    """Return turns of a conversation for people: what a turn calls is a part of its text.

    A turn is a mapping, or the JSON text of one, as a data set of a run with tools has it.
    """
    told = []
    for turn in turns:
        read = json.loads(turn) if isinstance(turn, str) else turn
        text = spell_calls(str(read.get("content") or ""), read.get("tool_calls") or ())
        told.append({"role": str(read.get("role") or ""), "content": text})
    return told


TOOLS_FIELDS = (
    pa.field("tools", pa.string()),  # JSON list of the tools that the model may call; null: none
    pa.field("calls", pa.string()),  # JSON list, aligned with messages: of each turn `read_call_fields`; null: none
)
"""Further columns of prompts, only in units where a prompt has tools or a turn that calls some."""

EDITABLE: Mapping[str, tuple[str, ...]] = {"reference": ("reference",), "metadata": ("metadata", "source")}
"""What may change in a prompts table while the prompts stay the same (their ids hash `messages`): part → columns."""
PROMPT_PARTS = ("messages", *EDITABLE)

# One row per (prompt, sample), in the order of the unit's prompts, then of sample_index.
# A request that failed gives n rows with `error` set and `text` null.
GENERATIONS_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("completion_id", pa.string(), nullable=False),  # "<generator>:<sample_index>", unique in the prompt
        pa.field("generator", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("error", pa.string()),  # reason slug, null when the row is good
    ]
)

# One row per judge request: (prompt, aspect, repetition, group). Lists are aligned: ratings[i], expected[i],
# rationales[i] are about completion_ids[i] (canonical order, the presentation order already undone).
JUDGEMENTS_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("aspect", pa.string(), nullable=False),
        pa.field("repetition", pa.int32(), nullable=False),  # 0 … judge.orders - 1
        pa.field("group", pa.int32(), nullable=False),  # listwise group or, pointwise, the completion's number
        pa.field("mode", pa.string(), nullable=False),  # listwise | pointwise
        pa.field("judge_model", pa.string(), nullable=False),
        pa.field("completion_ids", pa.list_(pa.string()), nullable=False),
        pa.field("slots", pa.list_(pa.int32()), nullable=False),  # slots[i]: 0-based place where completion i was shown
        pa.field("ratings", pa.list_(pa.int32()), nullable=False),  # null where the judge gave no valid rating
        pa.field("expected", pa.list_(pa.float64()), nullable=False),  # Σ k·p(k), null without log-probabilities
        pa.field("rationales", pa.list_(pa.string()), nullable=False),
        pa.field("status", pa.string(), nullable=False),  # ok | partial | invalid | error
        pa.field("raw_text", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("canary", pa.string()),  # kind of the planted text, null in a real judgement
        pa.field("canary_detail", pa.string()),  # JSON: which completion_ids are planted and what is expected
        pa.field("error", pa.string()),  # reason slug of a failed request, or of a failed parse
    ]
)

# One row per prompt, in the order of the unit's: what one generator answered to the turns before the last.
HISTORY_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),  # to the open turns, in order (`find_open_turn`)
        pa.field("error", pa.string()),  # reason slug of the turn that could not be answered
    ]
)

PROMPT_ROW = ""
"""The `completion_id` of a row that is about a prompt, and so about each of its completions."""

# One row per completion, in the order of the unit's prompts: what a scorer other than the judge gave it. A scorer that
# looks at prompts has one row per prompt, with PROMPT_ROW.
SCORER_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("completion_id", pa.string(), nullable=False),
        pa.field("scorer", pa.string(), nullable=False),  # a key of scorers
        pa.field("value", pa.float64()),  # higher is better; null: no verdict
        pa.field("reason", pa.string()),  # slug of why there is no value
        pa.field("detail", pa.string()),  # what was seen, for people
        pa.field("error", pa.string()),  # the same slug where the scorer itself failed: it may be asked again
    ]
)

# One row per (prompt, sample) of a distilabel task, in the order of the unit's prompts, then of sample_index.
TASK_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("output", pa.string()),  # JSON object of the task's output columns, null where the text holds none
        pa.field("raw_text", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("error", pa.string()),  # reason slug, null when every output column has a value
    ]
)

REASONING_FIELDS = (
    pa.field("reasoning", pa.string()),  # the thought before the text; empty where a provider hides it
    pa.field("reasoning_tokens", pa.int32()),  # those of output_tokens that are the thought's
)
"""Further columns of the three tables above, only in units where something has thought."""

SPLIT_FIELD = pa.field("split_from", pa.int32())
"""A further column of judgements, only in units where a judge's prompt was too long: how many texts it was to show."""

TOOL_CALLS_FIELD = pa.field("tool_calls", pa.string())
"""A further column of completions, only in units whose prompts have tools: JSON list of the calls (`ToolCall`), null
where there is none. Of a row whose error is a bad call it is what the model wrote."""

PRINCIPLE_FIELD = pa.field("principle", pa.string())
"""A further column of completions, of generators that have principles: the one that a completion was drawn under."""


CALLS_OF = ".calls"
"""Ends the name of a column beside one of conversations: JSON lists, aligned with the turns, as `calls` of prompts."""


def extend_schema(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Return the schema of prompts, or a stage's, with those of its further columns that are among `columns`."""
    if "source_row" in schema.names:
        further: Sequence[pa.Field] = TOOLS_FIELDS
    elif "output_tokens" in schema.names:
        further = (*REASONING_FIELDS, SPLIT_FIELD, PRINCIPLE_FIELD, TOOL_CALLS_FIELD)
    else:
        return schema
    return pa.schema([*schema, *[f for f in further if f.name in columns and f.name not in schema.names]])


def extend_generations(columns: Sequence[str]) -> pa.Schema:
    """Return SCORED_GENERATIONS_SCHEMA with those of its optional columns that are among `columns`."""
    schema = extend_schema(SCORED_GENERATIONS_SCHEMA, columns)
    schema = pa.schema([*schema, *[f for f in list_call_columns("prompt") if f.name in columns]])
    return schema.append(pa.field("scores", SCORES_TYPE)) if "scores" in columns else schema


def list_call_columns(*conversations: str) -> list[pa.Field]:
    """Return the columns that a data set's rows have on the way where the run has tools: of each column of
    conversations what its turns call, and the tools."""
    return [pa.field("tools", pa.string()), *[pa.field(f"{name}{CALLS_OF}", pa.string()) for name in conversations]]


def list_reasoning(completions: Sequence[Completion | None]) -> dict[str, list[Any]]:
    """Return the columns of REASONING_FIELDS for rows of completions (None: a failed one); empty: nobody thought."""
    if all(c is None or (c.reasoning is None and c.reasoning_tokens is None) for c in completions):
        return {}
    return {f.name: [None if c is None else getattr(c, f.name) for c in completions] for f in REASONING_FIELDS}


def list_conversations(prompts: pa.Table, column: str = "messages") -> list[list[Message]]:
    """Return the conversations of prompts, in order, with what their turns call."""
    conversations: list[list[Message]] = prompts[column].to_pylist()
    if "calls" not in prompts.column_names:
        return conversations
    for turns, text in zip(conversations, prompts["calls"].to_pylist(), strict=True):
        for turn, more in zip(turns, json.loads(text), strict=True) if text else ():
            turn.update(cast(Message, more or {}))
    return conversations


def find_open_turn(messages: Messages) -> int | None:
    """Return the index of the first user turn that nobody answers, because the user goes on; None: there is none."""
    roles = [turn["role"] for turn in messages]
    pairs = enumerate(itertools.pairwise(roles))
    return next((index for index, pair in pairs if pair == ("user", "user")), None)


def count_open_turns(messages: Messages) -> int:
    """Return how many user turns of a conversation nobody answers, the last one not counted."""
    roles = [turn["role"] for turn in messages]
    return sum(pair == ("user", "user") for pair in itertools.pairwise(roles))


def fill_turns(prompts: pa.Table, history: pa.Table) -> pa.Table:
    """Return prompts whose open turns are answered as the history says; those that it has no answers for stay open."""
    answers = dict(zip(history["prompt_id"].to_pylist(), history["answers"].to_pylist(), strict=True))
    ids = prompts["prompt_id"].to_pylist()
    if not any(answers.get(prompt_id) for prompt_id in ids):
        return prompts
    filled: list[list[Message]] = []
    for prompt_id, messages in zip(ids, list_conversations(prompts), strict=True):
        turns: list[Message] = []
        said = iter(answers.get(prompt_id) or ())
        for turn, following in zip(messages, [*messages[1:], None], strict=True):
            turns.append(turn)
            if turn["role"] == "user" and following is not None and following["role"] == "user":
                turns += [Message(role="assistant", content=text) for text in itertools.islice(said, 1)]
        filled.append(turns)
    bare = [[{key: turn[key] for key in ("role", "content")} for turn in turns] for turns in filled]
    columns = {"messages": bare, **dump_calls(filled, list_tools(prompts))}
    for name, values in columns.items():
        if name in prompts.column_names:
            field = prompts.schema.field(name)
            place = prompts.schema.get_field_index(name)
            prompts = prompts.set_column(place, field, pa.array(values, field.type))
    return prompts


def list_tools(prompts: pa.Table) -> list[tuple[Tool, ...]]:
    """Return the tools of each prompt, in order."""
    if "tools" not in prompts.column_names:
        return [()] * prompts.num_rows
    return [tuple(json.loads(text)) if text else () for text in prompts["tools"].to_pylist()]


def dump_calls(conversations: Sequence[Messages], tools: Sequence[Sequence[Tool]]) -> dict[str, list[str | None]]:
    """Return the columns of TOOLS_FIELDS for prompts; empty: none of them has tools or a turn that calls some."""
    extras = [[read_call_fields(turn) for turn in turns] for turns in conversations]
    if not any(tools) and not any(one for turns in extras for one in turns):
        return {}
    return {
        "tools": [canonical_json(list(some)) if some else None for some in tools],
        "calls": [canonical_json([one or None for one in turns]) if any(turns) else None for turns in extras],
    }


def split_turns(table: pa.Table, column: str = "prompt") -> pa.Table:
    """Return a data set's rows with conversations as MESSAGES_TYPE, and what turns call in a column beside them.

    In a data set of a run with tools a turn is one JSON object; other tables are returned as they are.
    """
    if pa.types.is_struct(table.schema.field(column).type.value_type):
        return table
    conversations = [[json.loads(turn) for turn in turns] for turns in table[column].to_pylist()]
    bare = [[{key: turn[key] for key in ("role", "content")} for turn in turns] for turns in conversations]
    calls = dump_calls(conversations, [()] * len(conversations)).get("calls") or [None] * len(conversations)
    place = table.schema.get_field_index(column)
    table = table.set_column(place, pa.field(column, MESSAGES_TYPE, nullable=False), pa.array(bare, MESSAGES_TYPE))
    return table.append_column(f"{column}{CALLS_OF}", pa.array(calls, pa.string()))


def list_calls(completions: pa.Table) -> list[str | None]:
    """Return what each completion calls, as JSON; None: nothing."""
    if TOOL_CALLS_FIELD.name not in completions.column_names:
        return [None] * completions.num_rows
    calls: list[str | None] = completions[TOOL_CALLS_FIELD.name].to_pylist()
    return calls


def join_calls(table: pa.Table) -> pa.ChunkedArray:
    """Return the text of completions with what they call behind it, for whatever compares or looks for texts."""
    text = table["text"]
    if TOOL_CALLS_FIELD.name not in table.column_names:
        return text
    calls = pc.fill_null(pc.binary_join_element_wise("\n", table[TOOL_CALLS_FIELD.name], ""), "")
    return pc.binary_join_element_wise(text, calls, "")


def concat_units(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables of one kind below each other; columns that only some of them have are null in the others."""
    return pa.concat_tables(tables, promote_options="default")


def count_answer_tokens(table: pa.Table) -> pa.ChunkedArray:
    """Return the tokens of each row's answer: `output_tokens` without those of the thought."""
    tokens = table["output_tokens"]
    if "reasoning_tokens" not in table.column_names:
        return tokens
    return pc.subtract(tokens, pc.fill_null(table["reasoning_tokens"], 0))


_JUDGEMENT_TYPE = pa.struct(
    [
        pa.field("aspect", pa.string()),
        pa.field("repetition", pa.int32()),
        pa.field("rating", pa.int32()),  # null where the judge gave no valid rating
        pa.field("expected", pa.float64()),  # Σ k·p(k), null without log-probabilities
        pa.field("rationale", pa.string()),
        pa.field("status", pa.string()),  # of the whole judge request: ok | partial | invalid | error
        pa.field("judge_model", pa.string()),
        pa.field("slot", pa.int32()),  # 0-based place in which the completion was shown
        pa.field("place", pa.float64()),  # points that the place adds, taken out of the score; null: none are
        pa.field("raw_text", pa.string()),  # all that the judge wrote, of every completion that it was shown
    ]
)
SCORES_TYPE = pa.list_(
    pa.struct(
        [
            pa.field("scorer", pa.string()),  # judge, or a key of scorers
            pa.field("value", pa.float64()),  # null: no verdict
            pa.field("verdict", pa.bool_()),  # whether it passes the scorer's threshold; null without a value
            pa.field("reason", pa.string()),  # why there is no value
            pa.field("detail", pa.string()),
        ]
    )
)
"""A completion's scores by all scorers: the column `scores` of `generations`, in runs that have scorers."""

# The data set's configs. TRL gives a meaning to `prompt`, `chosen`, `rejected`, `completion`, `label`, and to `tools`
# where the run has some; no other column has a name that it reads or writes (`messages`, `images`,
# `chat_template_kwargs`, `margin`, `*_ids`, `ref_*`). `chosen`, `rejected` and `completion` hold exactly one assistant
# turn.
PAIRS_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES_TYPE, nullable=False),
        pa.field("chosen", MESSAGES_TYPE, nullable=False),
        pa.field("rejected", MESSAGES_TYPE, nullable=False),
        pa.field("chosen_model", pa.string(), nullable=False),
        pa.field("rejected_model", pa.string(), nullable=False),
        pa.field("chosen_generator", pa.string(), nullable=False),
        pa.field("rejected_generator", pa.string(), nullable=False),
        pa.field("chosen_completion_id", pa.string(), nullable=False),
        pa.field("rejected_completion_id", pa.string(), nullable=False),
        pa.field("chosen_score", pa.float64(), nullable=False),
        pa.field("rejected_score", pa.float64(), nullable=False),
        pa.field("score_margin", pa.float64(), nullable=False),  # chosen_score - rejected_score, > 0
        pa.field("chosen_tokens", pa.int32()),
        pa.field("rejected_tokens", pa.int32()),
        pa.field("pair_policy", pa.string(), nullable=False),
        pa.field("pair_index", pa.int32(), nullable=False),  # 0-based number of the pair within its prompt
        pa.field("source", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),  # JSON object, as in PROMPTS_SCHEMA
    ]
)

KTO_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt", MESSAGES_TYPE, nullable=False),
        pa.field("completion", MESSAGES_TYPE, nullable=False),
        pa.field("label", pa.bool_(), nullable=False),  # true: desirable
        pa.field("score", pa.float64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("generator", pa.string(), nullable=False),
        pa.field("completion_id", pa.string(), nullable=False),
        pa.field("completion_tokens", pa.int32()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)

# Every completion, the failed ones too. `prompt` is repeated so that the rows can be paired anew on their own.
SCORED_GENERATIONS_SCHEMA = pa.schema(
    [
        *GENERATIONS_SCHEMA,
        pa.field("prompt", MESSAGES_TYPE, nullable=False),
        pa.field("score", pa.float64()),  # null without a valid judgement
        pa.field("judgements", pa.list_(_JUDGEMENT_TYPE), nullable=False),  # by aspect, then repetition
    ]
)
