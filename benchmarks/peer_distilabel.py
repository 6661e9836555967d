"""distilabel's Pipeline with its `vLLM` class on the benchmark's work, in its own process (see benchmarks.passes).

    python -m benchmarks.peer_distilabel WORK.json

What differs from a user's script, and why:

- distilabel 1.5.3 passes `logits_processors`, which vLLM's SamplingParams no longer has, and frees the engine by an
  attribute that is gone. `ShimmedvLLM` mends both, and notes when the engine is called.
- `GatedData` holds each pass back.

distilabel cannot give each request a seed of its own, so that it has none, and is spared what seeds cost. One seed for
all would not do instead: requests that draw the same numbers end together, so that lengths are no longer alike.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from distilabel.models import vLLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from benchmarks.passes import note_call, wait_for_pass


class ShimmedvLLM(vLLM):  # type: ignore[misc]
    """distilabel's vLLM, on this version of vLLM."""

    directory: str

    def load(self) -> None:
        import vllm

        super().load()
        sampling_params, generate = vllm.SamplingParams, self._model.generate

        def make_params(*, logits_processors: Any, **rest: Any) -> Any:
            return sampling_params(**rest)

        def noted_generate(*args: Any, **kwargs: Any) -> Any:
            note_call(Path(self.directory))
            return generate(*args, **kwargs)

        vllm.SamplingParams = make_params  # type: ignore
        self._model.generate = noted_generate

    def _cleanup_vllm_model(self) -> None:
        self._model.llm_engine.engine_core.shutdown()


class GatedData(LoadDataFromDicts):  # type: ignore[misc]
    """The rows of all passes; a batch of a pass that is not open yet waits. Batches do not cross passes."""

    directory: str

    def process(self, offset: int = 0) -> Any:
        for rows, last in super().process(offset):
            wait_for_pass(Path(self.directory), rows[0]["pass"])
            yield rows, last


def main() -> None:
    """Run the pipeline over all passes."""
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sampling, directory, args = work["sampling"], work["directory"], work["engine_args"]
    fields = {name: args.pop(name) for name in list(args) if name in vLLM.model_fields}
    llm = ShimmedvLLM(
        **fields,
        extra_kwargs=args,
        disable_cuda_device_placement=True,
        directory=directory,
        generation_kwargs={
            "max_new_tokens": sampling["max_tokens"],
            "temperature": sampling["temperature"],
            "top_p": sampling["top_p"],
        },
    )
    size = work["batch_size"]
    with Pipeline(name="bench", cache_dir=f"{directory}/results") as pipeline:
        data = [{"instruction": row["prompt"], "pass": row["pass"]} for rows in work["passes"] for row in rows]
        load = GatedData(data=data, directory=directory, batch_size=size)
        load >> TextGeneration(llm=llm, num_generations=work["n"], input_batch_size=size)
    pipeline.run(use_cache=False)


if __name__ == "__main__":
    main()
