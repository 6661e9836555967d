"""`make bench`: measure the pipeline on this machine.

    python -m benchmarks [names…] [--quick] [--out FILE]

Each benchmark prints a table and a line of JSON; --out keeps the JSON of all of them. Without names all run, in the
order of the list. --quick takes the smallest sizes that still exercise every part: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.engines import Engines
from benchmarks.machine import describe_machine
from benchmarks.outcome import Outcome, print_outcome

BENCHMARKS = {
    "generate": "benchmarks.generate",
    "pipeline": "benchmarks.pipeline",
    "judge": "benchmarks.judge",
    "peers": "benchmarks.peers",
    "rows": "benchmarks.rows",
    "scaling": "benchmarks.scaling",
    "driver": "benchmarks.driver",
    "startup": "benchmarks.startup",
    "export": "benchmarks.export",
}
"""Module by name; each has `measure(engines, quick) -> Outcome` and says in its docstring what it measures. `driver`
measures this process's memory, and stands before `export`, which makes it grow."""


def main() -> int:
    """Run what the command line asks for; return 0 if everything could be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="smallest sizes: shows that everything runs")
    parser.add_argument("--out", type=Path, help="file for the results, JSON")
    options = parser.parse_args()
    machine = describe_machine()
    print(json.dumps({"machine": machine}), flush=True)
    outcomes: list[Outcome] = []
    with Engines() as engines:
        for name in options.names or BENCHMARKS:
            began = time.monotonic()
            outcome = import_module(BENCHMARKS[name]).measure(engines, options.quick)
            outcome.took_s = round(time.monotonic() - began, 1)
            outcomes.append(outcome)
            print_outcome(outcome)
            print(json.dumps(outcome.as_json()), flush=True)
            if options.out:
                results = {"machine": machine, "quick": options.quick, "results": [o.as_json() for o in outcomes]}
                options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
