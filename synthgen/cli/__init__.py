"""The command line: from argv to an exit status."""

from synthgen.cli.program import main, run_command

__all__ = ["main", "run_command"]
