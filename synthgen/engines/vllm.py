"""The vLLM engine: a model on this machine's GPUs (or CPUs), or on several nodes through Ray.

Requests come tokenized, only final outputs come back, and text is made once per completion, so that the event loop
does nothing per token. See docs/engines.md for what is set and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from synthgen.config import ModelConfig
from synthgen.engines.adapters import list_adapters
from synthgen.engines.base import EngineInfo, EngineLoad
from synthgen.engines.choices import ChoiceTokens, find_choice_tokens
from synthgen.engines.prompt_encoder import PromptEncoder
from synthgen.engines.vllm_calls import CallReader, make_call_reader
from synthgen.engines.vllm_parsers import expect_thoughts, make_thought_reader
from synthgen.engines.vllm_requests import make_sampling_params, read_completions
from synthgen.engines.vllm_setup import configure_vllm, describe_engine
from synthgen.engines.vllm_thoughts import ThoughtReader
from synthgen.engines.watchdog import Watchdog
from synthgen.errors import ConfigError, EngineDeadError, RequestError, one_line
from synthgen.records import Completion, Request, RequestFailure

if TYPE_CHECKING:
    from vllm import PoolingParams, RequestOutput, SamplingParams
    from vllm.config import VllmConfig
    from vllm.lora.request import LoRARequest
    from vllm.outputs import PoolingRequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

SHUTDOWN_TIMEOUT_S = 20.0


class VllmEngine:
    """Serves `model` with vLLM's `AsyncLLM`.

    Args:
        model: the catalog entry.
        distributed_executor_backend: `ray` where the engine spans nodes: the process then runs in a placement group
            of one bundle per GPU that captures child tasks. None: vLLM's choice, which is `mp` on one node.
    """

    def __init__(self, model: ModelConfig, distributed_executor_backend: str | None = None) -> None:
        self._model = model
        self._backend = distributed_executor_backend
        self._engine: AsyncLLM | None = None
        self._adapters: dict[str, LoRARequest] = {}  # by the end of the key: `lora`, `adapters.<name>`
        self._encoder: PromptEncoder | None = None
        self._thoughts: ThoughtReader | None = None
        self._calls: CallReader | None = None
        self._decoder: Any = None  # a tokenizers.Tokenizer; None: vLLM makes the text
        self._choice_tokens: dict[tuple[str, ...], ChoiceTokens] = {}
        self._context_length = 0
        self._closed = False
        self._waiting: set[RequestOutputCollector] = set()
        self._requests: dict[str, Request] = {}  # in flight, by vLLM's own id
        self._kv_cache_tokens: int | None = None
        self._watchdog: Watchdog | None = None

    async def start(self) -> EngineInfo:
        """Load the model, in a thread: the event loop stays free.

        Raises:
            MissingExtraError: vLLM is not installed.
            ConfigError: the model cannot be served here.
            EngineDeadError: vLLM broke while loading it.
        """
        info = await asyncio.to_thread(self._start)
        for key, adapter in self._adapters.items():
            if self._engine is not None:
                await self._load_adapter(self._engine, key, adapter)
        return info

    async def _load_adapter(self, engine: AsyncLLM, key: str, adapter: LoRARequest) -> None:
        """Load the adapter at once: with the first request, what is wrong with it would end the engine."""
        try:
            await engine.add_lora(adapter)
        except Exception as error:
            await self.close()
            raise ConfigError(
                f"model.{key}={adapter.lora_path} cannot be loaded into {self._model.id}: {one_line(error)}; "
                "take an adapter that was made for this model"
            ) from error

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests with `prompt_token_ids`, a RequestFailure in the place of each that cannot be served."""
        if self._encoder is None or not self._context_length:
            raise EngineDeadError(f"the engine of {self._model.name} is not running")
        for choices in {request.output_format.choices for request in requests if request.output_format is not None}:
            self._find_choice_tokens(choices)
        return self._encoder.encode(requests, self._context_length)

    async def generate(self, request: Request) -> list[Completion]:
        """Return the request's completions; the request went through `encode`. See `Engine.generate`."""
        # Text is made at the end, in one go; stop strings need it token by token, and vLLM does that.
        detokenize = self._decoder is None or bool(request.sampling.stop)
        tokens = self._find_choice_tokens(request.output_format.choices) if request.output_format else None
        calls = self._calls if request.tools else None
        output, cached = await self._serve(
            request,
            partial(
                make_sampling_params,
                request, tokens, self._thoughts, detokenize=detokenize, reads_calls=calls is not None,
            ),
        )  # fmt: skip
        decode = None if self._decoder is None else self._decode
        read = partial(
            read_completions,
            cast("RequestOutput", output), cached, tokens, decode, self._thoughts,
            detokenized=detokenize, tools=request.tools, calls=calls,
        )  # fmt: skip
        return read() if self._thoughts is None and calls is None else await asyncio.to_thread(read)

    async def _serve(
        self, request: Request, make_params: Callable[[], SamplingParams | PoolingParams]
    ) -> tuple[RequestOutput | PoolingRequestOutput, int]:
        """Return vLLM's output for a request, and the prompt tokens that it found cached. Raises as `generate` does."""
        from vllm.exceptions import VLLMClientError

        engine = self._engine
        if engine is None:
            raise EngineDeadError(f"the engine of {self._model.name} is not running")
        if request.prompt_token_ids is None:
            raise RequestError("not_encoded", "the request has no prompt_token_ids; pass it through encode first")
        try:
            collector = await engine.add_request(
                request.request_id,
                {"type": "token", "prompt_token_ids": list(request.prompt_token_ids)},
                make_params(),
                lora_request=self._adapters.get("lora" if request.adapter is None else f"adapters.{request.adapter}"),
                priority=request.priority,
                **({} if self._thoughts is None else self._thoughts.engine_arguments(request.prompt_token_ids)),
            )
        except (VLLMClientError, ValueError, TypeError) as error:
            raise RequestError("invalid_request", " ".join(str(error).split())) from error
        except Exception as error:
            if engine.errored:
                raise EngineDeadError(f"the vLLM engine of {self._model.name} died") from error
            raise
        # vLLM reports the cached tokens of the sample that ends last, which finds the prompt cached by the first.
        first_sample = engine.output_processor.request_states.get(f"0_{collector.request_id}")
        self._waiting.add(collector)
        self._requests[collector.request_id] = request
        try:
            output = await collector.get()
        except asyncio.CancelledError:
            await engine.abort(collector.request_id, internal=True)
            raise
        except EngineDeadError:
            raise
        except Exception as error:  # what ended vLLM's output loop, of whatever kind, ends this engine
            raise EngineDeadError(f"the vLLM engine of {self._model.name} died: {error}") from error
        finally:
            self._waiting.discard(collector)
            self._requests.pop(collector.request_id, None)
        cached = output.num_cached_tokens if first_sample is None else first_sample.num_cached_tokens
        return output, cached or 0

    def heartbeat(self) -> float:
        """Return the tokens of the requests in flight: they grow with every step of the engine."""
        engine = self._engine
        if engine is None:
            return 0
        states = list(engine.output_processor.request_states.values())
        return sum(state.detokenizer.num_output_tokens() for state in states if state.detokenizer is not None)

    def load(self) -> EngineLoad:
        """Return the tokens of every request in flight, samples that have ended included. See `Engine`."""
        engine = self._engine
        if engine is None:
            return EngineLoad((), 0, 0)
        tokens = dict.fromkeys(self._requests, 0)
        running = held = 0
        parents = {}
        states = list(engine.output_processor.request_states.values())
        for state in states:
            made = state.detokenizer.num_output_tokens() if state.detokenizer is not None else 0
            if not state.is_prefilling:
                running += 1
                held += state.prompt_len + made
            if state.parent_req is not None:
                parents[state.parent_req.request_id] = state.parent_req
            key = state.request_id if state.parent_req is None else state.parent_req.request_id
            if key in tokens:
                tokens[key] += made
        for key, parent in parents.items():
            if key in tokens:
                tokens[key] += sum(len(sample.token_ids) for sample in parent.output_aggregator if sample is not None)
        share = min(1.0, held / self._kv_cache_tokens) if self._kv_cache_tokens else None
        found = [(self._requests[key], made) for key, made in tokens.items()]
        return EngineLoad(found, running, len(states) - running, share)

    def notice(self) -> str:
        """Return nothing: this engine waits for nobody."""
        return ""

    async def close(self) -> None:
        """End vLLM's processes. Requests that still wait get EngineDeadError."""
        self._closed = True
        engine, self._engine = self._engine, None
        if engine is None:
            return
        for collector in self._waiting:
            collector.put(EngineDeadError(f"the engine of {self._model.name} is closed"))
        if engine.output_handler is not None:
            engine.output_handler.cancel()  # first, or the end of its processes looks like an accident to it
        await asyncio.to_thread(engine.shutdown, SHUTDOWN_TIMEOUT_S)
        if self._watchdog is not None:
            self._watchdog.release()

    def _start(self) -> EngineInfo:
        from vllm.tokenizers import cached_tokenizer_from_config

        # No local variable may hold the engine: an error that vLLM keeps refers to this frame, and an engine that
        # lives until the interpreter ends prints a traceback.
        model = self._model
        config = configure_vllm(model, self._backend)
        tokenizer = cached_tokenizer_from_config(config.model_config)
        self._encoder = self._make_encoder(config, tokenizer)
        self._decoder = getattr(tokenizer, "backend_tokenizer", None)
        self._watchdog = Watchdog()
        self._engine = self._launch(config)
        self._watchdog.settle()
        if self._closed:
            self._engine.shutdown(SHUTDOWN_TIMEOUT_S)
            self._watchdog.release()
            raise EngineDeadError(f"the engine of {model.name} was closed while it loaded")
        info = describe_engine(config)
        if self._thoughts is not None:
            info.details["reasoning_parser"] = self._thoughts.name
        if self._calls is not None:
            info.details["tool_parser"] = self._calls.name
        if self._encoder.folds_system:
            info.details["system_messages"] = "in the user turn"
        self._context_length = info.context_length or 0
        self._kv_cache_tokens = info.kv_cache_tokens
        return info

    def _make_encoder(self, config: VllmConfig, tokenizer: Any) -> PromptEncoder:
        """Return what renders and tokenizes prompts, and read of the checkpoint what else serving it takes."""
        model = self._model
        self._thoughts = make_thought_reader(model, config.model_config, tokenizer)
        marks: tuple[str, ...] = ()
        if self._thoughts is not None:
            expect_thoughts(config, self._thoughts)
            marks = self._thoughts.mark_texts
        self._calls = make_call_reader(model, config.model_config, tokenizer)
        return PromptEncoder(tokenizer, model.chat_template, model.name, model.template_kwargs, marks)

    def _launch(self, config: VllmConfig) -> AsyncLLM:
        from vllm.lora.request import LoRARequest
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        for number, (key, adapter) in enumerate(list_adapters(self._model).items(), start=1):
            self._adapters[key] = LoRARequest(key, number, adapter)
        try:
            return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.LLM_CLASS, disable_log_stats=True)
        except Exception as error:
            if self._watchdog is not None:
                self._watchdog.release()
            self._refuse_adapters(config, error)
            raise EngineDeadError(
                f"vLLM could not load {self._model.id}: {one_line(error)} (the cause is in its log)"
            ) from error

    def _refuse_adapters(self, config: VllmConfig, error: Exception) -> None:
        """Raise ConfigError where an adapter is the likely cause: vLLM 0.32 puts none on INT8 weights that it has
        packed for a CPU without AMX."""
        from vllm.platforms import current_platform

        if self._adapters and current_platform.is_cpu() and config.quant_config is not None:
            key, adapter = next(iter(self._adapters.items()))
            raise ConfigError(
                f"model.{key}={adapter.lora_path} cannot be put on {self._model.id}, which is quantized, on this CPU; "
                "take its unquantized checkpoint (the cause is in vLLM's log)"
            ) from error

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._decoder.decode(ids, skip_special_tokens=True)
        return text

    def _find_choice_tokens(self, choices: tuple[str, ...]) -> ChoiceTokens | None:
        if not choices or self._decoder is None:
            return None
        if choices not in self._choice_tokens:
            vocabulary = range(self._decoder.get_vocab_size(with_added_tokens=False))
            texts = self._decoder.decode_batch([[token] for token in vocabulary])
            self._choice_tokens[choices] = find_choice_tokens(choices, texts)
        return self._choice_tokens[choices]
