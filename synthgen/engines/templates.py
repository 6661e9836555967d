"""A checkpoint's chat template, read and rendered without its tokenizer: what it refuses is known in milliseconds.

The engine itself renders with `transformers` (`prompts.py`), whose import alone takes seconds; a test holds the two to
each other. Only files that are on this machine are read: a directory, a built-in, or what the Hub's cache holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.calls import takes_tools
from synthgen.engines.prompt_encoder import write_parts
from synthgen.errors import ConfigError
from synthgen.records import Messages, Tool, write_arguments


class TemplateRefusedError(Exception):
    """The template raised for a conversation; the text is its own."""


class ChatTemplate:
    """A chat template as the tokenizer's configuration holds it. Raises ValueError where it cannot be read here."""

    def __init__(self, text: str, tokens: dict[str, Any]) -> None:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:  # such as a tag that transformers adds
            raise ValueError(" ".join(str(error).split())) from error
        self._tokens = tokens
        self.takes_tools = takes_tools(text)

    def render(self, messages: Messages, tools: Sequence[Tool] = (), *, whole: bool = False) -> str:
        """Return the prompt's text; `whole`: the conversation as it stands (`Request.render`).

        Raises:
            TemplateRefusedError: the template raises.
        """
        from jinja2 import TemplateError

        continued = whole or (bool(messages) and messages[-1]["role"] == "assistant")
        refused: Exception | None = None
        # As an engine does: arguments as text where an object does not do, parts where a text alone is not shown.
        wordings: tuple[Sequence[Mapping[str, Any]], ...] = (messages, write_arguments(messages), write_parts(messages))
        for wording in wordings:
            try:
                return self._template.render(
                    messages=[dict(message) for message in wording],
                    tools=list(tools) or None,
                    documents=None,
                    add_generation_prompt=not continued,
                    **self._tokens,
                )
            except (TemplateError, ValueError, TypeError, KeyError, IndexError) as error:
                refused = refused or error
        raise TemplateRefusedError(" ".join(str(refused).split()) or type(refused).__name__) from refused


def read_template(model: ModelConfig) -> ChatTemplate | None:
    """Return the template that `model` is served with; None: its files are not on this machine, or of another kind.

    Raises:
        ConfigError: the checkpoint's directory holds a tokenizer without any template.
        ValueError: there is one, and this module cannot read it.
    """
    path = find_file(model, "tokenizer_config.json")
    config: dict[str, Any] = {}
    if path is not None:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
    tokens = {name: _token_text(value) for name, value in config.items() if name.endswith("_token")}
    text = model.chat_template or _find_text(model, config)
    if text is not None:
        return ChatTemplate(text, {**tokens, **model.template_kwargs})
    if path is not None and _is_local(model) and find_file(model, "tekken.json") is None:
        raise ConfigError(
            f"model.name={model.name} has no chat template (a base model?); "
            "set model.chat_template, or take an instruct model"
        )
    return None


def find_file(model: ModelConfig, name: str) -> Path | None:
    """Return a file of the checkpoint's tokenizer, where it is on this machine."""
    source = model.tokenizer or model.id
    if source.startswith("builtin:"):
        from synthgen.models.locate import find_builtin

        directory = find_builtin(source)
        return None if directory is None else _if_file(directory / name)
    if ":" in source or source.endswith(".gguf"):  # a URL, or a GGUF file, which holds its own
        return None
    directory = Path(source).expanduser()
    if directory.is_dir():
        return _if_file(directory / name)
    return find_in_cache(source, name, model.revision if model.tokenizer is None else None)


def find_in_cache(repo: str, name: str, revision: str | None) -> Path | None:
    """Return a file of a Hub repository that was fetched before, None where it was not."""
    if repo.count("/") != 1 or ":" in repo:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(repo, name, revision=revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def _is_local(model: ModelConfig) -> bool:
    source = model.tokenizer or model.id
    return source.startswith("builtin:") or Path(source).expanduser().is_dir()


def _find_text(model: ModelConfig, config: dict[str, Any]) -> str | None:
    path = find_file(model, "chat_template.jinja")
    if path is not None:
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several with names
        found = next((item.get("template") for item in found if item.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _token_text(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
