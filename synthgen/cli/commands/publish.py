"""`synthgen publish`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_run_dir


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Publish a run's dataset to the Hub or to a directory."""
    from synthgen.config.saved import read_saved_config
    from synthgen.export.finished import open_dataset
    from synthgen.publish.dataset import describe_result, publish_run

    path, rest = take_run_dir(overrides)
    run_dir, manifest = open_dataset(path, "publish")
    config = read_saved_config(manifest.config, rest)
    print(describe_result(publish_run(run_dir.storage, manifest, config)))
    return 0
