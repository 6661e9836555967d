"""Instruction constraints in IFEval's sense: what of a completion code can tell (arXiv 2311.07911).

    value = constraints followed / constraints given

The ids, their arguments and their meaning are those of IFEval's code (google-research/instruction_following_eval on
GitHub); each prompt has them in its columns `instruction_id_list` and `kwargs`, or the configuration gives them for all
prompts. With `strict=false` a constraint also counts where it holds without the first line, the last line, both, or the
asterisks of Markdown: IFEval's loose accuracy. Differences: sentences end at . ! ? before white space or the end
(IFEval asks NLTK's punkt), and relations may also be `at most`, `more than` and `exactly`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.verifiers.cases import Case, CheckError, Verdict, Verify
from synthgen.verifiers.ifeval import INSTRUCTIONS, BadConstraint, follows

COLUMNS = ("instruction_id_list", "kwargs")


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier of `constraints` and `strict`."""
    for_all = [_split(entry) for entry in settings["constraints"]]
    strict = settings["strict"]

    def check(case: Case) -> Verdict:
        try:
            given = for_all or read_columns(case.metadata)
            if not given:
                return Verdict(None, "no_constraints")
            broken = [id for id, kwargs in given if not _holds(id, kwargs, case, strict=strict)]
        except BadConstraint as error:
            raise CheckError("bad_constraint", str(error)) from None
        return Verdict(
            1 - len(broken) / len(given), detail=f"not followed: {', '.join(broken)}" if broken else "all followed"
        )

    return check


def read_columns(metadata: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the constraints of a prompt's columns, empty without any. Raises BadConstraint."""
    ids, kwargs = (_decode(metadata.get(name)) for name in COLUMNS)
    ids = [ids] if isinstance(ids, str) else ids or []
    kwargs = [kwargs] if isinstance(kwargs, Mapping) else kwargs or [{}] * len(ids)
    if len(kwargs) != len(ids):
        raise BadConstraint(f"instruction_id_list has {len(ids)} entries, kwargs {len(kwargs)}")
    return [(str(id), dict(one or {})) for id, one in zip(ids, kwargs, strict=True)]


def find_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield (after the scorer's key) what cannot work."""
    for index, entry in enumerate(settings["constraints"]):
        key = f".constraints[{index}]"
        if isinstance(entry, str):
            entry = {"id": entry}
        if not isinstance(entry, Mapping) or "id" not in entry:
            yield f"{key}={entry} has no id; write {{id: length_constraints:number_words, num_words: 12}}"
            continue
        id, kwargs = _split(entry)
        if id not in INSTRUCTIONS:
            yield f"{key}.id={id} is not known; there are {', '.join(INSTRUCTIONS)}"
            continue
        try:
            follows(id, kwargs, "some text", "a prompt")
        except BadConstraint as error:
            yield f"{key}: {error}"


def _split(entry: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    return str(entry["id"]), {key: value for key, value in entry.items() if key != "id"}


def _decode(value: Any) -> Any:
    """Lists that a file holds as text."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _holds(id: str, kwargs: Mapping[str, Any], case: Case, *, strict: bool) -> bool:
    prompt = next((turn["content"] for turn in reversed(case.prompt) if turn["role"] == "user"), "")
    texts = [case.completion] if strict else loosen(case.completion)
    # IFEval's data has every argument of every kind in each entry, null where it is not of this one.
    given = {key: value for key, value in kwargs.items() if value is not None}
    return any(bool(text.strip()) and follows(id, given, text, prompt) for text in texts)


def loosen(text: str) -> Sequence[str]:
    """Return the eight readings of IFEval's loose accuracy."""
    lines = text.split("\n")
    cut = ["\n".join(lines[a : len(lines) - b]).strip() for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return [text, *cut[1:], *(one.replace("*", "") for one in (text, *cut[1:]))]
