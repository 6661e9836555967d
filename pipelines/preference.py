"""Preference data: prompts ──► generate (one stage per generator) ──► scorers, judge ──► pairs ──► dataset.

Where a generator has `turns=all`, a stage before them answers the turns before the last (synthgen/stages/history.py).

Each stage transforms one unit of prompts and commits one file; the export reads the committed units.
"""

from __future__ import annotations

from synthgen.config import Config
from synthgen.config.scorers import list_prompt_scorers, list_scorers
from synthgen.export import check_export, export_dataset
from synthgen.flow import Flow
from synthgen.pairs import check_pairs
from synthgen.stages.generate import GenerateStage
from synthgen.stages.given import GivenStage
from synthgen.stages.history import continue_turns
from synthgen.stages.judge import JudgeStage
from synthgen.stages.scorers import check_prompts, make_scorers


def build_flow(config: Config) -> Flow:
    """Return the flow of `config`: generators answer, scorers and the judge rate all answers, pairs are exported."""
    check_pairs(config.pairs, config.generators, list_scorers(config), list_prompt_scorers(config))
    check_export(config.export)
    pool, drawn = [name for name, one in config.generators.items() if one.path is None], config.generators_per_prompt
    generate = [
        GenerateStage(name, one, run_seed=config.run.seed, pool=pool, drawn=drawn or 0)
        if one.path is None
        else GivenStage(name, one)
        for name, one in config.generators.items()
    ]
    scorers = make_scorers(config)
    judge = [JudgeStage(config.judge, tuple(config.generators), config.run.seed)] if config.judge.enabled else []
    stages = continue_turns(config, [*generate, *scorers, *judge])
    return Flow(stages=stages, export=export_dataset, check=check_prompts(scorers, config))
