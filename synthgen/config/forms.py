"""The first form that a person tries, as Hydra takes it: entries by name in any order, and a run without a judge.

In: overrides as typed. Out: overrides that compose. Entries are those of `generators` and `scorers`: whether a key of
one is to be added (`+`), forced (`++`) or set depends for Hydra on what the experiment holds and on the order of the
defaults list, which nobody can know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthgen.config.resources import project_path
from synthgen.config.typed import find_hint

NO_JUDGE = "judge=none"
_JUDGE_OFF = re.compile(r"~judge(?:=.*)?|\+{0,2}judge=(?:none|null)", re.IGNORECASE)
_GROUP = re.compile(
    r"\+{0,2}(?P<group>model|scorer|generator)@(?P<place>(?:generators|scorers|prove)\.[^=]+)=(?P<value>.*)", re.DOTALL
)
_ENTRY = re.compile(
    r"\+{0,2}(?P<key>(?:generators|(?:prove\.)?scorers)\.[^.=@/]+\.[^=]+|pairs\.weights(?:\.[^=]+)?)=(?P<value>.*)",
    re.DOTALL,
)
_FREE = re.compile(
    r"\+{0,2}(?P<key>(?:(?:judge|task)\.model\.(?:chat_template_kwargs|engine_args)|prove\.args)(?:\.[^=]+)?)"
    r"=(?P<value>.*)",
    re.DOTALL,
)
"""Keys of mappings that may hold any."""
_SCORER = re.compile(r"\+{0,2}scorers\.(?P<name>[^.=@/]+)=(?P<type>[A-Za-z_][\w-]*)")
_MODEL = re.compile(r"\+{0,2}(?P<place>(?:generators|(?:prove\.)?scorers)\.[^.=@/]+\.model)=(?P<name>[\w.-]+)")
_PATH = re.compile(r"\+{0,2}generators\.([^.=@/]+)\.path=(.+)", re.DOTALL)
_REMOVED = re.compile(r"~generators\.(?P<name>[^.=@/]+)")


def settle_forms(
    overrides: Sequence[str], config_dir: str | None, list_options: Callable[[str], list[str]]
) -> list[str]:
    """Return `overrides` with each entry in the form that the chosen experiment asks for.

    Args:
        list_options: from the name of a group to its options.
    """
    placed = find_places(_choose(overrides, "experiment") or "single", config_dir)
    # A package's scorer has no group file: its type is a value.
    overrides = [_name_scorer(override, list_options) for override in overrides]
    overrides = [_name_model(override, placed, list_options) for override in overrides]
    overrides = [*_add_scorers(overrides, placed, list_options), *_add_given(overrides, placed), *overrides]
    known = {_entry_of(place) for place in (*placed, *overrides)}
    settled = [_settle(override, placed, known) for override in overrides]
    if has_no_judge(settled):
        settled = [NO_JUDGE if _JUDGE_OFF.fullmatch(override) else override for override in settled]
        settled += _leave_out("model@judge.model", settled, placed)
    for override in overrides:
        if removed := _REMOVED.fullmatch(override):
            settled += _leave_out(f"model@generators.{removed['name']}.model", settled, placed)
    return settled


def has_no_judge(overrides: Sequence[str]) -> bool:
    """Return whether the last word on the judge is that there is none: `judge=none`, `judge=null` or `~judge`."""
    said = [override for override in overrides if re.match(r"(?:~|\+{0,2})judge(?:=|$)", override)]
    return bool(said) and _JUDGE_OFF.fullmatch(said[-1]) is not None


def find_places(experiment: str, config_dir: str | None) -> set[str]:
    """Return what an experiment's defaults list puts where, such as `model@judge.model`; empty: there is no such file.

    Experiments that it is made of count too.
    """
    import yaml

    roots = [*([Path(config_dir)] if config_dir else []), project_path("conf")]
    path = next((p for root in roots if (p := root / "experiment" / f"{experiment}.yaml").is_file()), None)
    if path is None:
        return set()
    try:
        text: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError):  # composing it says what is wrong with it
        return set()
    found: set[str] = set()
    for entry in (text.get("defaults") or []) if isinstance(text, dict) else []:
        if isinstance(entry, str) and entry != "_self_":
            found |= find_places(entry.rpartition("/")[2], config_dir)
        elif isinstance(entry, dict):
            found |= {re.sub(r"^(?:(?:override|optional)\s+)*/?", "", str(key)) for key in entry}
    return found


def _choose(overrides: Sequence[str], group: str) -> str | None:
    chosen = [value for key, _, value in (override.partition("=") for override in overrides) if key == group]
    return chosen[-1] if chosen else None


def _name_scorer(override: str, list_options: Callable[[str], list[str]]) -> str:
    """`scorers.maths=verifier`, as `scorer@scorers.maths=verifier` is meant."""
    found = _SCORER.fullmatch(override)
    if found is None or found["type"].lower() == "null":
        return override
    if found["type"] in list_options("scorer"):
        return f"+scorer@scorers.{found['name']}={found['type']}"
    return f"++scorers.{found['name']}.type={found['type']}"


def _name_model(override: str, placed: set[str], list_options: Callable[[str], list[str]]) -> str:
    """`generators.small.model=echo` of a new generator, as `model@generators.small.model=echo` is meant."""
    found = _MODEL.fullmatch(override)
    if found is None or f"model@{found['place']}" in placed or found["name"] not in list_options("model"):
        return override
    return f"+model@{found['place']}={found['name']}"


def _add_scorers(overrides: Sequence[str], placed: set[str], list_options: Callable[[str], list[str]]) -> list[str]:
    """Return what makes scorers of those of which single keys alone are given: of their `type`, else verifiers."""
    matches = (re.match(r"\+{0,2}((?:prove\.)?scorers\.[^.=@/]+)\.", override) for override in overrides)
    entries = dict.fromkeys(match[1] for match in matches if match)
    there = placed | {override.lstrip("+").partition("=")[0] for override in overrides}
    types = {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in overrides)}
    found = {f"scorer@{entry}": types.get(f"{entry}.type", "") for entry in entries}
    known = list_options("scorer") if any(found.values()) else []
    return [f"+{place}={one if one in known else 'verifier'}" for place, one in found.items() if place not in there]


def _add_given(overrides: Sequence[str], placed: set[str]) -> list[str]:
    """Return what makes generators of those of which a path is given; the prompts are its own where none are named."""
    paths = {match[1]: match[2] for one in overrides if (match := _PATH.fullmatch(one))}
    added = [f"+generator@generators.{name}=given" for name in paths if f"model@generators.{name}.model" not in placed]
    named = "prompts" in placed or any(re.match(r"\+{0,2}prompts(?:\.path)?=", override) for override in overrides)
    return [*added, *([] if named else [f"prompts.path={path}" for path in list(paths.values())[:1]])]


def _entry_of(place: str) -> str:
    """`generators.small` of `+model@generators.small.model=echo`, empty for what chooses no file for an entry."""
    found = re.match(r"\+{0,2}(?:model|scorer|generator)@((?:generators|(?:prove\.)?scorers)\.[^.=@/]+)", place)
    return found[1] if found else ""


def _settle(override: str, placed: set[str], known: set[str]) -> str:
    if group := _GROUP.fullmatch(override):
        place = f"{group['group']}@{group['place']}"
        return f"{'' if place in placed else '+'}{place}={group['value']}"
    if free := _FREE.fullmatch(override):
        return f"++{free['key']}={free['value']}"
    entry = _ENTRY.fullmatch(override)
    # A key that the schema does not have, or an entry that nothing makes, stays as it is: the message about it says so.
    if entry is None or find_hint(entry["key"]) is None:
        return override
    name = ".".join(entry["key"].split(".")[: 3 if entry["key"].startswith("prove.") else 2])
    if name != "pairs.weights" and name not in known:
        return override
    return f"++{entry['key']}={entry['value']}"


def _leave_out(place: str, overrides: Sequence[str], placed: set[str]) -> list[str]:
    """Return what takes a place out of the experiment's defaults list, unless it was filled by hand."""
    given = any(re.match(rf"\+?{re.escape(place)}=", override) for override in overrides)
    return [f"~{place}"] if place in placed and not given else []
