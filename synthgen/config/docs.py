"""`python -m synthgen.config.docs`: docs/configuration.md from the typed configuration and its comments.

With `--check` nothing is written; the exit status is 1 where the page is not up to date.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import io
import re
import sys
import tokenize
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import synthgen.config.schema
from synthgen.config import Config, ModelConfig
from synthgen.config.compose import list_options

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "configuration.md"

GROUPS = {
    "experiment": "experiment=demo",
    "model": "model@generators.main.model=tiny model@judge.model=tiny",
    "prompts": "prompts=gsm8k",
    "judge": "judge=ratings_only",
    "pairs": "pairs=best_random",
    "cluster": "cluster=8xh100-80",
    "cluster/gpu": "cluster/gpu@cluster.gpu=h100-80",
    "publish": "publish=hub",
}
"""Config group → how a command chooses from it."""

HEAD = """\
# Configuration

<!-- Written by `python -m synthgen.config.docs` from synthgen/config/schema.py and conf/. Edit those. -->

Every command takes overrides in [Hydra's grammar](https://hydra.cc/docs/advanced/override_grammar/basic/):

```bash
synthgen config experiment=demo run.seed=1 'judge.aspects=[helpfulness,honesty]'
```

- `group=option` takes a whole file of `conf/`, such as `cluster=8xh100-80`;
- `group@place=option` puts it somewhere: `model@judge.model=tiny` makes `tiny` the judge's model,
  `+model@generators.second.model=tiny generators.second.n=2` adds a generator;
- `key=value` sets one value, `+key=value` adds one to a mapping (`+cluster.runtime_env.pip=[x]`), `~key` removes one;
- `-m` runs every combination of comma-separated values: `synthgen run -m pairs.policy=best_worst,best_random …`;
- `--config-dir DIR` finds groups of your own in DIR first: `DIR/experiment/mine.yaml` is `experiment=mine`.

A field of text takes the text that was typed: `publish.tag=1.10` is no number.

`synthgen config …` prints the result; a run saves it as `<run.dir>/config.yaml`. A key that does not exist (with
`+` too), a value of the wrong type and a combination that cannot work are refused before anything starts, in one line
that names the key.
Secrets are never configuration: tokens and keys come from the environment.
"""


@dataclass(frozen=True)
class Key:
    """One line of the page."""

    name: str
    type: str
    default: str
    comment: str


def make_page() -> str:
    """Return the page's text."""
    parts = [HEAD, "## Groups\n", _table(("group", "options", "for example"), _group_rows())]
    for name, cls, title in _sections():
        keys = list(_keys(name, cls))
        parts += [
            f"## {title}\n",
            f"{_first_line(cls)}\n",
            _table(("key", "type", "default", "meaning"), map(_row, keys)),
        ]
    parts += [
        "## Choices\n",
        "Keys that take one of several names.\n",
        _table(("type", "name", "meaning"), _enum_rows()),
    ]
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, type[Any], str]]:
    """Yield (key prefix, class, heading) in the order of the page; models come once, at the end."""
    yield "", Config, "The command"
    places = []
    for prefix, cls in _nested("", Config):
        if cls is ModelConfig:
            places.append(f"`{prefix}`")
        else:
            yield prefix, cls, f"`{prefix}`"
    yield "<model>", ModelConfig, f"`<model>`: {', '.join(places)}"
    for prefix, cls in _nested("<model>", ModelConfig):
        yield prefix, cls, f"`{prefix}`"


def _nested(prefix: str, cls: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yield (key prefix, class) of the configuration classes inside `cls`, depth first; models are not looked into."""
    for field, hint in _fields(cls):
        inner = _config_class(hint)
        if inner is not None:
            name = f"{prefix}.{field.name}" if prefix else field.name
            name += ".<name>" if typing.get_origin(hint) is dict else ""
            yield name, inner
            if inner is not ModelConfig:
                yield from _nested(name, inner)


def _keys(prefix: str, cls: type[Any]) -> Iterator[Key]:
    comments = _comments()[cls.__name__]
    for field, hint in _fields(cls):
        if _config_class(hint) is None:
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield Key(name, _type_name(hint), _default(field), comments.get(field.name, ""))


def _fields(cls: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield field, hints[field.name]


def _config_class(hint: Any) -> type[Any] | None:
    """Return the configuration class of a field, or of the values of a mapping; None for plain values."""
    candidate = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else hint
    return candidate if dataclasses.is_dataclass(candidate) and isinstance(candidate, type) else None


def _type_name(hint: Any) -> str:
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_name(arguments[1])}"
    if arguments:
        return " or ".join("null" if part is type(None) else _type_name(part) for part in arguments)
    if hint is Any:
        return "anything"
    return str(hint.__name__)


def _default(field: dataclasses.Field[Any]) -> str:
    made = field.default_factory
    value = made() if made is not MISSING else field.default
    if value == "???":
        return "to be given"
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return "empty" if value in ("", [], {}) else f"`{value}`".replace("'", "")


def _comments() -> dict[str, dict[str, str]]:
    """Return the comments in schema.py by class and field: behind the field, else in the lines above it."""
    source = Path(synthgen.config.schema.__file__).read_text(encoding="utf-8")
    by_line = {
        token.start[0]: (token.string.lstrip("# ").strip(), token.line.strip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for item in node.body:
            targets = [item.target] if isinstance(item, ast.AnnAssign) else getattr(item, "targets", [])
            for target in targets:
                if isinstance(target, ast.Name):
                    found.setdefault(node.name, {})[target.id] = _comment_of(item, by_line)
    return found


def _comment_of(item: ast.stmt, by_line: dict[int, tuple[str, bool]]) -> str:
    behind = by_line.get(item.end_lineno or item.lineno)
    if behind is not None:
        return behind[0]
    above: list[str] = []
    line = item.lineno - 1
    while line in by_line and by_line[line][1]:
        above.insert(0, by_line[line][0])
        line -= 1
    return " ".join(above)


def _group_rows() -> Iterator[tuple[str, ...]]:
    for group, example in GROUPS.items():
        yield f"`{group}`", ", ".join(f"`{name}`" for name in list_options(group)), f"`{example}`"


def _enum_rows() -> Iterator[tuple[str, ...]]:
    for name, cls in vars(synthgen.config.schema).items():
        if isinstance(cls, type) and issubclass(cls, enum.Enum) and cls.__module__ == synthgen.config.schema.__name__:
            for member in cls:
                yield name, f"`{member.value}`", _comments().get(name, {}).get(member.name, "")


def _row(key: Key) -> tuple[str, ...]:
    return f"`{key.name}`", key.type, key.default, key.comment


def _first_line(cls: type[Any]) -> str:
    return str(cls.__doc__).strip().split("\n\n")[0].replace("\n", " ")


def _table(columns: tuple[str, ...], rows: Any) -> str:
    # A bar would end the cell, an angle bracket outside of code would begin a tag.
    lines = [[re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row] for row in rows]
    return "\n".join([f"| {' | '.join(row)} |" for row in [columns, ("---",) * len(columns), *lines]]) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it."""
    text = make_page()
    if arguments == ["--check"]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
