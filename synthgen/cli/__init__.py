"""The command line: from argv to an exit status. A file per command; how anything is done is for the other rooms."""

from synthgen.cli.program import main, run_command

__all__ = ["main", "run_command"]

PUBLIC: tuple[str, ...] = ()
IMPORTS = (
    "config", "models", "planning", "engines", "ledger", "trust", "export", "publish", "judge_eval", "observe",
    "runtime", "doctor", "proof",
)  # fmt: skip
