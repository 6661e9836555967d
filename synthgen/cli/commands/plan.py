"""`synthgen plan`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import compose_for


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print what a run would do."""
    config = compose_for(overrides, config_dir)
    from synthgen.planning import format_plan, make_plan, plan_to_json
    from synthgen.runtime.cluster import live_cluster, read_cluster
    from synthgen.runtime.plan_ledger import read_ledger

    with live_cluster(config.cluster):
        plan = make_plan(config, read_ledger(config), cluster=read_cluster(config.cluster))
    if config.plan.format == "json":
        import json

        print(json.dumps(plan_to_json(plan), indent=2))
    else:
        print(format_plan(plan))
    return 0
