"""`python -m synthgen.training <method> key=value …`: what `jobs/train_<method>.py key=value …` runs, without its file.

With `accelerate launch -m synthgen.training …` on all GPUs of a machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

from synthgen.training.parent import follow_parent
from synthgen.training.train import METHODS, main

if __name__ == "__main__":
    follow_parent()
    if sys.argv[1:2] == ["merge"]:
        from synthgen.training.merge import merge_adapter

        merge_adapter(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
        raise SystemExit(0)
    if sys.argv[1:2] and sys.argv[1] in METHODS:
        raise SystemExit(main(sys.argv[1], sys.argv[2:]))
    print(f"train: the first argument is the method, one of {', '.join(METHODS)}", file=sys.stderr)
    raise SystemExit(2)
