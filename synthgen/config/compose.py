"""From the command line's overrides to a `Config`: Hydra composes, OmegaConf types, `validate_config` checks.

Every way in which a configuration can be wrong ends in a ConfigError of one line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from synthgen.config import Config
from synthgen.config.forms import find_places, has_no_judge, settle_forms
from synthgen.config.job_help import asks_for_help, make_job_help
from synthgen.config.resources import project_path
from synthgen.config.saved import SECRET
from synthgen.config.suggest import suggest_keys
from synthgen.config.turns import settle_turns
from synthgen.config.typed import find_unknown, iterate_unknown, keep_texts, refuse_removals
from synthgen.config.validate import validate_config
from synthgen.errors import ConfigError

Job = TypeVar("Job")


def compose_config(overrides: Sequence[str], config_dir: str | None = None, *, judge_only: bool = False) -> Config:
    """Return the validated configuration of `overrides`, such as `["experiment=demo", "run.seed=1"]`.

    Args:
        overrides: in Hydra's grammar.
        config_dir: a directory with the user's own group files, searched before the shipped ones.
        judge_only: the configuration is for a judge without generators.

    Raises:
        ConfigError: a key, a value, a group option or a combination of them cannot work.
    """
    composed = compose_tree(overrides, config_dir)
    config = to_config(composed)
    config.run.overrides = [override for override in overrides if is_kept(override)]
    config.run.config_dir = config_dir
    _load_aspects(config, config_dir)
    validate_config(config, judge_only=judge_only)
    return config


def compose_tree(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """Return the composed OmegaConf tree, typed by `Config`.

    Raises:
        ConfigError: an override is wrong, or adds a key that nothing reads.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    overrides = [re.sub(r"^run_dir=", "run.dir=", override) for override in overrides]  # as other commands have it
    for override in overrides:
        unknown = find_unknown(override)
        if unknown is not None and not list_options(unknown[0], config_dir) and unknown[0] != "hydra":
            raise ConfigError(_explain_key(unknown[0], unknown[2]))
    overrides = settle_forms(overrides, config_dir, lambda group: list_options(group, config_dir))
    refuse_removals(overrides, lambda group: list_options(group, config_dir))
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir={config_dir} is not a directory; give one that holds group files of your own")
    store = ConfigStore.instance()
    if "schema.yaml" not in store.repo:  # making it takes a third of a composition
        store.store(name="schema", node=Config)
    GlobalHydra.instance().clear()
    if not any(override.startswith("experiment=") for override in overrides):
        overrides = [*_default_experiment(overrides), *overrides]
    overrides = keep_texts([part for override in overrides for part in _expand_model(override, overrides, config_dir)])
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(config_dir=str(project_path("conf")), version_base="1.3"):
            composed = compose(config_name="config", overrides=[*search, *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_error(error)) from error
    plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=False))
    for full_key, _, owner in iterate_unknown(plain):
        raise ConfigError(_explain_key(full_key, owner))
    return composed


def compose_job(group: str, name: str, schema: type[Job], overrides: Sequence[str]) -> Job:
    """Return `conf/<group>/<name>.yaml` with overrides, for a job that is no part of a run; its file names the schema.

    Raises:
        ConfigError: an override is misspelt, or a value is missing.
        SystemExit: help was asked for, and is printed.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if asks_for_help(overrides):
        print(make_job_help(group, name, schema))
        raise SystemExit(0)
    ConfigStore.instance().store(name=f"{group}_schema", node=schema)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(project_path("conf") / group), version_base="1.3"):
            return cast(Job, OmegaConf.to_object(compose(config_name=name, overrides=list(overrides))))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_squeeze(f"{error} {error.__cause__ or ''}")) from error


def is_kept(override: str) -> bool:
    """Return whether an override is kept with a run for later starts: no secret, and not where the run lies."""
    key = key_of(override)
    return key not in ("run.dir", "run_dir") and not SECRET.search(key.rpartition(".")[2])


def key_of(override: str) -> str:
    """Return the key of an override, such as `judge.orders` of `++judge.orders=2`."""
    return re.sub(r"^(~|\+\+|\+)", "", override.partition("=")[0])


def to_config(composed: Any) -> Config:
    """Return the dataclasses of a composed tree. Raises ConfigError for a value that must be given and was not."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return settle_turns(cast(Config, OmegaConf.to_object(composed)))
    except OmegaConfBaseException as error:
        raise ConfigError(explain_error(error)) from error


def sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Return the override lists of a multirun: the product of all comma-separated and ranged values."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(keep_texts(overrides))
        return [list(batch) for batches in BasicSweeper.split_arguments(parsed, None) for batch in batches]
    except HydraException as error:
        raise ConfigError(explain_error(error)) from error


def list_options(group: str, config_dir: str | None = None) -> list[str]:
    """Return the names of a config group's files, such as the models of `model`."""
    roots = [project_path("conf"), *([Path(config_dir)] if config_dir else [])]
    return sorted({path.stem for root in roots for path in (root / group).glob("*.yaml")})


def _default_experiment(overrides: Sequence[str]) -> list[str]:
    """Return the experiment of a shipped pipeline that has one of its own name: it says which models are to be chosen.

    Without it, `pipeline=task` alone would ask for the models of the preference flow.
    """
    chosen = [value for key, _, value in (override.partition("=") for override in overrides) if key == "pipeline"]
    directory = project_path("conf") / "experiment"
    return [f"experiment={name}" for name in chosen[-1:] if (directory / f"{name}.yaml").is_file()]


def _find_entry(value: str) -> str | None:
    """Return the catalog's entry whose `id` is `value`: a name and a Hub id work alike.

    Not one that sets what stages' output depends on (`revision`, `engine_args`, …): the same id without it is another.
    """
    if value.count("/") != 1:
        return None
    for path in (project_path("conf") / "model").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if f"\nid: {value}\n" in text and not re.search(r"^(revision|engine_args|quantization|tokenizer):", text, re.M):
            return path.stem
    return None


def _expand_model(override: str, overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Return what `model=<name>` stands for: that model in every place of the pipeline; or `model@<place>=<name>`.

    A slash, a colon or `.gguf` marks a Hub id, a directory or a file, which the catalog's entry `hub` serves.
    """
    key, given, value = override.partition("=")
    placed = re.fullmatch(r"(\+{0,2})model@([^=]+)", key)
    value = value.strip("'\"")
    entry = _find_entry(value) if key == "model" or placed else None
    if placed and entry:
        return [f"{key}={entry}"]
    value = entry or value
    is_hub = re.search(r"[/:]|\.gguf$", value) is not None
    if not given or (key != "model" and not (placed and is_hub)):
        return [override]
    if placed:
        sign, places = placed[1], [placed[2]]
    else:
        sign, places = "", ["task.model"] if "pipeline=task" in overrides else ["generators.main.model", "judge.model"]
        chosen = next((one.partition("=")[2] for one in overrides if one.startswith("experiment=")), "")
        there = find_places(chosen, config_dir)  # experiment=prove has no judge
        if has_no_judge(overrides) or ("model@generators.main.model" in there and "model@judge.model" not in there):
            places.remove("judge.model")
    if not is_hub:
        return [f"model@{place}={value}" for place in places]
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    added = "++" if sign else ""
    return [part for place in places for part in (f"{sign}model@{place}=hub", f'{added}{place}.id="{quoted}"')]


def _load_aspects(config: Config, config_dir: str | None) -> None:
    """Read the user's own aspects that `judge.aspects` names from `judge/aspect/<name>.yaml`."""
    from omegaconf import OmegaConf

    from synthgen.config import AspectConfig

    roots = [*([Path(config_dir)] if config_dir else []), project_path("conf")]
    asked = [(judge, name) for judge in (config.judge, config.prove.judge) for name in judge.aspects]
    for judge, name in asked:
        path = next((p for root in roots if (p := root / "judge" / "aspect" / f"{name}.yaml").is_file()), None)
        if name not in judge.aspect and path is not None:
            merged = OmegaConf.merge(OmegaConf.structured(AspectConfig), OmegaConf.load(path))
            judge.aspect[name] = cast(AspectConfig, OmegaConf.to_object(merged))


def explain_error(error: BaseException) -> str:
    """Return one line for a Hydra or OmegaConf error: what is wrong, and the nearest right thing."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    text = " ".join(str(item) for item in chain)
    option = re.search(r"Could not find '([\w-]+(?:/[\w-]+)*)/([^'/]+)'", text)
    if option:
        return _explain_option(option[1], option[2])
    mandatory = re.search(r"You must specify '([^']+)'", text)
    if mandatory:
        group = mandatory[1].split("@")[0]
        return f"{mandatory[1]} is not chosen; give one of: {', '.join(list_options(group))}"
    group_override = re.search(r"Could not override '([^']+)'", text)
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text)
    full_key = re.search(r"full_key: (\S+)", text)
    if unknown:
        return _explain_key(full_key[1] if full_key else unknown[1], unknown[2])
    untyped = re.search(r"(\w+) is not a subclass of (ModelConfig|GeneratorConfig)", text)
    if untyped and full_key:
        is_new, place = untyped[2] == "GeneratorConfig", full_key[1]
        place = f"generators.{place.removeprefix('generators.')}.model" if is_new else place
        return f"{place} is chosen by its name in the catalog; write {'+' if is_new else ''}model@{place}=…"
    value = re.search(
        r"(Value '.*?' of type '\w+' could not be converted to \w+|Invalid value '.*?', expected one of \[.*?\]"
        r"|Cannot convert '.*?' to \w+|Invalid type assigned[^\n]*|Value '.*?' is not a[^\n]*"
        r"|Incompatible value 'None'[^\n]*|field '.*?' is not Optional)",
        text,
        re.DOTALL,
    )
    if value:
        return f"{full_key[1] if full_key else 'a value'}: {_squeeze(value[1])}"
    missing = re.search(r"[Mm]issing mandatory value: (\S+)", text)
    if missing:
        key = full_key[1] if full_key else missing[1]
        return f"{key} is not set; give it as {key}=…"
    absent = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if absent:
        parent = absent[2].rpartition(".")[0]
        entry = f"model@{absent[2]}.model=…" if parent == "generators" else f"{absent[2]}.…"
        return f"{absent[2]} does not exist; to add a key to {parent or 'the configuration'}, write +{entry}"
    if group_override:
        return f"{group_override[1]}: {_squeeze(chain[-1])}; to add a key, write +{group_override[1]}=…"
    return _squeeze(re.sub(r"See https?://\S+ for details", "", str(chain[0])))


def _explain_option(group: str, name: str) -> str:
    known = list_options(group)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    return f"{group}={name!r} is not in the catalog; {hint}" if known else f"{group}={name!r} does not exist"


def _explain_key(full_key: str, owner: str) -> str:
    from dataclasses import fields

    from synthgen.config import schema

    known = [f.name for f in fields(getattr(schema, owner))] if hasattr(schema, owner) else []
    near = suggest_keys(full_key)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known there: {', '.join(known)}"
    return f"{full_key} is not a configuration key; {hint}"


def _squeeze(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()[:500]
