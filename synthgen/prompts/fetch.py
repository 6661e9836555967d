"""A source's data into the caches of this machine, so that a node without a network can read them from there."""

from __future__ import annotations

from dataclasses import replace

from synthgen.config import PromptsConfig
from synthgen.prompts.decontaminate import list_excluded
from synthgen.prompts.files import FileSource
from synthgen.prompts.hub import HubSource
from synthgen.prompts.locate import list_paths, locate_sources
from synthgen.prompts.remote import is_url


def fetch_prompts(config: PromptsConfig, key: str = "prompts.path") -> list[str]:
    """Fetch what `config` names, the sets that it excludes too, and return a line for each thing that was not here.

    Raises:
        ConfigError: something is not there or cannot be fetched.
    """
    lines = []
    wanted = [(key, config), *(("prompts.exclude", entry) for entry in list_excluded(config.exclude))]
    for name, one in wanted:
        for path in list_paths(one, name):
            for source in locate_sources(replace(one, path=path), name):
                if isinstance(source, HubSource):
                    next(iter(source.rows()), None)  # the whole split is loaded with its first row
                    lines.append(f"{name}={path}: in the cache of data sets, split {source.split}")
                elif is_url(path) and isinstance(source, FileSource):
                    lines.append(f"{name}={path}: {source.path} (without a network give this path)")
    return lines
