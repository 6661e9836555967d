"""`synthgen judge-eval`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from synthgen.cli.overrides import take_value
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError

FORMATS = ("text", "json")
OF_RECORDED = ("judge.aspects", "judge.aspect", "judge/aspect", "judge.expected", "run.seed")
"""Keys that mean something to texts that were recorded before: what was rated, and how it is scored."""


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print how often the judge agrees with the labels of `data=`; `recorded=` scores texts that it gave before.

    The exit status is 1 where no judgement could be read.
    """
    from synthgen.judge_eval import read_labelled

    data, rest = take_value(overrides, "data")
    recorded, rest = take_value(rest, "recorded")
    form, rest = take_value(rest, "format")
    if data is None:
        raise ConfigError("judge-eval needs a labelled preference file: data=<file, directory or Hub id>")
    if form is not None and form not in FORMATS:
        raise ConfigError(f"format={form} must be {' or '.join(FORMATS)}")
    if recorded is not None:
        result, where = _score_recorded(data, recorded, rest, config_dir), None
    else:
        from synthgen.runtime.judge_eval import run_judge_eval
        from synthgen.runtime.prepare import prepare_models

        read_labelled(data, key="data")  # before a model is fetched
        chosen = any(override.startswith("experiment=") for override in rest)
        config = compose_config(rest if chosen else ["experiment=judge_eval", *rest], config_dir, judge_only=True)
        asked = any(override.partition("=")[0] == "judge.orders" for override in rest)
        result = run_judge_eval(prepare_models(config), data, config.judge.orders if asked else None)
        where = f"{config.run.dir}/judge_eval.json"
    _print(result, form, where)
    judges: Mapping[str, Any] = result.get("judges") or {"": result}
    return 0 if any(judge["all"]["judged"] for judge in judges.values()) else 1


def _score_recorded(data: str, recorded: str, overrides: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    from synthgen.judge_eval import evaluate, judgements_from_texts, read_labelled

    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        if not any(key == known or key.startswith((f"{known}.", f"{known}@")) for known in OF_RECORDED):
            raise ConfigError(
                f"{override} has no effect on recorded={recorded}, which is scored as it is; "
                f"it takes data, format and keys of {', '.join(OF_RECORDED)}"
            )
    config = compose_config(
        ["experiment=judge_eval", "model@judge.model=echo", *overrides], config_dir, judge_only=True
    )
    judge = config.judge
    if len(judge.aspects) != 1:
        raise ConfigError(f"judge.aspects={judge.aspects} must be one: that of the records that name none")
    labelled = read_labelled(data, key="data")
    judgements = judgements_from_texts(
        labelled, recorded, key="recorded", aspect=judge.aspects[0], own_aspects=judge.aspect
    )
    return evaluate(labelled, judgements, use_expected=judge.expected, seed=config.run.seed)


def _print(result: Mapping[str, Any], form: str | None, where: str | None) -> None:
    from synthgen.judge_eval import format_eval

    print(json.dumps(result, indent=2, ensure_ascii=False) if form == "json" else format_eval(result, where))
