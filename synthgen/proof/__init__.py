"""Whether a run's data makes a model better: held-out prompts, a training, its control, answers, figures, a verdict."""

from synthgen.proof.phases import prove
from synthgen.proof.text import render_proof

__all__ = ["prove", "render_proof"]

PUBLIC: tuple[str, ...] = ()
IMPORTS = (
    "config",
    "models",
    "planning",
    "prompts",
    "pairs",
    "trust",
    "ledger",
    "stages",
    "export",
    "publish",
    "flow",
    "observe",
    "runtime",
    "training",
)
