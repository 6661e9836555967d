"""`synthgen run`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import compose_for


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Run the pipeline and print the summary."""
    config = compose_for(overrides, config_dir, reuse=True)
    from rich.console import Console

    from synthgen.observe.summary import summarise
    from synthgen.runtime.prepare import prepare_models
    from synthgen.runtime.run import run

    report = run(prepare_models(config))
    url = report["run_dir"]
    paths = [("dataset", f"{url}/dataset"), ("report", f"{url}/report.html"), ("logs", f"{url}/logs")]
    Console(soft_wrap=False).print(summarise(report, paths))
    return 0
