"""Quantizes a checkpoint with llm-compressor. The configuration is conf/quantize/default.yaml; see docs/quantizing.md.

python jobs/quantize.py model=builtin:smollm2 scheme=W8A8 output_dir=models/smollm2-w8a8
ray job submit --working-dir . --entrypoint-num-gpus 1 -- python jobs/quantize.py model=… scheme=W8A8 output_dir=…
"""

from __future__ import annotations

from synthgen.quantize.job import main

if __name__ == "__main__":
    raise SystemExit(main())
