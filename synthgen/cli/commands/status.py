"""`synthgen status`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_run_dir
from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print how far a run is, as text or (`format=json`) as JSON."""
    import json

    from rich.console import Console

    from synthgen.ledger.run_dir import RunDir
    from synthgen.observe.status import read_status, render_status

    path, rest = take_run_dir(overrides)
    if path is None:
        raise ConfigError("status needs a run directory; give it as run_dir=<path or URL>")
    if rest not in ([], ["format=text"], ["format=json"]):
        raise ConfigError(f"status takes run_dir=… and format=text|json, but got {' '.join(rest)}")
    status = read_status(RunDir(path, reads_only=True))
    if rest == ["format=json"]:
        print(json.dumps(status, indent=2))
    else:
        Console().print(render_status(status))
    return 0
