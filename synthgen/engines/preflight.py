"""What can be known of a model's requests before it is loaded: `check_requests`, by the rules of its engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthgen.config import ModelConfig
from synthgen.config.sampling import list_sampling_problems
from synthgen.config.scorers import find_label
from synthgen.engines.adapters import check_adapters
from synthgen.engines.prompt_encoder import fold_system
from synthgen.engines.templates import ChatTemplate, TemplateRefusedError, read_template
from synthgen.errors import ConfigError
from synthgen.models.config_source import find_config
from synthgen.records import Request


@dataclass(frozen=True)
class Findings:
    """What is worth saying of requests that can be served.

    Attributes:
        folds_system: a system message goes into the user turn, because the template refuses it.
        drops_system: the template leaves the text of a system message out, without a word.
        drops_tools: the template leaves the tools of a prompt out.
        unchecked: why the template could not be asked; empty: it was.
        doubts: what may be a mistake, one line each.
    """

    folds_system: bool = False
    drops_system: bool = False
    drops_tools: bool = False
    unchecked: str = ""
    doubts: tuple[str, ...] = ()


def check_requests(stage: str, model: ModelConfig, requests: Sequence[Request]) -> Findings:
    """Return what is worth saying of a stage's first requests on `model`.

    Raises:
        ConfigError: the engine would refuse every one of them.
    """
    one_by_one = model.served_by.is_service
    for request in requests[:1]:
        problems = list_sampling_problems(
            f"{stage}: sampling", request.sampling, n=request.n, n_key="n", one_by_one=one_by_one
        )
        for problem in problems:
            raise ConfigError(problem)
    if not model.served_by.loads_checkpoint or model.unservable:
        return Findings()
    doubts = tuple(check_adapters(model))
    if model.served_by.classifies:
        _check_label(stage, model, requests)
    requests = [request for request in requests if request.render != "plain"]
    if model.served_by.classifies and not requests:
        return Findings(doubts=doubts)
    try:
        template = read_template(model)
    except ValueError as error:
        return Findings(unchecked=f"its chat template cannot be read here: {error}", doubts=doubts)
    if template is None:
        return Findings(unchecked="its chat template is not on this machine yet", doubts=doubts)
    verdicts = [_ask(template, request) for request in requests]
    refusals = [verdict for verdict in verdicts if isinstance(verdict, TemplateRefusedError)]
    if requests and len(refusals) == len(requests):
        roles = ", ".join(message["role"] for message in requests[0].messages)
        raise ConfigError(
            f"{stage}: the chat template of {model.name or model.id} refuses a prompt with the turns {roles}: "
            f"{refusals[0]}; set model.chat_template, or take another model"
        ) from refusals[0]
    folds = any(verdict is True for verdict in verdicts)
    drops_tools = not template.takes_tools and any(request.tools for request in requests)
    return Findings(folds, not folds and _drops_system(template, requests), drops_tools, doubts=doubts)


def _check_label(stage: str, model: ModelConfig, requests: Sequence[Request]) -> None:
    """Raise ConfigError for a label that a classifier does not have, by its file here or on the Hub."""
    if not requests:
        return
    try:
        config = find_config(model).config
    except ConfigError:  # it cannot be had here: the first unit will tell
        return
    outputs = int(config.get("num_labels") or 2)  # as transformers takes it
    names = config.get("id2label") or {str(index): f"LABEL_{index}" for index in range(outputs)}
    label, known = requests[0].tags.get("label"), [str(name) for name in names.values()]
    if label is None and len(known) > 1:
        raise ConfigError(
            f"{stage}: {model.name or model.id} has the labels {', '.join(known)}, and none is chosen; "
            "set scorers.<name>.label to the one whose probability is the value"
        )
    if label is not None and (find_label(known, label) is None or len(known) == 1):
        raise ConfigError(
            f"{stage}: label={label} is none that {model.name or model.id} tells apart, which has {', '.join(known)}; "
            "set scorers.<name>.label to one of several, or leave it out for a reward"
        )


def _ask(template: ChatTemplate, request: Request) -> bool | TemplateRefusedError:
    """Return whether the system message has to be folded, or the refusal where that does not help either."""
    whole = request.render == "whole"
    try:
        template.render(request.messages, request.tools, whole=whole)
        return False
    except TemplateRefusedError as error:
        folded = fold_system(request.messages)
        if folded is request.messages:
            return error
        try:
            template.render(folded, request.tools, whole=whole)
            return True
        except TemplateRefusedError:
            return error


def _drops_system(template: ChatTemplate, requests: Sequence[Request]) -> bool:
    for request in requests:
        text = request.messages[0]["content"].strip() if request.messages else ""
        if text and request.messages[0]["role"] == "system":
            try:
                return text[:40] not in template.render(request.messages)
            except TemplateRefusedError:
                continue
    return False
