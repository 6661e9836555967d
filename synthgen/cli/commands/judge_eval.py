"""`synthgen judge-eval`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_value
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print how often the judge agrees with the labels of `data=`; `recorded=` scores texts that it gave before."""
    from synthgen.judge_eval import evaluate, format_eval, judgements_from_texts, read_labelled

    data, rest = take_value(overrides, "data")
    recorded, rest = take_value(rest, "recorded")
    if data is None:
        raise ConfigError("judge-eval needs a labelled preference file: data=<file, directory or Hub id>")
    if recorded is not None:
        labelled = read_labelled(data, key="data")
        print(format_eval(evaluate(labelled, judgements_from_texts(labelled, recorded, key="recorded"))))
        return 0
    from synthgen.runtime.judge_eval import run_judge_eval
    from synthgen.runtime.prepare import prepare_models

    chosen = any(override.startswith("experiment=") for override in rest)
    config = compose_config(rest if chosen else ["experiment=judge_eval", *rest], config_dir, judge_only=True)
    print(format_eval(run_judge_eval(prepare_models(config), data)))
    return 0
