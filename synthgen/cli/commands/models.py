"""`synthgen models`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_value
from synthgen.config.compose import compose_config
from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the model catalog, or what it says of one model (`models <name>`); with `model=<name> cluster=<preset>` the
    formats of one model that fit there; with `--serve <name> cluster=<preset>` (or `serve=<name>`) the command that
    serves it as an endpoint there."""
    from synthgen.config.resources import project_path
    from synthgen.planning import format_models, list_models

    served, rest = take_value(overrides, "serve")
    if served is not None:
        print(_format_serving(served, rest, config_dir))
        return 0
    name, rest = take_value(overrides, "model")
    if name is not None:
        from synthgen.planning.choices import format_choices, list_formats

        cluster = compose_config(["experiment=echo", *rest], config_dir).cluster
        print(format_choices(list_formats(name, cluster), cluster.name))
        return 0
    if len(rest) == 1 and "=" not in rest[0]:
        found = [one for one in list_models(project_path("conf")) if rest[0] in (one.name, one.id)]
        if found:
            print(format_models(found))
            return 0
    if rest:
        raise ConfigError(f"models takes model=<name> and cluster=<preset>, but got {rest[0]!r}")
    print(format_models(list_models(project_path("conf"))))
    return 0


def _format_serving(name: str, overrides: Sequence[str], config_dir: str | None) -> str:
    """Return the command of an endpoint that serves as a run's replicas would, and the overrides that use it."""
    import shlex
    from dataclasses import replace

    from synthgen.engines.adapters import list_adapters
    from synthgen.engines.vllm_serve import make_serve_command
    from synthgen.engines.vllm_setup import read_lora_rank
    from synthgen.models.locate import locate_checkpoint
    from synthgen.planning import plan_engine, resolve_cluster

    chosen = [f"model@judge.model={name}", "judge.model.replicas=null", *overrides]
    config = compose_config(["experiment=echo", *chosen], config_dir)
    cluster, model = resolve_cluster(config.cluster), config.judge.model
    plan = plan_engine(model, cluster, key="serve", lengths=None, efficiency=config.plan.efficiency)
    on_cpu = not cluster.gpus_per_node
    path = locate_checkpoint(model) if model.id.startswith("builtin:") else model.id
    model = replace(plan.apply(model), replicas=max(1, plan.replicas // cluster.nodes))
    if plan.nodes > 1:
        model = replace(model, engine_args={"distributed_executor_backend": "ray", **model.engine_args})
    ranks = [read_lora_rank(adapter) for adapter in list_adapters(model).values()]
    command = make_serve_command(model, path=path, name=model.id, on_cpu=on_cpu, lora_ranks=ranks)
    lines = [f"# {reason}" for reason in plan.reasons]
    if plan.nodes > 1:
        lines.append(f"# a replica takes {plan.nodes} nodes: start Ray on them; the command runs on one of them")
    elif cluster.nodes > 1:
        lines.append(f"# run it on each of the {cluster.nodes} nodes, as an endpoint each")
    environment = "VLLM_CPU_OMP_THREADS_BIND=nobind " if on_cpu else ""
    use = [
        f"model@{place}=openai_endpoint {place}.id={shlex.quote(model.id)} "
        f"{place}.endpoint.base_url=http://HOST:8000/v1"
        for place in ("judge.model", "generators.main.model")
    ]
    return "\n".join(
        [*lines, environment + shlex.join(command), "", "# as the judge, or as a generator, of a run:", *use]
    )
