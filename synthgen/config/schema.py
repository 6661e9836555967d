"""The typed configuration: one dataclass per Hydra group. Types reject typos; `validate` rejects what cannot work.

Hydra 1.3 runs `__post_init__` only in `OmegaConf.to_object`, so the CLI converts once (`load_config`) and everything
below it sees plain dataclasses, treated as read-only. Every field has its unit in a comment.

One file because Hydra composes one tree, and a key is looked up here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from synthgen.config.engine_type import ENGINES, EngineType


class Rationale(str, Enum):
    """How much the judge writes beside each rating."""

    full = "full"  # a paragraph per completion, as UltraFeedback asks for
    short = "short"  # a sentence or two
    none = "none"  # ratings alone: a handful of tokens per judgement


class JudgeLayout(str, Enum):
    """What comes first in a judge's prompt: its requests share their beginning in the engine's prefix cache."""

    rubric_first = "rubric_first"  # UltraFeedback's order; an aspect's requests share the rubric
    texts_first = "texts_first"  # a prompt's requests share its texts between aspects


class JudgeFraming(str, Enum):
    """How a judge tells what it rates from what it is told."""

    boundary = "boundary"  # between tags with an id that no text holds; nothing in a text is altered
    brackets = "brackets"  # distilabel's prompt; in texts, what looks like structure is put into brackets or quoted


class JudgeMode(str, Enum):
    """How completions are shown to the judge."""

    listwise = "listwise"  # all of a prompt's completions in one request
    pointwise = "pointwise"  # one completion per request


class JudgeCanaries(str, Enum):
    """How many prompts also get a planted test of the judge."""

    auto = "auto"  # 2% of the first 5,000 rows of a source, and ever fewer of those that follow
    none = "none"  # none


class RetryFailed(str, Enum):
    """Which failed rows of earlier starts are asked again, beside those of a stage that failed as a whole."""

    auto = "auto"  # whose failure may pass (a time-out, a rate limit, a server's error), at three starts
    never = "never"  # none: what is committed stays as it is
    always = "always"  # every failed row, at every start


AUTO_CANARIES = 0.02
"""Share of the prompts that get a planted test where `judge.canaries=auto`."""


@dataclass
class EchoConfig:
    """The `echo` engine: deterministic text, no model. For tests, dry runs and benchmarks."""

    output_tokens: int = 24  # mean words per completion
    long_tail: bool = False  # draw lengths from a long-tailed distribution instead of around the mean
    tokens_per_s: float = 0.0  # simulated speed of one sequence, tokens/s; 0: instant
    start_s: float = 0.0  # simulated load time, s
    judge: str = "quality"  # what the echo judge goes by: quality | slot1 | longer | random | constant
    poison: str = ""  # a prompt that holds this text kills the engine (for tests); empty: none
    hang: str = ""  # a prompt that holds this text never returns (for tests); empty: none
    think_tokens: int = 0  # mean words of the thought before each completion; 0: it does not think
    call_share: float = 0.0  # share of the completions that call a tool, where the prompt has some, 0..1
    bad_call_share: float = 0.0  # share of those whose call cannot be read, or is of no such tool, 0..1
    fail_start: bool = False  # start() fails (for tests)
    fail_share: float = 0.0  # share of the prompts, drawn by their text, whose requests fail (for tests), 0..1
    fail_reason: str = "invalid_request"  # reason of those failures (for tests)
    fail_retryable: bool = False  # whether those failures may pass (for tests)


@dataclass
class EndpointConfig:
    """An OpenAI-compatible endpoint. Its key is read from the environment variable that `api_key_env` names."""

    base_url: str = ""  # such as http://localhost:8000/v1
    base_urls: list[str] = field(default_factory=list)  # more addresses of the same model, used side by side
    api_key_env: str = "OPENAI_API_KEY"  # environment variable with the key; several with commas are used side by side
    max_concurrency: int = 64  # most requests in flight per replica, address and key; fewer where the server slows
    requests_per_minute: int = 0  # per replica, address and key; 0: no limit
    tokens_per_minute: int = 0  # per replica, address and key; 0: no limit
    timeout_s: float = 600.0  # wall time of one request, s
    max_retries: int = 6  # tries after a request that failed for a passing reason of its own
    outage_s: float = 1800.0  # how long a server that serves nobody is waited for, s
    structured_output: str = "auto"  # auto (probed) | none | vllm (regex/grammar as extra body) | json_schema
    max_tokens_key: str = "max_tokens"  # how the server calls the limit of the output; learnt where it says so
    max_output_tokens: int = 0  # most output tokens that the server takes; 0: learnt from its refusal
    leave_out: list[str] = field(default_factory=list)  # parameters that are never sent, such as seed or logprobs
    extra_body: dict[str, Any] = field(default_factory=dict)  # put into every request; wins over what is there
    extra_headers: dict[str, str] = field(default_factory=dict)  # of every request; `env:NAME`: from the environment
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)  # over the model's, for its server alone
    service_tier: str = ""  # such as flex, where the provider has tiers; empty: not sent
    ca_file: str = ""  # PEM file of the authority that signed the server's certificate; empty: the usual ones
    proxy: str = ""  # such as http://proxy:3128; empty: HTTPS_PROXY and NO_PROXY say
    unix_socket: str = ""  # path of a socket to connect to, whatever host base_url names; empty: none
    usd_per_million_input_tokens: float | None = None  # dollars; null: unknown
    usd_per_million_cached_tokens: float | None = None  # of input found in the provider's cache; null: as input
    usd_per_million_output_tokens: float | None = None  # dollars; null: unknown


THINKING_SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call their switch: Qwen 3, GLM and others; DeepSeek V3.1, Granite and others."""


@dataclass
class ModelConfig:
    """One entry of the catalog (`conf/model/`): a checkpoint and how to serve it."""

    name: str = ""  # catalog name; empty: no model is chosen
    id: str = ""  # Hub id, local directory, `.gguf` file, object-store URL, or `builtin:tiny`, `builtin:smollm2`
    gguf_file: str | None = None  # which GGUF file of the Hub repository or directory; null: none, or as `id` says
    revision: str | None = None  # Hub commit, tag or branch
    # What serves it: vllm | pooling (a classifier, by vLLM) | transformers (a classifier that vLLM does not have) |
    # openai (any such endpoint) | echo (no model), or path/to/file.py:NAME.
    engine: str = "vllm"
    license: str = "unknown"  # SPDX id or the Hub's licence name
    provenance: str | None = None  # where the weights come from, for the card; null: `id` says it
    fallback: str | None = None  # catalog name to take where a built-in model cannot be fetched; null: stop
    gated: bool = False  # whether the Hub asks to accept terms first
    chat_template: str | None = None  # Jinja text; null: the tokenizer's own
    # For the chat template: enable_thinking, reasoning_effort, thinking, … An endpoint's server is sent them.
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    thinking: bool | None = None  # turns thinking on or off where the chat template has a switch; null: its own choice
    reasoning_parser: str = "auto"  # tells thoughts from answers: auto (the checkpoint's family) | none | vLLM's name
    recipe_parser: str | None = None  # what `auto` takes, as vLLM's recipe for the model names it; null: by its family
    tool_parser: str = "auto"  # reads what it calls, where prompts have tools: auto (by family) | none | vLLM's name
    quantization: str | None = None  # null: as the checkpoint says
    unservable: str | None = None  # why this entry cannot be served, and what to take instead
    unchecked: str | None = None  # what of this entry could not be checked against the Hub; null: nothing
    min_vllm: str | None = None  # least version of vLLM, as its recipe gives it; null: not known
    seen_vllm: str | None = None  # newest version of vLLM that it was seen to run with, and where; null: not known
    requires_package: str | None = None  # a plugin that must be installed, such as vllm-gguf-plugin
    dtype: str = "auto"  # of weights and activations: auto | bfloat16 | float16 | float32
    kv_cache_dtype: str = "auto"  # auto | fp8 | fp8_e4m3 | fp8_e5m2
    load_format: str = "auto"  # `dummy`: random weights, for rehearsals
    tokenizer: str | None = None  # null: the model's own
    max_model_len: int | None = None  # tokens; null: as the checkpoint says
    tensor_parallel_size: int | None = None  # GPUs (or CPU processes) per replica; null: the planner chooses
    pipeline_parallel_size: int | None = None  # null: the planner chooses
    replicas: int | None = None  # null: as many as fit
    max_num_seqs: int | None = None  # sequences at once; null: the planner chooses
    max_num_batched_tokens: int | None = None  # tokens per engine step; null: vLLM's default
    gpu_memory_utilization: float = 0.92  # share of a GPU's memory that vLLM may take
    kv_cache_memory_gib: float | None = None  # GiB per process; null: vLLM measures (on CPU: 1)
    enable_prefix_caching: bool = True  # keep the KV cache of shared beginnings
    enable_chunked_prefill: bool | None = None  # null: vLLM's default (off on CPU, see docs/engines.md)
    enforce_eager: bool = False  # no CUDA graphs: slower, loads faster
    trust_remote_code: bool = False  # run Python code that comes with the checkpoint
    lora: str | None = None  # Hub id or directory of a LoRA adapter
    # More of them by name (Hub ids or directories), all in one engine: `generators.<name>.adapter` chooses one.
    adapters: dict[str, str] = field(default_factory=dict)
    engine_args: dict[str, Any] = field(default_factory=dict)  # any other AsyncEngineArgs
    echo: EchoConfig = field(default_factory=EchoConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    # Architecture numbers for planning without the checkpoint's files (its config.json's own names and values).
    architecture: dict[str, Any] = field(default_factory=dict)

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """Arguments of the chat template: both names of the switch, since it ignores what it has no use for."""
        switch = {} if self.thinking is None else dict.fromkeys(THINKING_SWITCHES, self.thinking)
        return {**switch, **self.chat_template_kwargs}

    @property
    def named_parser(self) -> str:
        """The reasoning parser where it is named: by the user, or by the recipe; else `auto`."""
        return self.recipe_parser or "auto" if self.reasoning_parser == "auto" else self.reasoning_parser

    @property
    def served_by(self) -> EngineType:
        """What the engine is like that serves it. Raises ConfigError for one of an unknown name."""
        found: EngineType = ENGINES.load(self.engine, "model.engine")
        return found


@dataclass
class SamplingConfig:
    """How completions are drawn (vLLM's names)."""

    temperature: float = 1.0  # 0: greedy
    top_p: float = 1.0  # share of the probability mass to draw from, above 0, at most 1
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0  # least probability relative to the likeliest token, 0..1
    max_tokens: int = 1024  # most tokens per completion
    min_tokens: int = 0  # no end before so many tokens
    repetition_penalty: float = 1.0  # above 1: less repetition; 1: none
    presence_penalty: float = 0.0  # -2..2
    frequency_penalty: float = 0.0  # -2..2
    stop: list[str] = field(default_factory=list)  # texts that end a completion and are no part of it
    ignore_eos: bool = False  # go on to max_tokens (for benchmarks)
    logit_bias: dict[str, float] = field(default_factory=dict)  # token id (as text) → bias
    thinking_budget: int | None = None  # most tokens of a thought, beside max_tokens; null: max_tokens bounds both


class GeneratorTurns(str, Enum):
    """Which user turns of a conversation a generator answers."""

    last = "last"
    all = "all"  # those before it too, once each, for all generators; of one generator only


@dataclass
class GeneratorConfig:
    """One generator: a model that answers each prompt `n` times."""

    model: ModelConfig = field(default_factory=ModelConfig)
    n: int = 4  # completions per prompt
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    system_prompt: str | None = None  # put before conversations that have no system message
    # One of them is drawn for each completion and put there too, as UltraFeedback's principles are.
    principles: list[str] = field(default_factory=list)
    adapter: str | None = None  # which of model.adapters answers; null: the model as it is
    turns: GeneratorTurns = GeneratorTurns.last  # which of a conversation's user turns it answers
    # Completions that exist already (a file, a Hub data set, … as prompts.path); null: the model answers.
    path: Any = None
    column: str | None = None  # of path: the column that holds completions, a text or a list; null: the usual names
    model_column: str | None = None  # of path: the column that says who wrote them; null: the usual names


@dataclass
class AspectConfig:
    """A user's own aspect (`conf/judge/aspect/`): a rubric and its scale."""

    name: str = MISSING  # as in judge.aspects
    rubric: str = MISSING  # what the ratings mean, shown to the judge
    min_rating: int = 1  # worst
    max_rating: int = 5  # best


JUDGE_THINKING_BUDGET = 2048
"""Tokens of a judge's thought where `judge.thinking_budget` leaves it open; models that do not think have none."""


@dataclass
class JudgeConfig:
    """The LLM-as-judge step (UltraFeedback, arXiv 2310.01377)."""

    enabled: bool = True  # false (`judge=none`): nobody is asked to judge; see pairs.policy=by_generator and scorers
    model: ModelConfig = field(default_factory=ModelConfig)
    # What is rated, each in requests of its own; a score is the mean over them.
    aspects: list[str] = field(default_factory=lambda: ["overall-rating"])
    orders: int = 1  # how often each set is judged, each time in another order
    rationale: Rationale = Rationale.short  # how much the judge writes beside each rating
    layout: JudgeLayout = JudgeLayout.rubric_first  # what comes first in the prompt
    # How texts are told from instructions; null: boundary, or brackets where judgements made so are there already.
    framing: JudgeFraming | None = None
    format: str = "ultrafeedback"  # how it is asked and answers: UltraFeedback's way, or path/to/file.py:NAME
    mode: JudgeMode = JudgeMode.listwise  # how completions are shown to the judge
    max_listwise: int = 8  # completions per request; more are judged in balanced groups
    max_retries: int = 2  # times to ask again after an unparsable judgement
    correct_place: bool = True  # take out of the scores what the place adds where a completion is shown
    expected: bool = True  # score by the expected rating where log-probabilities exist (G-Eval, arXiv 2303.16634)
    constrained: bool = True  # constrain the output by a grammar where the engine can
    canaries: JudgeCanaries = JudgeCanaries.auto  # how many prompts also get a planted test
    canary_fraction: float | None = None  # share of prompts that get one, 0..1; null: `canaries` says
    temperature: float = 0.0  # 0: greedy
    max_tokens: int | None = None  # null: the exact need of the format
    thinking_budget: int | None = None  # most tokens of a thought, beside max_tokens; null: 2048 where it thinks
    aspect: dict[str, AspectConfig] = field(default_factory=dict)  # own aspects by name

    @property
    def planted_share(self) -> float:
        """Largest share of a source's prompts that get a planted test."""
        if self.canary_fraction is not None:
            return self.canary_fraction
        return AUTO_CANARIES if self.canaries is JudgeCanaries.auto else 0.0


class ScorerInput(str, Enum):
    """What a scorer with a model looks at."""

    prompt = "prompt"  # the prompt alone, once for all of its completions: for pairs.prompt_must_pass
    completion = "completion"  # a completion; a guard has the prompt beside it
    conversation = "conversation"  # classifier: prompt and completion, by the model's chat template


class LongTexts(str, Enum):
    """What a classifier makes of a text that is longer than its context."""

    refuse = "refuse"  # a row that failed: prompt_too_long
    lowest = "lowest"  # it is read in windows that overlap, and the lowest of their values is the text's
    highest = "highest"  # the same, with the highest of them


@dataclass
class ScorerConfig:
    """A scorer beside the judge (`conf/scorer/`): it gives each completion a number, or none with a reason."""

    # verifier (code) | recorded (what stands beside given completions) | classifier, guard (models) |
    # path/to/file.py:Stage
    type: str = "verifier"
    model: ModelConfig = field(default_factory=ModelConfig)  # classifier, guard: what scores
    reads: ScorerInput = ScorerInput.completion  # classifier, guard: prompt | completion | conversation
    # classifier: whose probability is the value, a name or a number of the model's labels; null: the logit of a model
    # that has one only.
    label: str | None = None
    # classifier, reads=prompt|completion: a text longer than the model's context: refuse (a failure) | lowest, highest
    # (read in windows, of whose values that one is taken).
    long_texts: LongTexts = LongTexts.refuse
    kind: str = ""  # math | constraints | json_schema | regex | exact | path/to/file.py:function (docs/scoring.md)
    reference: str | None = None  # column with the right answer; null: the prompt's reference
    generator: str | None = None  # recorded: the generator with a path whose choices or scores are taken
    threshold: float = 1.0  # values from here on pass: for gates, and for KTO rows by this scorer
    timeout_s: float = 10.0  # most time for one completion, s
    pattern: str = ""  # regex: what the completion must hold (Python's re; `^…$` for the whole)
    extract: str = ""  # exact: a regular expression whose first group is the completion's answer; empty: all of it
    ignore_case: bool = False  # regex, exact
    # json_schema: the schema, or the path of its file; null: any JSON value will do.
    schema: Any = None
    # constraints: for all prompts, such as [{id: length_constraints:number_words, num_words: 12, relation: at most}];
    # empty: the columns instruction_id_list and kwargs of each prompt.
    constraints: list[Any] = field(default_factory=list)
    strict: bool = True  # constraints: false also accepts a completion without its first or last line or its asterisks

    @property
    def called_label(self) -> str:
        """What people are told of the label: its name, or that it is a number."""
        return f"label {self.label}" if self.label and self.label.isdecimal() else self.label or ""


@dataclass
class KtoConfig:
    """Which completions are KTO rows: those that score high are desirable, those that score low are not."""

    desirable: float = 0.25  # share of the completions, the best ones, that are desirable; 0..1
    undesirable: float = 0.25  # share, the worst ones, that are undesirable; 0..1
    high: float | None = None  # scores from here on are desirable, whatever their share; null: `desirable` says
    low: float | None = None  # scores up to here are undesirable; null: `undesirable` says


@dataclass
class PairsConfig:
    """How scored completions become pairs."""

    policy: str = "best_worst"  # which completions pair (docs/pairs.md), or file.py:function (docs/extending.md)
    # How many pairs the data set has: the run ends when its first units, in order, give so many; null: all that come.
    target: int | None = None
    min_margin: float = 0.0  # pairs need score margin > 0 and >= this
    max_margin: float = 0.0  # most score margin of a pair; 0: no cap
    max_score_std: float = 0.0  # prompts whose scores differ by more (standard deviation) give no pair; 0: no cap
    # No pair whose label turns round with a higher probability if it is judged again (docs/trust.md); 0.5: any.
    max_flip_probability: float = 0.5
    max_pairs_per_prompt: int = 1  # most pairs of a prompt
    max_length_ratio: float = 0.0  # longer / shorter in tokens; 0: no cap
    max_length_gap: int = 0  # longer - shorter in tokens; 0: no cap
    length_control: bool = False  # take what length alone adds out of the score (docs/scoring.md)
    max_similarity: float = 0.95  # 0..1; more alike than this never pair
    generator: str | None = None  # on_policy: the generator that must be on one side
    chosen_generator: str | None = None  # by_generator: whose completion is chosen
    rejected_generator: str | None = None  # by_generator: whose completion is rejected
    score: str | None = None  # whose score pairs: judge, or a key of scorers; null: the judge, or the only scorer
    # Several scorers at once, such as {judge: 1, maths: 0.5}: what each weighs, on one scale (docs/scoring.md).
    weights: dict[str, float] = field(default_factory=dict)
    chosen_must_pass: list[str] = field(default_factory=list)  # scorers that a chosen completion must pass
    rejected_must_fail: list[str] = field(default_factory=list)  # scorers that a rejected completion must fail
    prompt_must_pass: list[str] = field(default_factory=list)  # scorers with reads=prompt that a prompt must pass
    prompt_must_fail: list[str] = field(default_factory=list)  # the same that it must fail: unsafe prompts alone, say
    drop_refusals: bool = True  # never choose a refusal
    reject_cut_off: bool = False  # what max_tokens cut off may be the rejected side, and an undesirable row of KTO
    kto: KtoConfig = field(default_factory=KtoConfig)


@dataclass
class TaskConfig:
    """A distilabel task that runs over the prompts (`pipeline=task`, docs/tasks.md)."""

    path: str = ""  # dotted path of its class, such as distilabel.steps.tasks.ComplexityScorer
    kwargs: dict[str, Any] = field(default_factory=dict)  # its own arguments
    model: ModelConfig = field(default_factory=ModelConfig)
    n: int = 1  # completions per prompt
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    inputs: dict[str, Any] = field(default_factory=dict)  # input column → prompt column, or a list of them


class RemovedPrompts(str, Enum):
    """What becomes of prompts that a run holds and that its source has no more."""

    refuse = "refuse"  # the run does not start
    keep = "keep"  # they stay in the data set
    drop = "drop"  # they are left out of the data set; their completions stay on the disk


class PromptDedup(str, Enum):
    """Which prompts count as the same."""

    normalized = "normalized"  # those that differ in white space, Unicode form or invisible characters at most
    exact = "exact"  # those whose texts are equal to the character


class PromptReference(str, Enum):
    """Where a reference answer comes from if `prompts.reference_column` names no column."""

    none = "none"  # there is none
    last_turn = "last_turn"  # the answer that ends the conversation; the judge takes it to be correct


class PromptTurns(str, Enum):
    """What becomes of a row with several user turns."""

    first = "first"  # of a list of texts the first; of a conversation all of it, and its last turn is answered
    last = "last"  # all of it, a list of texts too, and its last turn is answered
    each = "each"  # each user turn is a prompt of its own, with what stands before it


@dataclass
class PromptsConfig:
    """Where prompts come from and which columns hold them."""

    path: Any = MISSING  # file, glob, directory, URL (s3://, gs://, https://) or Hub data set id; or a list of such
    config: str | None = None  # data set: configuration name
    split: str = "train"  # data set on the Hub, saved or cloned: which split
    revision: str | None = None  # Hub: commit, tag or branch
    column: str | None = None  # text, list of messages or list of user turns; null: the first known name
    system_column: str | None = None  # text of a system message
    input_column: str | None = None  # text put below the prompt; null: `input` below `instruction`; empty: none
    reference_column: str | None = None  # a reference answer, shown to the judge
    tools_column: str | None = None  # tools that the model may call, as JSON schemas; null: `tools`; empty: none
    # What becomes of a row with several user turns; null: last where a generator has turns=all, else first.
    turns: PromptTurns | None = None
    reference: PromptReference | None = None  # null: none; in a run begun before there was a choice, last_turn
    limit: int | None = None  # first so many prompts, duplicates not counted
    max_bad_fraction: float = 0.01  # share of unreadable rows above which the run stops
    dedup: PromptDedup = PromptDedup.normalized  # which prompts count as the same
    # Sets whose prompts must not appear (decontamination): paths, or {path, config, split, revision, column}.
    exclude: list[Any] = field(default_factory=list)
    removed: RemovedPrompts = RemovedPrompts.refuse  # prompts of the run that the source has no more


@dataclass
class RunConfig:
    """The run itself."""

    dir: str = MISSING  # directory or object-store URL; `run_dir=` is the same key, with every command
    seed: int = 0  # of everything that is drawn
    unit_size: int = 64  # prompts per unit
    grace_s: float = 30.0  # on a signal: time to commit what is in flight, s
    log_interval_s: float = 10.0  # between progress lines where there is no terminal, s
    max_usd: float | None = None  # dollars for GPU-hours and endpoints after which the run stops; null: no limit
    max_gpu_hours: float | None = None  # GPU-hours after which the run stops; null: no limit
    max_failed_fraction: float = 0.2  # share of a stage's rows, judged from 50 on, that may fail before the run stops
    retry_failed: RetryFailed = RetryFailed.auto  # which failed rows the next start asks again: auto | never | always
    # Other run directories: completions and judgements of the same stage, prompt and input are taken from them.
    reuse: list[str] = field(default_factory=list)
    lease_s: float = 30.0  # a driver silent for so long has lost its run directory, s
    overrides: list[str] = field(default_factory=list)  # the command that this was composed of; synthgen sets it
    config_dir: str | None = None  # its --config-dir; synthgen sets it


@dataclass
class StorageConfig:
    """An object store that holds the run (docs/reliability.md)."""

    retry_s: float = 300.0  # what may pass (5xx, 429, cut connections, no answer) is tried again for so long, s


@dataclass
class GpuConfig:
    """One kind of GPU, by its data sheet."""

    name: str = ""  # as in the presets; empty: no GPU
    memory_gib: float = 0.0  # GiB
    bandwidth_gb_s: float = 0.0  # memory bandwidth, 10^9 bytes/s
    tflops_bf16: float = 0.0  # dense
    tops_fp4: float = 0.0  # dense FP4 peak, TFLOPS; 0: no FP4 units
    tops_fp8: float = 0.0  # dense; 0: none
    tops_int8: float = 0.0  # dense; 0: none
    interconnect_gb_s: float = 0.0  # to another GPU of the node, one direction, 10^9 bytes/s
    accelerator_type: str = ""  # Ray's name of this GPU (ray.util.accelerators)
    hour_usd: list[float] = field(default_factory=list)  # least and most that an hour costs, dollars; empty: not known
    hour_usd_source: str = ""  # who says so, of what, and when


@dataclass
class ClusterConfig:
    """The machines, and how hard to try on them."""

    name: str = "local"  # for messages
    address: str | None = None  # Ray address; null: RAY_ADDRESS, else Ray inside this process
    num_cpus: int | None = None  # embedded Ray: logical CPUs; null: as many as there are
    auto: bool = False  # read nodes and GPUs from the live Ray cluster
    nodes: int = 1  # machines
    gpus_per_node: int = 0  # 0: none
    gpu: GpuConfig = field(default_factory=GpuConfig)
    gpu_hour_usd: float = 0.0  # your price of a GPU-hour, dollars; 0: that of the data sheet (`gpu.hour_usd`), if any
    stall_timeout_s: float = 900.0  # a replica with work and no progress for so long is replaced, s
    ray_start_timeout_s: float = 180.0  # for Ray to start, or to answer at `address`, s
    start_timeout_s: float = 3600.0  # for loading a model, s
    max_load_attempts: int = 3  # tries to load a model before the run ends
    max_engine_restarts: int = 24  # engine deaths of a pool between two commits before the run ends
    max_task_attempts: int = 2  # engine deaths under one task before it runs alone; the next one splits it
    runtime_env: dict[str, Any] = field(default_factory=dict)  # Ray runtime_env of the replicas


class ExportColumns(str, Enum):
    """Which columns the data set's configs have."""

    all = "all"  # also ids, models, scores, tokens, source and metadata
    minimal = "minimal"  # what trainers read: prompt, chosen, rejected; `generations` keeps all


class ExportReasoning(str, Enum):
    """Where the data set has what was thought before an answer."""

    drop = "drop"  # nowhere: it stays in the run directory
    column = "column"  # beside the answers: chosen_reasoning, rejected_reasoning; reasoning in kto and generations
    inline = "inline"  # in the assistant's turn, under export.reasoning_key, where a chat template reads it


@dataclass
class ExportConfig:
    """What `<run.dir>/dataset/` holds."""

    test_fraction: float = 0.0  # share of prompts, by prompt hash, in the test split
    shard_mib: int = 256  # rough size of a Parquet shard, MiB in memory
    # Further exports, by trainer in docs/training.md: sft, text, hh, ultrafeedback, conversations, kto_conversations,
    # sharegpt, sharegpt_sft, ranked, jsonl.
    formats: list[str] = field(default_factory=list)
    columns: ExportColumns = ExportColumns.all  # all | minimal: prompt, chosen and rejected alone
    keep_columns: list[str] = field(default_factory=list)  # the prompts' own columns that become columns here
    reasoning: ExportReasoning = ExportReasoning.drop  # thoughts: drop | column | inline (in the assistant's turn)
    # With inline: the field that the chat template of the model to be trained reads, such as `thinking` (gpt-oss).
    reasoning_key: str = "reasoning_content"


@dataclass
class PublishConfig:
    """Where the data set goes."""

    repo_id: str | None = None  # Hub data set, such as org/name
    private: bool = True  # whether a new repository is private
    dry_run: bool = False  # show what would be sent, and send nothing
    revision: str | None = None  # branch; null: main
    tag: str | None = None  # a tag for the commit; null: none
    license: str | None = None  # null: from the models
    language: str | None = None  # ISO 639 code for the card, such as `en`, several with commas; null: left out
    to_dir: str | None = None  # a directory or object-store URL instead of the Hub


class ProveTrain(str, Enum):
    """How `prove` trains."""

    dpo = "dpo"  # direct preference optimization on the pairs (`+prove.args.loss_type=[ipo]`: another of TRL's losses)
    kto = "kto"  # Kahneman-Tversky optimization on single completions
    sft = "sft"  # on the chosen side alone: best of n


class ProveControl(str, Enum):
    """What the training on the pairs is compared with, beside the model before it."""

    shuffled = "shuffled"  # the same training where chance says which side was chosen
    none = "none"  # nothing: half of the time, and a weaker proof


class ProveServe(str, Enum):
    """How what was trained as an adapter answers."""

    adapters = "adapters"  # one engine of the base serves all of them
    merged = "merged"  # each is merged into the base's weights and has an engine of its own


@dataclass
class ProveConfig:
    """How `prove` finds out whether the data makes a model better (docs/proof.md)."""

    model: ModelConfig = field(default_factory=ModelConfig)  # what is trained; not chosen: the run's only generator
    train: ProveTrain = ProveTrain.dpo  # how it is trained
    steps: int = 40  # optimizer steps of each training
    control: ProveControl = ProveControl.shuffled  # what it is compared with
    holdout: float = 0.2  # share of the prompts, by their hash, that is held out; with export.test_fraction: its split
    prompts: int = 200  # most held-out prompts that are answered
    answers: int = 4  # of each model to each prompt, drawn as the run's first generator draws
    seed: int = 0  # of the training, of the control's sides, and of the answers
    lora: bool = True  # low-rank adapters, served by one engine; false: all weights, an engine for each model
    # How adapters answer; null: as adapters, and merged on a CPU, where vLLM is slow at adapters.
    serve: ProveServe | None = None
    dtype: str = "bfloat16"  # of the weights in training: bfloat16 | float32
    args: dict[str, Any] = field(default_factory=dict)  # any field of TRL's configuration, over those of prove
    launch: list[str] = field(default_factory=list)  # what starts the training, such as [accelerate, launch]; empty: it
    decide: str | None = None  # the scorer that decides; null: the first that had no part in the data, else the run's
    scorers: dict[str, ScorerConfig] = field(default_factory=dict)  # scorers that had no part in making the data
    judge: JudgeConfig = field(default_factory=lambda: JudgeConfig(enabled=False, orders=2))  # another judge
    # Prompts of another kind, to see what got worse: a path as prompts.path; null: none. Columns of IFEval are checked.
    side: Any = "builtin:facts"
    side_prompts: int = 100  # most of them that are answered


@dataclass
class PlanConfig:
    """How `plan` answers."""

    format: str = "text"  # text | json
    output_tokens: float | None = None  # expected tokens per completion, thoughts too; null: half of the limit
    efficiency: float = 0.65  # achieved share of the memory bandwidth, 0..1 (docs/planning.md)


@dataclass
class PreviewConfig:
    """What `preview` shows."""

    prompts: int = 5  # how many of the first prompts
    html: str | None = None  # file for the same as a page; null: terminal only


@dataclass
class CalibrateConfig:
    """How much `calibrate` measures."""

    units: int = 4  # units of `run.unit_size` prompts


@dataclass
class Config:
    """Everything that a command reads."""

    pipeline: str = "preference"  # a file in pipelines/, or a path to one's own (docs/extending.md)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    generators: dict[str, GeneratorConfig] = field(default_factory=dict)
    # How many of the generators answer a prompt, drawn for each; those with a path are beside them; null: all.
    generators_per_prompt: int | None = None
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    scorers: dict[str, ScorerConfig] = field(default_factory=dict)
    task: TaskConfig = field(default_factory=TaskConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    run: RunConfig = field(default_factory=RunConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    calibrate: CalibrateConfig = field(default_factory=CalibrateConfig)
    prove: ProveConfig = field(default_factory=ProveConfig)
