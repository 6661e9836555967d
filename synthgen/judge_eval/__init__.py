"""How often a judge agrees with labels that people (or ground truth) gave: accuracy on labelled preference files."""

from synthgen.judge_eval.evaluation import evaluate
from synthgen.judge_eval.labelled import LabelledPair, LabelledSet, read_labelled
from synthgen.judge_eval.recorded import judgements_from_texts
from synthgen.judge_eval.tables import GENERATOR, to_unit_tables
from synthgen.judge_eval.text import format_eval

__all__ = [
    "GENERATOR",
    "LabelledPair",
    "LabelledSet",
    "evaluate",
    "format_eval",
    "judgements_from_texts",
    "read_labelled",
    "to_unit_tables",
]

PUBLIC: tuple[str, ...] = ()
IMPORTS = ("config", "prompts", "judge", "pairs", "trust")
