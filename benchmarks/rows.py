"""5a. What a row costs besides the model: CPU microseconds of every step between two files, in one process.

A row is a completion. Steps: reading the unit's inputs, preparing requests, encoding them (chat template and
tokenizer), collecting completions into a table, parsing judgements (part of the judge's collect), writing the unit.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.engines import Engines
from benchmarks.outcome import Outcome
from benchmarks.work import make_config
from synthgen.engines import make_engine
from synthgen.flow import ResolvedStage, load_flow, resolve_flow
from synthgen.judge import parse_ratings
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import RunDir
from synthgen.records import Outcome as RequestOutcome
from synthgen.records import Request, RequestFailure, UnitCounts

UNITS, QUICK_UNITS = 41, 2
ECHO = ("model@generators.main.model=echo", "model@judge.model=echo", "generators.main.model.echo.long_tail=true")
ASPECTS = ("judge=ultrafeedback_4_aspects",)


def measure(engines: Engines, quick: bool) -> Outcome:
    """Return CPU microseconds per completion for each step of the generate and the judge stage."""
    units = QUICK_UNITS if quick else UNITS
    config = make_config(engines.new_directory(), units * 64, *ECHO, *ASPECTS)
    run_dir = RunDir(config.run.dir)
    ledger = ingest_prompts(run_dir, config)
    completions = sum(ledger.unit_rows[1:]) * config.generators["main"].n
    clock: defaultdict[tuple[str, str], float] = defaultdict(float)
    encoder = _make_encoder()
    for stage in resolve_flow(load_flow(config)):
        for unit in range(len(ledger.unit_rows)):
            # The first unit pays for imports and caches, and is left out.
            _run_unit(run_dir, stage, unit, encoder, clock if unit else defaultdict(float))
    rows: list[dict[str, Any]] = []
    for stage_name in ("generate-main", "judge"):
        cost = {step: round(clock[stage_name, step] / completions * 1e6, 1) for step in STEPS}
        rows.append({"stage": stage_name, **cost, "all, µs": round(sum(cost.values()), 1)})
    per_judgement = clock["judge", "parse"] / max(1, clock["judge", "judgements"]) * 1e6
    notes = [
        f"CPU µs per completion; {completions:,} completions of about 24 words, 4 judge requests per prompt.",
        f"Parsing alone: {per_judgement:.1f} µs per judgement of 4 texts (it is part of collect).",
    ]
    return Outcome("rows", "CPU time per completion outside the model", rows, notes=notes)


STEPS = ("read", "prepare", "encode", "collect", "write")


def _run_unit(
    run_dir: RunDir, stage: ResolvedStage, unit: int, encoder: Any, clock: defaultdict[tuple[str, str], float]
) -> None:
    files = stage.files
    began = time.process_time()

    def lap(step: str) -> None:
        nonlocal began
        now = time.process_time()
        clock[stage.name, step] += now - began
        began = time.process_time()

    tables = {name: run_dir.read_unit(directory, unit) for name, directory in files.inputs.items()}
    lap("read")
    requests = files.stage.prepare(tables)
    lap("prepare")
    encoder.encode(requests, 16384)
    lap("encode")
    outcomes = complete(stage, requests)
    began = time.process_time()
    table = files.stage.collect(tables, requests, outcomes)
    lap("collect")
    run_dir.commit_unit(files.directory, unit, table, UnitCounts(rows=table.num_rows))
    lap("write")
    if stage.name == "judge":
        for request, outcome in zip(requests, outcomes, strict=True):
            assert not isinstance(outcome, RequestFailure)
            assert request.output_format is not None
            parse_ratings(outcome[0].text, len(request.output_format.slot_texts), request.request_id.split("/")[1])
        lap("parse")
        clock["judge", "judgements"] += len(requests)


def complete(stage: ResolvedStage, requests: Sequence[Request]) -> list[RequestOutcome]:
    """Return what the stage's engine gives for the requests, one after the other."""

    async def serve() -> list[RequestOutcome]:
        engine = make_engine(stage.files.stage.model)
        await engine.start()
        outcomes: list[RequestOutcome] = [await engine.generate(request) for request in requests]
        await engine.close()
        return outcomes

    return asyncio.run(serve())


def _make_encoder() -> Any:
    from transformers import AutoTokenizer

    from synthgen.engines.prompt_encoder import PromptEncoder
    from synthgen.models.tiny import ensure_tiny_model

    return PromptEncoder(AutoTokenizer.from_pretrained(ensure_tiny_model()), None, "tiny")
