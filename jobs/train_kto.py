"""Trains a model with KTO on a run's data set. The configuration is conf/train/kto.yaml; see docs/training.md.

python jobs/train_kto.py data=runs/first model=builtin:tiny output_dir=runs/first-kto
ray job submit --working-dir . --entrypoint-num-gpus 1 -- python jobs/train_kto.py data=org/name model=… output_dir=…
accelerate launch jobs/train_kto.py …                 all GPUs of this machine
"""

from __future__ import annotations

from synthgen.training.train import main

if __name__ == "__main__":
    raise SystemExit(main("kto"))
