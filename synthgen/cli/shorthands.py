"""What may be typed shorter than `key=value`, by command: options, and values that need no key."""

from __future__ import annotations

import os
import re

from synthgen.errors import ConfigError

OF_A_RUN = ("status", "report", "publish", "clean")
"""Commands about one run directory: it may be given without its key."""
GOES_ON = ("run", "plan", "preview", "fetch", "prove")
"""Commands that go on with a run directory which is there; it may be given without its key, too."""

FLAGS = {
    "clean": {"--yes": "yes=true", "-y": "yes=true"},
    "compare": {"--json": "format=json"},
}
OPTIONS = {"models": {"--serve": "serve"}}
"""Options with a value, and the key that they stand for."""
FIRST = {"init": "dir"}
EVERY = {"compare": "run_dir"}
"""The key of the first argument, or of every one, that has none."""


def write_out(command: str, arguments: list[str]) -> list[str]:
    """Return a command's arguments as keys and values. Raises ConfigError for an option without its value."""
    given = list(arguments)
    written = [meant for option, meant in FLAGS.get(command, {}).items() if take_flag(given, option)]
    for option, key in OPTIONS.get(command, {}).items():
        value = take_option(given, option)
        written += [] if value is None else [f"{key}={value}"]
    if command in EVERY:
        given = [f"{EVERY[command]}={one}" if _has_no_key(one) else one for one in given]
    if given and command in FIRST and _has_no_key(given[0]):
        given[0] = f"{FIRST[command]}={given[0]}"
    if given and _is_run_dir(command, given[0]):
        given[0] = f"run_dir={_quote(given[0])}"
    elif command in GOES_ON:  # typed with a key it may be a whole command; see `compose_started`
        given = [f"run.dir={one.partition('=')[2]}" if one.startswith("run_dir=") else one for one in given]
    return given + written


def take_flag(arguments: list[str], *names: str) -> bool:
    """Take options without a value out of `arguments`; return whether there was one."""
    found = [argument for argument in arguments if argument in names]
    for argument in found:
        arguments.remove(argument)
    return bool(found)


def take_option(arguments: list[str], name: str) -> str | None:
    """Take `--name value` or `--name=value` out of `arguments`. Raises ConfigError where the value is missing."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            del arguments[index]
            return argument.partition("=")[2]
        if argument == name:
            if index + 1 == len(arguments):
                raise ConfigError(f"{name} needs a value")
            value = arguments[index + 1]
            del arguments[index : index + 2]
            return value
    return None


def _has_no_key(argument: str) -> bool:
    return "=" not in argument and not argument.startswith("-")


def _is_run_dir(command: str, argument: str) -> bool:
    if "=" in argument or argument.startswith(("-", "~")):
        return False
    return command in OF_A_RUN or (command in GOES_ON and ("://" in argument or os.path.isdir(argument)))


def _quote(path: str) -> str:
    """Return a path as Hydra's grammar takes it, whatever it holds."""
    if re.fullmatch(r"[\w./:@~+-]+", path):
        return path
    escaped = path.replace("'", "\\'")
    return f"'{escaped}'"
