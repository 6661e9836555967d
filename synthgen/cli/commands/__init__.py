"""The commands, a file for each: `main(overrides, config_dir)` returns the exit status.

The table is what `synthgen --help` prints. A package adds a command by an entry point in the group `synthgen.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synthgen.errors import ConfigError

COMMANDS = {
    "init": "a project of your own to begin with: prompts, settings, a filter, a Makefile (init my-project)",
    "run": "prompts in, preference dataset out; starting it again goes on where it ended",
    "plan": "what would run, on which GPUs, what is reused, what it costs (plan.format=json)",
    "preview": "a few prompts all the way through, shown side by side, nothing left behind",
    "status": "progress of a run, from any machine that sees its directory (run_dir=...)",
    "report": "the report and the trust report of a run (run_dir=...)",
    "compare": "two runs side by side: settings, yield, lengths, trust, cost, scores (run_dir=... run_dir=...)",
    "publish": "the dataset to the Hugging Face Hub (run_dir=... publish.repo_id=org/name)",
    "prove": "whether the data makes a model better: train on it, and see (run_dir=... model=...)",
    "models": "the model catalog; the formats of one model that fit: model=... cluster=...",
    "fetch": "models and data of a run into the caches, for nodes without a network (as run)",
    "judge-eval": "the judge against a labelled preference file (data=...)",
    "calibrate": "measure a few units and use the figures for plan",
    "clean": "remove what no configuration of a run uses any more (run_dir=..., yes=true without a question)",
    "doctor": "what this machine or cluster can run",
    "config": "the composed configuration as YAML",
}


def find_command(name: str) -> Callable[[Sequence[str], str | None], int]:
    """Return the command called `name`. Raises ConfigError, which names the nearest, where there is none."""
    from synthgen.config.registry import Registry

    own = {command: f"synthgen.cli.commands.{command.replace('-', '_')}:main" for command in COMMANDS}
    registry = Registry("synthgen.commands", own)
    if name not in registry.names:
        import difflib

        near = difflib.get_close_matches(name, registry.names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(registry.names)}"
        raise ConfigError(f"{name!r} is not a command; {hint}")
    found: Callable[[Sequence[str], str | None], int] = registry.load(name, "command")
    return found
