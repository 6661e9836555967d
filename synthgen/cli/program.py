"""The command line: `synthgen <command> [hydra overrides]`. Heavy imports happen in the commands: help is instant."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from synthgen import __version__
from synthgen.cli.commands import COMMANDS, find_command
from synthgen.cli.shorthands import take_flag, take_option, write_out
from synthgen.errors import ConfigError, RunStoppedError, SynthgenError, one_line

HELP = """\
synthgen: preference data from open models on your own GPUs

usage: synthgen <command> [options] [key=value | group=option] ...

commands
{commands}

options
  -m, --multirun     run every combination of comma-separated values: pairs.policy=best_worst,best_random
  --config FILE      a YAML file of keys and values, put below the rest of the command line
  --config-dir DIR   a directory with config groups of your own, searched first
  --traceback        show Python's traceback with an error
  -h, --help         this text;  --version: the version

examples
  synthgen run experiment=demo
  synthgen run model@generators.main.model=llama-3.3-70b-w8a8 model@judge.model=llama-3.1-405b-fp8 \\
      prompts.path=prompts.jsonl run.dir=runs/first cluster=8xh100-80
  synthgen plan experiment=best_of_five prompts.path=prompts.jsonl cluster=1xh100
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 complete, 1 failed, 2 bad configuration or input, 128 + n stopped by signal n."""
    raise SystemExit(run_command(list(sys.argv[1:] if argv is None else argv)))


def run_command(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    show_traceback = take_flag(arguments, "--traceback") or bool(os.environ.get("SYNTHGEN_TRACEBACK"))
    if not arguments or take_flag(arguments, "-h", "--help") or arguments[0] == "help":
        print(HELP.format(commands="\n".join(f"  {name:<11} {line}" for name, line in COMMANDS.items())))
        return 0 if arguments or len(sys.argv) <= 1 or "-h" in sys.argv or "--help" in sys.argv else 2
    if take_flag(arguments, "--version"):
        print(f"synthgen {__version__}")
        return 0
    name, *rest = arguments
    try:
        given_dir = take_option(rest, "--config-dir")
        multirun = take_flag(rest, "-m", "--multirun")
        command = find_command(name)
        rest = write_out(name, rest)
        settings_dir = _take_settings(rest)
        config_dir = given_dir or settings_dir
        _refuse_options(rest)
        if not multirun:
            return command(rest, config_dir)
        from synthgen.config.compose import sweep

        jobs = sweep(rest)
        status = 0
        for number, overrides in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] synthgen {name} {' '.join(overrides)}", flush=True)
            status = max(status, command(overrides, config_dir))
        return status
    except KeyboardInterrupt:
        return _fail(RunStoppedError("interrupted"), show_traceback)
    except SynthgenError as error:
        return _fail(error, show_traceback)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        mend = "make room" if error.errno == errno.ENOSPC else "mend that"
        what = (error.strerror or str(error)).lower()
        return _fail(
            SynthgenError(f"{where}{what}; what was committed is kept: {mend} and start the same command again"),
            show_traceback,
        )
    except Exception as error:
        if show_traceback:
            raise
        kind = type(error).__name__
        print(f"synthgen: unexpected {kind}: {_printable(error)} (--traceback shows where)", file=sys.stderr)
        return 1


def _take_settings(arguments: list[str]) -> str | None:
    """Put what a file of settings holds before the other arguments, in the place of `--config FILE` or `FILE.yaml`.

    Returns:
        its `config_dir`, which is no key of the configuration but what `--config-dir` gives.
    """
    path = take_option(arguments, "--config")
    if path is None and arguments and arguments[0].endswith((".yaml", ".yml")) and "=" not in arguments[0]:
        path = arguments.pop(0)
    if path is None:
        return None
    from synthgen.config.compose import key_of
    from synthgen.config.settings import read_settings

    given = {key_of(argument) for argument in arguments}
    given |= {"run.dir"} if "run_dir" in given else set()
    overrides, config_dir = read_settings(Path(path))
    overrides = [re.sub(r"^run_dir=", "run.dir=", override) for override in overrides]  # one name for one thing
    arguments[:0] = [override for override in overrides if key_of(override) not in given]
    return config_dir


def _fail(error: SynthgenError, show_traceback: bool) -> int:
    if show_traceback:
        import traceback

        traceback.print_exception(error)
    print(f"synthgen: {_printable(error)}", file=sys.stderr)
    if isinstance(error, RunStoppedError):
        print("synthgen: what was committed is kept; the same command goes on from it", file=sys.stderr)
    return error.exit_code


def _printable(error: BaseException) -> str:
    text = one_line(error, 2000)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)[:2000]


def _refuse_options(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument.startswith("-"):
            raise ConfigError(f"{argument} is not an option; see synthgen --help")
        if "=" not in argument and not argument.startswith("~"):
            raise ConfigError(f"{argument!r} is not an override; write key=value or group=option")
