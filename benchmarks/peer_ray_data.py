"""`ray.data.llm.build_processor` on the benchmark's work, in a process of its own (see benchmarks.passes).

    python -m benchmarks.peer_ray_data WORK.json

The processor runs as its documentation shows it: chat template, tokenizer, engine and detokenizer as stages, then
`write_parquet`. What differs from a user's script, and why:

- `placement_group_config` asks for a CPU, as the default asks for a GPU. `log_engine_metrics` is off, as it needs
  ray[serve], and so are progress bars, which only cost time.
- Ray is told of LOGICAL_CPUS. Each of the four stages holds one for good, preprocessing up to two (here they wait for
  the next pass), and tasks that write need some. With the two of a small machine, the stages wait for each other for
  ever.
- Preprocessing holds each pass back, and the engine's stage notes when it is called.
- The prompts come in blocks of a given size: in one stream of several passes, `from_items` would make others than of
  the prompts of one pass. A batch never spans two passes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks.passes import note_call, wait_for_pass

LOGICAL_CPUS = 8
PREPROCESS_TASKS = 2


def main() -> None:
    """Run the processor over all passes."""
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import pyarrow as pa
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig
    from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

    directory, sampling = Path(work["directory"]), work["sampling"]
    ray.init(address="local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    config = vLLMEngineProcessorConfig(
        model_source=work["engine_args"].pop("model"),
        engine_kwargs=work["engine_args"],
        placement_group_config={"bundles": [{"CPU": 1}]},
        concurrency=1,
        batch_size=work["batch_size"],
        log_engine_metrics=False,
    )

    class NotedEngine(vLLMEngineStageUDF):
        async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:  # type: ignore[override]
            note_call(directory)
            async for output in super().udf(batch):
                yield output

    def preprocess(row: dict[str, Any]) -> dict[str, Any]:
        wait_for_pass(directory, row["pass"])
        messages = [{"role": "user", "content": row["prompt"]}]
        return {"messages": messages, "sampling_params": {**sampling, "seed": row["seed"]}}

    def postprocess(row: dict[str, Any]) -> dict[str, Any]:
        return {"pass": row["pass"], "text": row["generated_text"], "tokens": row["num_generated_tokens"]}

    processor = build_processor(
        config,
        preprocess=preprocess,
        postprocess=postprocess,
        preprocess_map_kwargs={"concurrency": PREPROCESS_TASKS},
    )
    # A copy: an assignment would validate the stage anew, which forgets placement_group_config.
    stage = processor.stages["vLLMEngineStage"]
    processor.stages["vLLMEngineStage"] = stage.model_copy(update={"fn": NotedEngine})
    blocks = [
        pa.Table.from_pylist(rows[start : start + work["block_rows"]])
        for rows in work["passes"]
        for start in range(0, len(rows), work["block_rows"])
    ]
    processor(ray.data.from_arrow(blocks)).write_parquet(str(directory / "results"))


if __name__ == "__main__":
    main()
