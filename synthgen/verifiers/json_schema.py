"""Whether the completion is one JSON value that fits a schema.

    value = 1 if the text (or its only fenced block) parses and fits, else 0

JSON by RFC 8259 (no NaN, no comments), the schema by the package jsonschema in the draft that `$schema` names, else
2020-12 (https://json-schema.org/specification). Text around the JSON fails, but for one Markdown fence that holds all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from synthgen.verifiers.cases import Case, Verdict, Verify, decide

_FENCE = re.compile(r"\s*```[A-Za-z]*[ \t]*\n(?P<body>.*?)\n?[ \t]*```\s*", re.DOTALL)


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier of `schema`; None takes any JSON value."""
    schema = settings["schema"]
    validator = None
    if schema is not None:
        from jsonschema.validators import Draft202012Validator, validator_for

        validator = validator_for(schema, default=Draft202012Validator)(schema)

    def check(case: Case) -> Verdict:
        try:
            value = parse_json(case.completion)
        except ValueError as error:
            return decide(False, f"no JSON: {error}")
        misfit = None if validator is None else next(iter(validator.iter_errors(value)), None)
        return decide(misfit is None, "fits" if misfit is None else f"{misfit.json_path}: {misfit.message[:200]}")

    return check


def parse_json(text: str) -> Any:
    """Return the JSON value that a text is, alone or in one fence. Raises ValueError."""
    fenced = _FENCE.fullmatch(text)

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(fenced["body"] if fenced else text, parse_constant=refuse)


def find_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield (after the scorer's key) what cannot work."""
    schema = settings["schema"]
    if schema is None:
        return
    if not isinstance(schema, dict | bool):
        yield f".schema={schema!r} is no JSON schema; give a mapping, or the path of its file"
        return
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        yield f".schema is no JSON schema: {error.message}"
