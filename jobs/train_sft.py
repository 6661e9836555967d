"""Trains a model with SFT on the best completions of a run's data set (conf/train/sft.yaml; see docs/training.md).

python jobs/train_sft.py data=runs/first model=builtin:tiny output_dir=runs/first-sft
ray job submit --working-dir . --entrypoint-num-gpus 1 -- python jobs/train_sft.py data=org/name model=… output_dir=…
accelerate launch jobs/train_sft.py …                 all GPUs of this machine
"""

from __future__ import annotations

from synthgen.training.train import main

if __name__ == "__main__":
    raise SystemExit(main("sft"))
