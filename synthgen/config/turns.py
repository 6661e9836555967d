"""`generators.<name>.turns` and `prompts.turns`: what they say together, and what they cannot."""

from __future__ import annotations

from collections.abc import Iterator

from synthgen.config import Config, GeneratorTurns, PromptTurns


def settle_turns(config: Config) -> Config:
    """Let `generators.<name>.turns=all` say that a row's turns are kept, where `prompts.turns` says nothing."""
    if config.prompts.turns is None and any(one.turns is GeneratorTurns.all for one in config.generators.values()):
        config.prompts.turns = PromptTurns.last
    return config


def list_turn_problems(config: Config) -> Iterator[str]:
    """Completions of a prompt are compared, so they must stand behind the same turns: one generator answers these."""
    answering = [name for name, generator in config.generators.items() if generator.turns is GeneratorTurns.all]
    if len(answering) > 1:
        yield (
            f"generators.{answering[1]}.turns=all: generators.{answering[0]} answers the earlier turns already, for "
            f"all generators; leave generators.{answering[1]}.turns=last"
        )
    given = [name for name, generator in config.generators.items() if generator.path is not None]
    if answering and given:
        yield (
            f"generators.{answering[0]}.turns=all: the completions of generators.{given[0]}.path were not written "
            f"behind its answers; leave generators.{answering[0]}.turns=last, or make them in a run of their own"
        )
    if answering and config.prompts.turns is PromptTurns.first:
        yield (
            f"generators.{answering[0]}.turns=all has nothing to answer with prompts.turns=first; "
            "leave prompts.turns=null, or take last or each"
        )
    if not answering and config.prompts.turns is PromptTurns.last and config.pipeline == "preference":
        yield (
            "prompts.turns=last: nobody answers the turns before the last; give generators.<name>.turns=all, "
            "or leave prompts.turns=null"
        )
    if answering and config.pipeline == "task":
        yield f"generators.{answering[0]}.turns=all is for pipeline=preference; leave it out with pipeline=task"
