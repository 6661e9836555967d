"""`python -m synthgen`, which is how a Ray job starts it: in the Python of the cluster, whichever that is."""

from __future__ import annotations

import importlib.util
import sys

OLDEST = (3, 11)
NEEDED = ("omegaconf", "hydra", "pyarrow", "ray")


def find_fault() -> str | None:
    """Return in one line why synthgen cannot run in this Python, or None."""
    if sys.version_info < OLDEST:
        lacks = f"is {sys.version.split()[0]}, and synthgen needs {'.'.join(map(str, OLDEST))} or newer"
    else:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if not missing:
            return None
        lacks = f"has no {', '.join(missing)}"
    return (
        f"{sys.executable} {lacks}; start it, or Ray on every node of a cluster, from an environment that "
        "holds synthgen's packages: its .venv (make setup) or its image (docs/cluster.md)"
    )


if fault := find_fault():
    print(f"synthgen: {fault}", file=sys.stderr)
    sys.exit(2)

from synthgen.cli import main  # noqa: E402 - not before it is known that it can be

main()
