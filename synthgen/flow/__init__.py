"""Flows: the stages of a pipeline and their export. What a pipeline of one's own imports."""

from synthgen.flow.flow import (
    Card,
    Export,
    Flow,
    ResolvedStage,
    load_flow,
    model_fields,
    resolve_flow,
    ship_own,
)
from synthgen.flow.prompts import read_prompts

__all__ = [
    "Card",
    "Export",
    "Flow",
    "ResolvedStage",
    "load_flow",
    "model_fields",
    "read_prompts",
    "resolve_flow",
    "ship_own",
]

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "ledger", "stages", "publish")
