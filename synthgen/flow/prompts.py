"""A run's prompts as its later stages were shown them: with the answers to their earlier turns."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from synthgen.config import Config, GeneratorTurns
from synthgen.config.stage_names import HISTORY
from synthgen.flow.flow import load_flow, resolve_flow
from synthgen.ledger.run_dir import PROMPTS, RunDir
from synthgen.records import fill_turns


def read_prompts(run_dir: RunDir, config: Config) -> Iterator[pa.Table]:
    """Yield the prompts of a finished run, a unit at a time.

    Args:
        config: that made the run's data set. Where its flow answers earlier turns, they are filled, up to one that
            could not be answered.
    """
    history = None
    if any(one.turns is GeneratorTurns.all for one in config.generators.values()):
        stages = resolve_flow(load_flow(config))
        history = next((stage.files.directory for stage in stages if stage.name == HISTORY), None)
    units = run_dir.committed(PROMPTS)
    if history is not None:
        units &= run_dir.committed(history)  # prompts that came after the data set was made have no answers yet
    for unit in sorted(units):
        table = run_dir.read_unit(PROMPTS, unit).replace_schema_metadata(None)
        yield table if history is None else fill_turns(table, run_dir.read_unit(history, unit))
