"""Preference data: prompts ──► generate (one stage per generator) ──► scorers, judge ──► pairs ──► dataset.

Each stage transforms one unit of prompts and commits one file; the export reads the committed units.
"""

from __future__ import annotations

from synthgen.config import Config
from synthgen.config.scorers import list_scorers
from synthgen.export import check_export, export_dataset
from synthgen.flow import Flow
from synthgen.pairs import check_pairs
from synthgen.stages.generate import GenerateStage
from synthgen.stages.given import GivenStage
from synthgen.stages.judge import JudgeStage
from synthgen.stages.scorers import check_prompts, make_scorers


def build_flow(config: Config) -> Flow:
    """Return the flow of `config`: generators answer, scorers and the judge rate all answers, pairs are exported."""
    check_pairs(config.pairs, config.generators, list_scorers(config))
    check_export(config.export)
    generate = [
        GenerateStage(name, one, run_seed=config.run.seed) if one.path is None else GivenStage(name, one)
        for name, one in config.generators.items()
    ]
    scorers = make_scorers(config)
    judge = [JudgeStage(config.judge, tuple(config.generators), config.run.seed)] if config.judge.enabled else []
    return Flow(stages=(*generate, *scorers, *judge), export=export_dataset, check=check_prompts(scorers))
