"""`synthgen compare`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print two finished runs side by side, as tables or (`format=json`) as JSON."""
    import json

    from rich.console import Console

    from synthgen.observe.compare import compare_runs, render_comparison

    given = [override.partition("=") for override in overrides]
    urls = [value.strip("'\"") for key, _, value in given if key in ("run_dir", "run.dir")]
    rest = [f"{key}={value}" for key, _, value in given if key not in ("run_dir", "run.dir")]
    if len(urls) != 2 or rest not in ([], ["format=text"], ["format=json"]):
        but = f", but got {rest[0]!r}" if rest and len(urls) == 2 else f", but got {len(urls)} of them"
        raise ConfigError(f"compare takes two run directories{but}: synthgen compare run_dir=… run_dir=…")
    compared = compare_runs(urls)
    if rest == ["format=json"]:
        print(json.dumps(compared, indent=2, ensure_ascii=False, default=str))
    else:
        Console().print(render_comparison(compared))
    return 0
