"""`synthgen fetch`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import compose_for


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Bring the models and the data of a run into the caches, for nodes that have no network."""
    config = compose_for(overrides, config_dir)
    from huggingface_hub import constants

    from synthgen.models.cache import find_cache
    from synthgen.runtime.fetch import fetch_run

    for line in fetch_run(config):
        print(line, flush=True)
    print(
        f"on nodes without a network: HF_HUB_OFFLINE=1, HF_HOME={constants.HF_HOME} and (built-in models, GGUF files) "
        f"XDG_CACHE_HOME={find_cache().parent}, on a disk that they share or copied there"
    )
    return 0
