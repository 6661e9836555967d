"""The pooling engine: a sequence-classification checkpoint with vLLM's pooling runner. A text in, its logits out.

Nothing is generated, so a request costs its prompt and no more. What the text of a completion says: `logits.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from synthgen.engines.base import EngineInfo
from synthgen.engines.logits import list_windows, read_labels, write_logits
from synthgen.engines.prompt_encoder import PromptEncoder
from synthgen.engines.vllm import VllmEngine
from synthgen.errors import ConfigError
from synthgen.records import Completion, Request

if TYPE_CHECKING:
    from vllm import PoolingParams
    from vllm.config import VllmConfig
    from vllm.outputs import PoolingRequestOutput


class PoolingEngine(VllmEngine):
    """Serves `model` with vLLM's `AsyncLLM.encode`; see `VllmEngine` for its arguments."""

    _labels: tuple[str, ...] = ()
    _done = 0

    async def start(self) -> EngineInfo:
        """Load the model. Raises as `VllmEngine.start` does, and ConfigError for a model that classifies nothing."""
        info = await super().start()
        tasks = await self._engine.get_supported_tasks() if self._engine is not None else ("classify",)
        if "classify" not in tasks:
            await self.close()
            raise ConfigError(
                f"model.id={self._model.id} is no classifier (vLLM serves it for {', '.join(tasks)}); "
                "take a checkpoint whose architecture ends in ForSequenceClassification"
            )
        info.details["labels"] = list(self._labels)
        return info

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion, whose text is the request's logits as JSON. See `Engine.generate`."""
        served = await asyncio.gather(*[self._serve(part, _make_params) for part in list_windows(request)])
        self._done += 1
        outputs = [cast("PoolingRequestOutput", found) for found, _ in served]
        windows = [output.outputs.data.float().flatten().tolist() for output in outputs]
        tokens = sum(len(output.prompt_token_ids) for output in outputs)
        cached = sum(found for _, found in served)
        return [Completion(write_logits(self._labels, windows), "stop", tokens, cached, 0)]

    def heartbeat(self) -> float:
        """Return how many requests have ended: each is one step of the engine, and makes no tokens to count."""
        return self._done

    def _find_choice_tokens(self, choices: tuple[str, ...]) -> None:
        """Look for none: nothing is drawn."""

    def _make_encoder(self, config: VllmConfig, tokenizer: Any) -> PromptEncoder:
        model = self._model
        self._labels = read_labels(getattr(config.model_config.hf_config, "id2label", None))
        return PromptEncoder(tokenizer, model.chat_template, model.name, model.template_kwargs, writes=False)


def _make_params() -> PoolingParams:
    from vllm import PoolingParams

    return PoolingParams(task="classify", use_activation=False)
