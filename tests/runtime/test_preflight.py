"""A few real prompts go through every stage before anything is loaded, the judge's with placeholders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from synthgen.config import EndpointConfig, ModelConfig
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError
from synthgen.flow import load_flow, resolve_flow
from synthgen.ledger.ingest import ingest_prompts
from synthgen.ledger.run_dir import RunDir
from synthgen.runtime.preflight import check_stages, sample_requests
from synthgen.runtime.scheduler import Scheduler, StageNode
from synthgen.stages.base import StageFiles
from tests.local_ray import free_port
from tests.small_runs import write_prompts

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)
NOTHING = "{{ raise_exception('no') }}"


def prepare(directory: Path, judge: ModelConfig) -> tuple[RunDir, list[StageFiles]]:
    path = write_prompts(directory / "prompts.jsonl", 12)
    run = f"run.dir={directory / 'run'}"
    config = compose_config(["experiment=echo", f"prompts.path={path}", run, "run.unit_size=8"])
    config.judge = replace(config.judge, model=judge)
    run_dir = RunDir(config.run.dir)
    ingest_prompts(run_dir, config)
    return run_dir, [stage.files for stage in resolve_flow(load_flow(config))]


def scheduler_of(stages: list[StageFiles], **done: range) -> Scheduler:
    return Scheduler([StageNode(files.stage.name, files.stage.name) for files in stages], [8, 4], done)


def tiny(directory: Path, template: str | None = None) -> ModelConfig:
    return ModelConfig(name="tiny", id=str(directory), chat_template=template)


def test_every_stage_has_requests_before_anything_is_loaded(tmp_path: Path) -> None:
    run_dir, stages = prepare(tmp_path, ModelConfig(name="echo", id="echo", engine="echo"))
    requests = sample_requests(run_dir, stages)
    assert [len(found) >= 4 for found in requests.values()] == [True, True]
    judged = requests["judge"][0].messages
    assert [turn["role"] for turn in judged] == ["system", "user"]
    assert "A placeholder for answer 1." in judged[1]["content"]


def test_system_message_that_a_template_refuses_is_said_once(tmp_path: Path, tiny_model_dir: Path) -> None:
    run_dir, stages = prepare(tmp_path, tiny(tiny_model_dir, NO_SYSTEM))
    notes = check_stages(run_dir, stages, scheduler_of(stages), compose_config(["experiment=echo"]).cluster)
    assert notes == ["tiny takes no system message: it is in the user turn"]
    run_dir, stages = prepare(tmp_path, tiny(tiny_model_dir))
    assert check_stages(run_dir, stages, scheduler_of(stages), compose_config(["experiment=echo"]).cluster) == []


def test_judge_that_refuses_everything_is_found_before_anything_is_paid(tmp_path: Path, tiny_model_dir: Path) -> None:
    run_dir, stages = prepare(tmp_path, tiny(tiny_model_dir, NOTHING))
    cluster = compose_config(["experiment=echo"]).cluster
    with pytest.raises(ConfigError, match=r"judge: the chat template of tiny refuses .* the turns system, user"):
        check_stages(run_dir, stages, scheduler_of(stages), cluster)
    assert check_stages(run_dir, stages, scheduler_of(stages, judge=range(2)), cluster) == [], "it has nothing to do"


def test_endpoint_that_is_not_up_yet_is_no_reason_to_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    endpoint = EndpointConfig(base_url=f"http://127.0.0.1:{free_port()}/v1")
    run_dir, stages = prepare(tmp_path, ModelConfig(name="api", id="m", engine="openai", endpoint=endpoint))
    assert check_stages(run_dir, stages, scheduler_of(stages), compose_config(["experiment=echo"]).cluster) == []
    nowhere = ModelConfig(name="api", id="m", engine="openai")
    run_dir, stages = prepare(tmp_path, nowhere)
    with pytest.raises(ConfigError, match=r"endpoint\.base_url is empty"):
        check_stages(run_dir, stages, scheduler_of(stages), compose_config(["experiment=echo"]).cluster)
