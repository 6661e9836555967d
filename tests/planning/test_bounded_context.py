"""`max_model_len` follows from the data where it is left open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from planning_clusters import CPU, MODELS, gpus

from synthgen.config.compose import compose_config
from synthgen.planning import Lengths, StageLedger, make_plan, plan_engine, plan_pools
from synthgen.prompts.sizes import TOKENS_OF_A_TURN, bound_longest, measure_longest
from synthgen.records import PROMPTS_SCHEMA


def table_of(*texts: str, reference: str | None = None) -> pa.Table:
    rows = [
        {
            "prompt_id": str(index),
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
            "source": "a",
            "source_row": index,
            "reference": reference,
            "metadata": "{}",
        }
        for index, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, PROMPTS_SCHEMA)


def test_measure_longest_counts_bytes_of_the_longest() -> None:
    assert measure_longest(table_of("abc", "ab")) == {0: 9 + 3 + 2 * TOKENS_OF_A_TURN}
    assert measure_longest(table_of("ä" * 10)) == {0: 9 + 20 + 2 * TOKENS_OF_A_TURN}  # as many tokens as bytes, at most
    assert measure_longest(table_of("abc", reference="1234")) == {0: 9 + 3 + 2 * TOKENS_OF_A_TURN + 4}
    assert measure_longest(table_of("a", "abcd", "ab").slice(1, 2)) == {0: 9 + 4 + 2 * TOKENS_OF_A_TURN}
    assert measure_longest(PROMPTS_SCHEMA.empty_table()) == {}


def test_measure_longest_keeps_apart_what_is_yet_to_be_answered() -> None:
    ask = [{"role": "user", "content": "abc"}]
    said = [{"role": "assistant", "content": "a" * 100}]
    rows = [{"prompt_id": "0", "messages": turns} for turns in (ask * 3, ask, ask + said + ask * 2, ask * 3)]
    rows = [{"source": "a", "source_row": 0, "metadata": "{}", **row} for row in rows]
    longest = measure_longest(pa.Table.from_pylist(rows, PROMPTS_SCHEMA))
    turn = 3 + TOKENS_OF_A_TURN
    assert longest == {0: turn, 1: 3 * turn + 100 + TOKENS_OF_A_TURN, 2: 3 * turn}
    assert bound_longest(longest) == longest[1]
    assert bound_longest(longest, 1000) == longest[2] + 2 * (1000 + TOKENS_OF_A_TURN)
    assert bound_longest({}, 1000) == 0


def test_context_is_what_the_data_need() -> None:
    plan = plan_engine(MODELS["llama-3.1-8b"], gpus("h100-80"), lengths=Lengths(bound=5000))
    assert plan.max_model_len == 5120
    assert any(
        "max_model_len 5,120 of 131,072 tokens: no sequence of the data is longer" in one for one in plan.reasons
    )
    assert plan_engine(MODELS["llama-3.1-8b"], gpus("h100-80")).max_model_len == 131_072
    own = replace(MODELS["llama-3.1-8b"], max_model_len=2048)
    assert plan_engine(own, gpus("h100-80"), lengths=Lengths(bound=5000)).max_model_len == 2048
    assert plan_engine(MODELS["tiny"], CPU, lengths=Lengths(bound=2000)).max_model_len == 2048
    assert plan_engine(MODELS["llama-3.1-8b"], gpus("h100-80"), lengths=Lengths(bound=10**6)).max_model_len == 131_072


def test_a_judge_gets_room_for_what_it_is_shown(tmp_path: Path) -> None:
    config = compose_config(
        ["experiment=llama31_ultrafeedback", "cluster=8xh100-80", "prompts.path=p.jsonl", f"run.dir={tmp_path}"]
    )
    stages = ("generate-llama70b", "generate-llama405b", "judge")
    ledger = {name: StageLedger(longest_prompt=3000) for name in stages}
    plan = plan_pools(config, config.cluster, ledger=ledger)
    generator, judge = (plan.pool_of(name).engine.max_model_len for name in (stages[0], "judge"))
    assert generator is not None
    assert judge is not None
    assert 3000 + config.generators["llama70b"].sampling.max_tokens < generator < 10_000
    assert generator < judge < 131_072
    shown = make_plan(config, ledger)
    assert shown.cluster.pool_of("judge").engine.max_model_len == judge
    assert plan_pools(config, config.cluster).pool_of("judge").engine.max_model_len == 131_072
