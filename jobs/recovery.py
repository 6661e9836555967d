"""Evaluates a quantized checkpoint and its base with lm-eval, and says what was kept. The configuration is
conf/recovery/default.yaml; see docs/recovery.md.

python jobs/recovery.py model=models/smollm2-w8a8 base=builtin:smollm2 tasks=[openllm_v1] output_dir=recovery/smollm2
ray job submit --working-dir . --entrypoint-num-gpus 1 -- python jobs/recovery.py model=… base=… output_dir=/shared/…
"""

from __future__ import annotations

from synthgen.recovery.job import main

if __name__ == "__main__":
    raise SystemExit(main())
