"""`synthgen preview`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import compose_for


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Run a few prompts all the way through, show them side by side, and keep nothing."""
    from pathlib import Path

    config = compose_for(overrides, config_dir)
    from rich.console import Console

    from synthgen.runtime.prepare import prepare_models
    from synthgen.runtime.preview import make_preview, render_preview, write_preview

    preview = make_preview(prepare_models(config))
    console = Console()
    console.print(render_preview(preview, console.width))
    if config.preview.html:
        write_preview(preview, Path(config.preview.html))
        print(config.preview.html)
    return 0
