"""4. The judge: judgements per second by length of rationale, and how much of its input the prefix cache serves.

One set of completions is judged by each layout anew; longer ones, with the rubric first and with the texts first in
turns. The limit is the share of input tokens that an unbounded cache with the engine's block size would serve, if every
request found all that earlier ones had left there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from benchmarks.engines import Engines
from benchmarks.generate import prepare_requests
from benchmarks.outcome import Outcome, Target, interleave, median, ratios, spread
from benchmarks.work import make_config, read_words
from synthgen.config import Config, JudgeLayout
from synthgen.engines.prompt_encoder import PromptEncoder
from synthgen.flow import load_flow, resolve_flow
from synthgen.ledger.run_dir import RunDir
from synthgen.models.tiny import ensure_tiny_model
from synthgen.planning.memory import CPU_BLOCK
from synthgen.records import RequestFailure
from synthgen.stages.judge import JudgeStage

PROMPTS, QUICK_PROMPTS, REPETITIONS = 16, 8, 2
FOUR = ("judge=ultrafeedback_4_aspects", "judge.orders=2")
GPU_BLOCK = 16
"""Tokens in a block of vLLM's prefix cache on GPUs."""
WORDS_PER_TEXT = (25, 100, 200, 400)
LAYOUTS: dict[str, tuple[str, ...]] = {
    "4 aspects, 2 orders, full": (*FOUR, "judge.rationale=full"),
    "4 aspects, 2 orders, short": (*FOUR, "judge.rationale=short"),
    "4 aspects, 2 orders, none": (*FOUR, "judge.rationale=none"),
    "1 aspect, 2 orders, none": ("judge=ratings_only",),
    "1 aspect, pointwise, none": ("judge=pointwise", "judge.rationale=none"),
}
LONG = (
    *FOUR,
    "judge.rationale=none",
    "generators.main.sampling.min_tokens=300",
    "generators.main.sampling.max_tokens=400",
)
"""Texts of 300 tokens or little more, rated without rationales."""


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return speed and cached share of each layout."""
    prompts = QUICK_PROMPTS if quick else PROMPTS
    directory = engines.new_directory()
    rows = [
        _judge(engines, name, make_config(directory, prompts, *overrides))[0] for name, overrides in LAYOUTS.items()
    ]
    long_rows: dict[str, dict[str, Any]] = {}

    def judge_anew(layout: JudgeLayout) -> float:
        config = make_config(engines.new_directory(), prompts, *LONG, f"judge.layout={layout.value}")
        long_rows[layout.value], speed = _judge(
            engines, f"4 aspects, 2 orders, none, texts of 300 tokens, {layout.value}", config
        )
        return speed

    cases = {layout.value: partial(judge_anew, layout) for layout in JudgeLayout}
    speeds = interleave(cases, 1 if quick else REPETITIONS)
    for name, row in long_rows.items():
        row["judgements/s"] = median(speeds[name], 1)
    faster = ratios(speeds["texts_first"], speeds["rubric_first"])
    cached = min(row["cached"] for row in rows[:3])
    limits = _estimate_limits(make_config(directory, prompts, *FOUR, "judge.rationale=none"))
    return Outcome(
        "judge",
        f"{prompts:,} prompts with 4 completions each, tiny model",
        [*rows, *long_rows.values()],
        [Target("cached share, 4 aspects and 2 orders, least of the three", cached, 0.6)],
        [
            "A judgement is one request (4 texts; pointwise: 1).",
            f"texts_first / rubric_first, texts of 300 tokens, judgements/s: {spread(faster)}.",
            f"Blocks of {CPU_BLOCK} tokens: a prefix is cached in whole blocks only.",
            f"Limit by Mistral's tokenizer, blocks of {GPU_BLOCK}, 4 aspects and 2 orders, texts of "
            f"{', '.join(map(str, WORDS_PER_TEXT))} words: {'; '.join(limits)}.",
        ],
    )


def _judge(engines: Engines, name: str, config: Config) -> tuple[dict[str, Any], float]:
    """Return a row of the table, and judgements per second. Completions are made first, in one unit."""
    stages = resolve_flow(load_flow(config))
    engines.load(config, stages)
    report = engines.run(config, stages)["judge"]
    limit, per_request = _find_limit(config)
    speed = report["requests"] / report["busy_s"]
    row = {
        "layout": name,
        "judgements/s": round(speed, 1),
        "output tokens each": round(report["output_tokens"] / report["requests"]),
        "input tokens each": per_request,
        "cached": round(report["cached_input_tokens"] / report["input_tokens"], 3),
        "limit": limit,
    }
    return row, speed


def _find_limit(config: Config) -> tuple[float, int]:
    """Return the share of input tokens that an unbounded prefix cache would serve, and input tokens per request."""
    from transformers import AutoTokenizer

    stage = next(stage for stage in resolve_flow(load_flow(config)) if stage.name == "judge")
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(ensure_tiny_model()), None, "tiny")
    encoded = encoder.encode(prepare_requests(config, stage), 16384)
    prompts = [item.prompt_token_ids or () for item in encoded if not isinstance(item, RequestFailure)]
    return round(find_cached_share(prompts, CPU_BLOCK), 3), round(sum(map(len, prompts)) / len(prompts))


def _estimate_limits(config: Config) -> Iterator[str]:
    """Yield, per layout, the limit for texts of some lengths by the tokenizer of real models (Mistral's)."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    encode = MistralTokenizer.v3(is_tekken=True).instruct_tokenizer.tokenizer.encode
    stage = next(stage for stage in resolve_flow(load_flow(config)) if stage.name == "judge")
    run_dir = RunDir(config.run.dir)
    tables = {name: run_dir.read_unit(directory, 0) for name, directory in stage.files.inputs.items()}
    completions = tables["generate-main"]
    place = completions.schema.get_field_index("text")
    for layout in JudgeLayout:
        rng = random.Random(0)
        limits = []
        for count in WORDS_PER_TEXT:
            texts = [" ".join(rng.choices(read_words(), k=count)) for _ in range(completions.num_rows)]
            column = pa.array(texts, completions.schema.field(place).type)
            tables["generate-main"] = completions.set_column(place, completions.schema.field(place), column)
            judge = JudgeStage(replace(config.judge, layout=layout), tuple(config.generators), config.run.seed)
            shown = ["\n\n".join(turn["content"] for turn in request.messages) for request in judge.prepare(tables)]
            prompts = [encode(text, bos=True, eos=False) for text in shown]
            limits.append(f"{find_cached_share(prompts, GPU_BLOCK):.2f}")
        yield f"{layout.value} {', '.join(limits)}"


def find_cached_share(prompts: Sequence[Sequence[int]], block: int) -> float:
    """Return the share of tokens in whole blocks that an earlier prompt began with; the last token is never cached."""
    seen: set[int] = set()
    cached = total = 0
    for prompt in prompts:
        total += len(prompt)
        key, hit = 0, True
        for start in range(0, len(prompt) - block + 1, block):
            key = hash((key, tuple(prompt[start : start + block])))
            hit = hit and key in seen and start + block < len(prompt)
            cached += block if hit else 0
            seen.add(key)
    return cached / total
