"""What is estimated over a run's units before any row of its data set is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from synthgen.config import Config
from synthgen.config.stage_names import Kind
from synthgen.pairs import Estimates, estimate_first, take_first
from synthgen.pairs.estimates import JUDGED
from synthgen.records import Tables


def estimate_run(
    read_tables: Callable[[int], Tables], units: Sequence[int], made: Mapping[Kind, Sequence[str]], config: Config
) -> Estimates:
    """Return what is estimated on the first part of the run; further units are not read."""
    names = made.get("judgements", ())

    def read() -> Iterator[Tables]:
        for unit in units if names else ():
            tables = read_tables(unit)
            judged = {name: tables[name].select(JUDGED) for name in names}
            yield {"prompts": tables["prompts"].select(["prompt_id"]), **judged}

    first, _ = take_first(read())
    judge = config.judge
    return estimate_first(first, names, use_expected=judge.expected, correct_place=judge.correct_place)
