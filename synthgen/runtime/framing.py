"""How a run's texts are framed for its judge where nobody says: as the judgements that are there already were.

A new run has boundaries (`judge.framing=boundary`). Judgements of earlier versions were made of prompts in which texts
were altered (`brackets`). To judge them again costs tokens, so a run directory that holds such judgements of the very
configuration keeps them until `judge.framing` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from synthgen.config import Config, JudgeFraming
from synthgen.config.stage_names import JUDGE
from synthgen.flow import load_flow, resolve_flow
from synthgen.ledger.run_dir import FIRST_CONTACT_S, RunDir


def settle_framing(config: Config, run_dir: RunDir | None = None) -> tuple[Config, str]:
    """Return `config` with the framing of the judgements that its run directory holds, and a line on it, if any.

    Args:
        run_dir: of `config.run.dir`; None: it is opened.
    """
    if not config.judge.enabled or config.pipeline == "task":
        return config, ""

    def find_directory(framing: JudgeFraming | None) -> str | None:
        stages = resolve_flow(load_flow(_with(config, framing)))
        return next((stage.files.directory for stage in stages if stage.name == JUDGE), None)

    where = run_dir or RunDir(config.run.dir, min(config.storage.retry_s, FIRST_CONTACT_S), reads_only=True)
    return choose_framing(config, where, find_directory)


def choose_framing(
    config: Config, run_dir: RunDir, find_directory: Callable[[JudgeFraming | None], str | None]
) -> tuple[Config, str]:
    """Return what `settle_framing` does. `find_directory`: of the judgements of a framing, None where nobody judges."""
    wanted = config.judge.framing or JudgeFraming.boundary
    other = JudgeFraming.brackets if wanted is JudgeFraming.boundary else JudgeFraming.boundary
    # null: boundary, where the judge's format has one
    own, kept = find_directory(config.judge.framing), find_directory(None if other is JudgeFraming.boundary else other)
    if own in (None, kept) or kept is None or run_dir.storage.list(str(own)) or not run_dir.storage.list(kept):
        return config, ""
    if config.judge.framing is None:
        line = (
            f"the judgements that are there were made with judge.framing={other.value}, and are kept; "
            f"judge.framing={wanted.value} would judge again"
        )
        return _with(config, other), line
    line = (
        f"judge.framing={wanted.value}: judging is done again, because the judgements that are there were made with "
        f"judge.framing={other.value}, which keeps them"
    )
    return config, line


def _with(config: Config, framing: JudgeFraming | None) -> Config:
    return replace(config, judge=replace(config.judge, framing=framing))
