"""What a row holds of tools, in OpenAI's form whatever form it has there: those that may be called, and the calls made.

The forms are those of OpenAI (`tools`, `tool_calls`, the older `function_call`), of xLAM (a schema without its wrapper,
parameters without `properties`), of ShareGPT as LLaMA-Factory writes it (turns from `function_call`, `observation`),
and each of them as JSON text, which is how most data sets hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synthgen.prompts.unusable import UnusableRowError, check_text
from synthgen.records import Tool, ToolCall

CALL_KEYS = ("tool_calls", "function_call")
"""What a turn calls the calls that it makes."""


def read_tools(value: Any, *, named: bool = True) -> tuple[Tool, ...] | None:
    """Return the tools that a column's value lists, in order; none where it is null or empty.

    Args:
        named: whether the configuration says that the column holds tools. Where it does not, a value that is something
            else gives None.

    Raises:
        UnusableRowError: a list of tools cannot be read.
    """
    if value in (None, "", [], {}) or (isinstance(value, str) and not value.strip()):
        return ()
    listed = _parse(value) if isinstance(value, str) else value
    listed = [listed] if isinstance(listed, Mapping) else listed
    items = listed if isinstance(listed, list) else []
    items = [_parse(item) if isinstance(item, str) else item for item in items if item is not None]
    if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in items):
        spelt = isinstance(value, str) and value.lstrip()[:2] in ("[{", "[ ", "[\n")
        if named or spelt:
            raise UnusableRowError("bad_tools", "the tools are no list of JSON schemas")
        return None
    if not named and not all(_find_name(item) for item in items):
        return None
    return tuple(_read_tool(item) for item in items)


def read_calls(turn: Mapping[str, Any]) -> list[ToolCall]:
    """Return what a turn calls, in order; nothing for most.

    Raises:
        UnusableRowError: a call has no name, or arguments that are no JSON object.
    """
    value = next((turn[key] for key in CALL_KEYS if turn.get(key)), None)
    return [] if value is None else list_calls(value)


def list_calls(value: Any) -> list[ToolCall]:
    """Return calls from a list of them, one of them, or the JSON text of either. Raises UnusableRowError."""
    parsed = _parse(value) if isinstance(value, str) else value
    items = [parsed] if isinstance(parsed, Mapping) else parsed
    if not isinstance(items, list):
        raise UnusableRowError("bad_tool_call", "a turn's calls are no list of calls")
    return [_read_call(_parse(item) if isinstance(item, str) else item) for item in items if item is not None]


def _read_call(item: Any) -> ToolCall:
    inner = item.get("function") if isinstance(item, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else item
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name:
        raise UnusableRowError("bad_tool_call", "a call names no tool")
    given = inner.get("arguments")
    given = inner.get("parameters") if given is None else given
    arguments = _parse(given or "{}") if isinstance(given, str) else _drop_nulls(given or {})
    if not isinstance(arguments, Mapping):
        raise UnusableRowError("bad_tool_call", f"the arguments of a call of {name} are no JSON object")
    identity = item.get("id")
    function = {"name": name, "arguments": arguments}
    return _check({"type": "function", "function": function, **({"id": identity} if identity else {})}, "bad_tool_call")


def _read_tool(item: Mapping[str, Any]) -> Tool:
    name = _find_name(item)
    if not name:
        raise UnusableRowError("bad_tools", "a tool has no name")
    inner = item["function"] if isinstance(item.get("function"), Mapping) else item
    given = inner.get("parameters") or {}
    parameters = _drop_nulls(_parse(given) if isinstance(given, str) else given)
    if not isinstance(parameters, Mapping):
        raise UnusableRowError("bad_tools", f"the parameters of the tool {name} are no JSON schema")
    if "type" not in parameters or not isinstance(parameters["type"], str | list):
        # xLAM lists the properties alone, of which one may be called type.
        listed = parameters if not isinstance(parameters.get("properties"), Mapping) else parameters["properties"]
        parameters = {**({} if listed is parameters else parameters), "type": "object", "properties": listed}
    rest = {key: _drop_nulls(value) for key, value in inner.items() if value is not None and key != "type"}
    function = {**rest, "name": name, "parameters": parameters}
    return _check({"type": "function", "function": function}, "bad_tools")


def _find_name(item: Any) -> str:
    inner = item.get("function") if isinstance(item, Mapping) else None
    inner = inner if isinstance(inner, Mapping) else item
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else ""


def _parse(text: str) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None
    except RecursionError as error:
        raise UnusableRowError("nested_too_deep", "the tools are nested too deep") from error


def _drop_nulls(value: Any) -> Any:
    """Return a value without the keys that are null: Arrow gives every object of a column the keys of all of them."""
    if isinstance(value, Mapping):
        return {key: _drop_nulls(other) for key, other in value.items() if other is not None}
    return [_drop_nulls(other) for other in value] if isinstance(value, list) else value


def _check(value: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return a value that JSON and tokenizers can hold. Raises UnusableRowError for any other."""
    try:
        json.dumps(value, allow_nan=False)
        for text in _iterate_texts(value):
            check_text(text)
    except (TypeError, ValueError) as error:
        raise UnusableRowError(reason, f"a tool or a call holds what JSON cannot: {error}") from error
    except RecursionError as error:
        raise UnusableRowError("nested_too_deep", "the tools are nested too deep") from error
    return value


def _iterate_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for other in value.values():
            yield from _iterate_texts(other)
    elif isinstance(value, Sequence):
        for other in value:
            yield from _iterate_texts(other)
