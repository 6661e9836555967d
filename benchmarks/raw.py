"""vLLM's own batch call, `LLM.chat`, as an actor: what the pipeline is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthgen.config import ModelConfig
from synthgen.records import Request


@dataclass(frozen=True, slots=True)
class RawResult:
    """What one call took, s, and gave, in tokens."""

    elapsed_s: float
    input_tokens: int
    output_tokens: int


class RawEngine:
    """Hosts a `vllm.LLM` with the settings of a catalog entry (every choice made)."""

    def __init__(self, model: ModelConfig, log_path: str) -> None:
        from synthgen.runtime.replica import _redirect_output

        _redirect_output(log_path)
        self._model = model
        self._llm: Any = None
        self._choice_tokens: dict[tuple[str, ...], list[int]] = {}

    def start(self) -> None:
        """Load the model, once, with the arguments and the environment that the project's engine uses."""
        if self._llm is not None:
            return
        from vllm import LLM

        from synthgen.engines.vllm_args import make_engine_args
        from synthgen.engines.vllm_setup import configure_vllm
        from synthgen.models.locate import ensure_builtin

        configure_vllm(self._model, None)  # sets the environment
        path = str(ensure_builtin(self._model.id)) if self._model.id.startswith("builtin:") else self._model.id
        args = make_engine_args(self._model, path=path, on_cpu=True, context_length=self._model.max_model_len)
        del args["enable_log_requests"]  # of the asynchronous engine only
        self._llm = LLM(**args)

    def chat(self, requests: Sequence[Request]) -> RawResult:
        """Serve all requests in one call: the same messages, sampling, seeds and grammars."""
        params = [self._make_params(request) for request in requests]
        messages = [list(request.messages) for request in requests]
        began = time.perf_counter()
        outputs = self._llm.chat(messages, params, use_tqdm=False)
        elapsed = time.perf_counter() - began
        return RawResult(
            elapsed,
            sum(len(output.prompt_token_ids) for output in outputs),
            sum(len(sample.token_ids) for output in outputs for sample in output.outputs),
        )

    def reset(self) -> None:
        """Empty the prefix cache, as a new run's would be."""
        self._llm.reset_prefix_cache()

    async def end(self) -> None:
        """Free the model."""
        engine, self._llm = self._llm, None
        if engine is not None:
            engine.llm_engine.engine_core.shutdown()

    def _make_params(self, request: Request) -> Any:
        """Return what a user of `LLM.chat` would write for this request."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        sampling = request.sampling
        form = request.output_format
        return SamplingParams(
            n=request.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=request.seed,
            structured_outputs=StructuredOutputsParams(regex=form.spec) if form is not None else None,
            logprob_token_ids=self._find_tokens(form.choices) if form is not None else None,
        )

    def _find_tokens(self, choices: tuple[str, ...]) -> list[int]:
        from synthgen.engines.choices import find_choice_tokens

        if choices not in self._choice_tokens:
            tokenizer = self._llm.get_tokenizer()
            texts = [tokenizer.decode([token]) for token in range(len(tokenizer))]
            self._choice_tokens[choices] = list(find_choice_tokens(choices, texts).spelling)
        return self._choice_tokens[choices]
