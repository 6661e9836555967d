"""Before anything is loaded or paid: a few real prompts go through every stage, as far as that needs no model.

In: the stages with work to do and the first unit. Out: lines for the user; ConfigError for what every request would
meet. What cannot be known here (a template that is not on this machine, a server that is not up yet) is passed over.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from synthgen.config import ClusterConfig, ModelConfig
from synthgen.config.public_names import call_model
from synthgen.engines import make_engine
from synthgen.engines.preflight import check_requests
from synthgen.errors import ConfigError, EngineDeadError, RunFailedError
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.records import Completion, Messages, Request, list_tools
from synthgen.runtime.scheduler import Scheduler
from synthgen.stages.base import LLMStage, StageFiles

logger = logging.getLogger(__name__)

SAMPLE_PROMPTS = 4
"""First prompts of the run, and as many more of the first unit that have a system message, and that have tools."""
MOST_FOLLOW_UPS = 32
"""Of a request that is made up: a judge asks again a few times, a conversation may have more turns."""


def check_stages(
    run_dir: RunDir, stages: Sequence[StageFiles], scheduler: Scheduler, cluster: ClusterConfig
) -> list[str]:
    """Return what the user should know of the stages that have work to do, one line each.

    Raises:
        ConfigError: a stage's model would refuse every one of its requests.
    """
    notes: list[str] = []
    todo = [files for files in stages if scheduler.left(files.stage.name)]
    # To make a judge's prompts takes two seconds of imports; the echo engine refuses none.
    asked = [
        files
        for files in todo
        if files.stage.model.served_by.loads_checkpoint or files.stage.model.served_by.is_service
    ]
    requests = sample_requests(run_dir, stages[: stages.index(asked[-1]) + 1]) if asked else {}
    endpoints: list[ModelConfig] = []
    for files in todo:
        stage = files.stage
        make_engine(stage.model)  # refuses what its settings alone make impossible
        findings = check_requests(stage.name, stage.model, requests.get(stage.name, []))
        name = call_model(stage.model)
        if findings.folds_system:
            notes.append(f"{name} takes no system message: it is in the user turn")
        if findings.drops_system:
            notes.append(f"{name} has a chat template that leaves out system messages; stage {stage.name} sends some")
        if findings.drops_tools:
            notes.append(f"{name} has a chat template that takes no tools; stage {stage.name} has prompts with some")
        if findings.unchecked:
            logger.info("stage %s: %s was not checked: %s", stage.name, name, findings.unchecked)
        notes += findings.doubts
        if stage.model.served_by.is_service and stage.model not in endpoints:
            endpoints.append(stage.model)
    for model in endpoints:
        _ask_endpoint(model, cluster)
    return list(dict.fromkeys(notes))


def sample_requests(run_dir: RunDir, stages: Sequence[StageFiles]) -> dict[str, list[Request]]:
    """Return the first requests of every stage; what stages upstream would write is stood in for by placeholders."""
    prompts = _sample_prompts(run_dir.read_unit(PROMPTS, 0))
    tables: dict[str, pa.Table] = {PROMPTS: prompts}
    found: dict[str, list[Request]] = {}
    wanted = prompts["prompt_id"].combine_chunks()
    for files in stages:
        stage = files.stage
        try:
            for name in files.inputs:
                if name not in tables:  # it is there already, and no stage of this run
                    table = run_dir.read_unit(files.inputs[name], 0)
                    tables[name] = table.filter(pa.compute.is_in(table["prompt_id"], wanted))
            inputs = {name: tables[name] for name in files.inputs}
            found[stage.name] = list(stage.prepare(inputs))
            tables[stage.name] = _stand_in(stage, inputs, found[stage.name])
        except Exception as error:  # of a stage that reads what a placeholder has not: the run itself will tell
            logger.info("stage %s was not checked: %s: %s", stage.name, type(error).__name__, error)
            tables.pop(stage.name, None)
    return found


def _sample_prompts(unit: pa.Table) -> pa.Table:
    conversations: list[Messages] = unit["messages"].to_pylist()
    with_system = [row for row, turns in enumerate(conversations) if turns and turns[0]["role"] == "system"]
    with_tools = [row for row, tools in enumerate(list_tools(unit)) if tools]
    first = range(min(SAMPLE_PROMPTS, unit.num_rows))
    rows = sorted({*first, *with_system[:SAMPLE_PROMPTS], *with_tools[:SAMPLE_PROMPTS]})
    return unit.take(pa.array(rows, pa.int64()))


def _stand_in(stage: LLMStage, tables: Mapping[str, pa.Table], requests: Sequence[Request]) -> pa.Table:
    """Return what a stage would write if its model answered with a placeholder each time, to its follow-ups too."""
    last, outcomes = [], []
    for request in requests:
        answers = _placeholders(request)
        for _ in range(MOST_FOLLOW_UPS):
            following = stage.follow_up(request, answers)
            if following is None:
                break
            request, answers = following, _placeholders(following)
        last.append(request)
        outcomes.append(answers)
    return stage.collect(tables, last, outcomes)


def _placeholders(request: Request) -> list[Completion]:
    return [Completion(f"A placeholder for answer {index + 1}.", "stop", 1, 0, 5) for index in range(request.n)]


def _ask_endpoint(model: ModelConfig, cluster: ClusterConfig) -> None:
    """Raise ConfigError where the endpoint refuses the key or does not serve the model; silence says nothing."""
    import asyncio

    key = model.endpoint.api_key_env
    if key not in os.environ or key in cluster.runtime_env.get("env_vars", {}):
        return  # the replicas may have another one
    engine = make_engine(replace(model, endpoint=replace(model.endpoint, max_retries=0, timeout_s=10.0, outage_s=1.0)))

    async def ask() -> None:
        try:
            await engine.start()
        finally:
            await engine.close()

    try:
        asyncio.run(ask())
    except ConfigError:
        raise
    except (EngineDeadError, RunFailedError) as error:  # it is not up yet: the replicas wait for it
        logger.info("%s", error)
