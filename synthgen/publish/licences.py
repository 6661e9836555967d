"""Licences of the models in a run: what they ask of the data set and of models trained on it.

In: the configuration (each model's `license`, from the catalog). Out: the licences, notices for the card, and warnings
that the CLI prints before the run. This is a reader's aid over the published licence texts, not legal advice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from synthgen.config import Config, GeneratorConfig, ModelConfig
from synthgen.config.public_names import call_model, name_public
from synthgen.config.scorers import list_scorer_models
from synthgen.publish.licence_terms import HUB_LICENSES, PERMISSIVE, TERMS, Terms


@dataclass(frozen=True, slots=True)
class ModelLicence:
    """A model of the run: what sentences call it, its public name, its licence, and what the run used it for."""

    name: str
    id: str
    license: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LicenceReport:
    """Licences of a run's models.

    Attributes:
        licences: one entry per model, in the order generators, judge; models without weights (`echo`) are left out.
        notices: sentences that the card must carry.
        warnings: one line each; what a mix of these licences forbids or leaves open.
    """

    licences: tuple[ModelLicence, ...]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]


def check_licences(config: Config) -> LicenceReport:
    """Return the licences of all models of `config`, with the notices for the card and the warnings for the user."""
    licences = _collect(config)
    by_license: dict[str, list[ModelLicence]] = {}
    for entry in licences:
        by_license.setdefault(entry.license, []).append(entry)
    notices: list[str] = []
    warnings: list[str] = []
    for license_id, entries in by_license.items():
        names = ", ".join(dict.fromkeys(entry.name for entry in entries))
        terms = TERMS.get(license_id)
        if terms is not None:
            notices += _terms_notices(terms)
            warnings += _terms_warnings(terms, names)
        elif license_id not in PERMISSIVE:
            notices.append(f"The licence of {names} ({license_id}) was not checked: read it before using this data.")
            what = "has no known licence" if license_id == "unknown" else f"is under {license_id!r}, unknown here"
            keys = " and ".join(dict.fromkeys(key for entry in entries for key in _licence_keys(entry)))
            warnings.append(f"{names} {what}: read its terms and set {keys} before publishing")
    for _, model in _used_models(config):
        if model.name and model.provenance:
            notices.append(f"The weights of {call_model(model)}: {model.provenance}.")
    families = {TERMS[key].family for key in by_license if key in TERMS and TERMS[key].family}
    if len(families) > 1:
        warnings.append(
            f"the licences of this mix allow output to improve only {' and only '.join(sorted(map(str, families)))}:"
            " no model may be trained on all of it"
        )
    return LicenceReport(tuple(licences), tuple(dict.fromkeys(notices)), tuple(dict.fromkeys(warnings)))


def card_license(report: LicenceReport, chosen: str | None) -> dict[str, str | list[str]]:
    """Return the card's metadata keys: `license` (an identifier that the Hub knows, or a list) and what goes with it.

    Args:
        report: the licences of the models.
        chosen: the configured `publish.license`, or None: the licences of the models, several if they differ.
    """
    wanted = [chosen] if chosen else list(dict.fromkeys(entry.license for entry in report.licences))
    known = [license_id for license_id in wanted if license_id in HUB_LICENSES]
    other = [license_id for license_id in wanted if license_id not in HUB_LICENSES]
    if not wanted:
        return {}
    if not other:
        return {"license": known[0] if len(known) == 1 else known}
    metadata: dict[str, str | list[str]] = {"license": [*known, "other"] if known else "other"}
    # The Hub takes license_name (letters, digits, dots, dashes) beside `other`.
    metadata["license_name"] = "-and-".join(_slug(license_id) for license_id in other)
    links = [TERMS[license_id].url for license_id in other if license_id in TERMS]
    if len(other) == 1 and links:
        metadata["license_link"] = links[0]
    return metadata


def _collect(config: Config) -> list[ModelLicence]:
    roles: dict[tuple[str, str, str], list[str]] = {}
    for role, model in _used_models(config):
        if model.name and not model.served_by.makes_text_up:
            key = (call_model(model), name_public(model), model.license.strip().lower() or "unknown")
            roles.setdefault(key, []).append(role)
    return [ModelLicence(*key, roles=tuple(names)) for key, names in roles.items()]


def _licence_keys(entry: ModelLicence) -> list[str]:
    return [
        f"{_PLACES.get(kind, kind)}{f'.{name}' if name else ''}.model.license"
        for kind, _, name in (role.partition(" ") for role in entry.roles)
    ]


_PLACES = {"generator": "generators", "scorer": "scorers"}


def _used_models(config: Config) -> Iterable[tuple[str, ModelConfig]]:
    """Return the role and the entry of each model that the run uses."""
    if config.pipeline == "task":
        return [("task", config.task.model)]
    generators = [
        (f"generator {name}", generator.model if generator.path is None else _describe_given(name, generator))
        for name, generator in config.generators.items()
    ]
    judge = [("judge", config.judge.model)] if config.judge.enabled else []
    scorers = [(f"scorer {name}", model) for name, (_, model) in list_scorer_models(config.scorers).items()]
    return [*generators, *judge, *scorers]


def _describe_given(name: str, generator: GeneratorConfig) -> ModelConfig:
    """Return an entry for completions that exist already; their licence: `generators.<name>.model.license`."""
    model = generator.model
    paths = generator.path if isinstance(generator.path, list) else [generator.path]
    return replace(model, name=model.name or name, id=model.id or ", ".join(map(str, paths)))


def _terms_notices(terms: Terms) -> list[str]:
    notices = []
    if terms.built_with:
        notices.append(f"{terms.built_with}.")
    if terms.name_prefix:
        notices.append(
            f"{terms.title}: the name of a model that is trained on this data and distributed must begin"
            f' with "{terms.name_prefix}", and its documentation must show "{terms.built_with}".'
        )
    elif terms.built_with:
        notices.append(
            f"{terms.title}: a model that is trained on this data and distributed must show"
            f' "{terms.built_with}" in its documentation.'
        )
    if terms.family:
        notices.append(f"{terms.title}: the output may not be used to improve any model other than {terms.family}.")
    if terms.non_commercial:
        notices.append(f"{terms.title}: for non-commercial use only.")
    if terms.note:
        notices.append(terms.note)
    return notices


def _terms_warnings(terms: Terms, names: str) -> list[str]:
    warnings = []
    if terms.family:
        warnings.append(
            f"{names}: the {terms.title} forbids using the output to improve any model other than {terms.family};"
            " take another model if you want to train others on this data"
        )
    if terms.non_commercial:
        warnings.append(f"{names}: the {terms.title} allows non-commercial use only, so this data does too")
    return warnings


def _slug(text: str) -> str:
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in ".-") else "-" for letter in text)
    return kept.strip("-")[:64] or "unnamed"
