"""`vllm serve` as the planner would have it: vLLM's own parser makes a replica's arguments of its words."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from synthgen.cli import run_command
from synthgen.config import ModelConfig
from synthgen.config.compose import compose_config
from synthgen.engines.vllm_args import make_engine_args
from synthgen.engines.vllm_serve import OURS, make_serve_command
from synthgen.errors import ConfigError
from synthgen.planning import list_models, load_models, plan_engine, resolve_cluster


def parse(words: list[str]) -> Any:
    """Return what vLLM reads in the words behind `vllm serve`."""
    cli_args = pytest.importorskip("vllm.entrypoints.launchers.cli_args")
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return cli_args.make_arg_parser(FlexibleArgumentParser()).parse_args(words)


def plan_all(preset: str) -> list[ModelConfig]:
    """Return the models of the catalog that fit on a cluster, as planned there."""
    cluster = resolve_cluster(compose_config(["experiment=echo", f"cluster={preset}"]).cluster)
    planned = []
    for model in load_models():
        if model.engine != "vllm" or model.id.startswith("builtin:"):
            continue
        try:
            planned.append(plan_engine(model, cluster, lengths=None, efficiency=0.65).apply(model))
        except ConfigError:
            continue
    return planned


def test_every_model_of_the_catalog_is_served_as_a_replica_would_be() -> None:
    pytest.importorskip("vllm")
    from vllm.engine.arg_utils import AsyncEngineArgs

    models = plan_all("8xh200-141")
    assert len(models) > 40
    for model in models:
        program, verb, *words = make_serve_command(model)
        assert (program, verb, words[0]) == ("vllm", "serve", model.id)
        read = AsyncEngineArgs.from_cli_args(parse(words))
        wanted = make_engine_args(model, path=model.id, on_cpu=False)
        got = {key: getattr(read, key) for key in wanted if key not in OURS}
        assert got == {key: value for key, value in wanted.items() if key not in OURS}, model.name
        assert read.data_parallel_size == (model.replicas or 1)
        assert read.reasoning_parser == ("" if model.named_parser in ("auto", "none") else model.named_parser)


def test_what_a_person_set_reaches_the_server() -> None:
    model = ModelConfig(
        name="mine",
        id="org/m",
        thinking=False,
        lora="org/adapter",
        adapters={"other": "org/other"},
        chat_template_kwargs={"effort": 'a "quoted" word'},
        engine_args={"compilation_config": {"mode": 3}, "max_logprobs": 30},
        enable_chunked_prefill=False,
    )
    words = make_serve_command(model, name="served", lora_ranks=[16, 8])
    read = parse(shlex.split(shlex.join(words))[2:])
    assert read.served_model_name == ["served"]
    assert read.default_chat_template_kwargs == {
        "enable_thinking": False,
        "thinking": False,
        "effort": 'a "quoted" word',
    }
    assert (read.max_logprobs, read.enable_chunked_prefill) == (30, False)
    assert (read.max_lora_rank, read.max_loras) == (16, 2)
    assert [(one.name, one.path) for one in read.lora_modules] == [("mine", "org/adapter"), ("other", "org/other")]


def test_command_prints_what_to_run_and_how_a_run_uses_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "--serve", "llama-3.1-405b-fp8", "cluster=2x8xh100-80"]) == 0
    printed = capsys.readouterr().out
    [command] = [line for line in printed.splitlines() if line.startswith("vllm serve ")]
    assert "--tensor-parallel-size 8" in command
    assert "# run it on each of the 2 nodes" in printed
    [judge] = [line for line in printed.splitlines() if line.startswith("model@judge.model=")]
    config = compose_config(["experiment=echo", *shlex.split(judge)])
    assert (config.judge.model.engine, config.judge.model.id) == ("openai", shlex.split(command)[2])


def test_other_engines_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "--serve", "echo"]) == 2
    assert "model=echo has engine=echo" in capsys.readouterr().err
    assert any(model.name == "echo" for model in list_models())
