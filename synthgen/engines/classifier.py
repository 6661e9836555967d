"""The classifier engine: a sequence-classification checkpoint by transformers, for architectures that vLLM lacks.

DeBERTa, and with it Prompt Guard, is one. What waits is put into batches of texts that are about as long, so that
little is padding; one batch runs at a time, in a thread.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from synthgen.config import ModelConfig
from synthgen.engines.base import EngineInfo
from synthgen.engines.compiler import has_gpus
from synthgen.engines.logits import list_windows, read_labels, write_logits
from synthgen.engines.prompt_encoder import PromptEncoder
from synthgen.errors import ConfigError, EngineDeadError, MissingExtraError, one_line
from synthgen.models.locate import locate_checkpoint
from synthgen.records import Completion, Request, RequestFailure

MAX_SEQS = 64
"""Texts of a batch, unless `model.max_num_seqs` says another number."""
BATCH_TOKENS = {"cuda": 16384, "cpu": 2048}
"""Tokens of a batch by device, padding included, unless `model.max_num_batched_tokens` says another number."""
MAX_THREADS = 8
DEVICE = "device"
"""The one key of `model.engine_args`: `cpu` or `cuda`; left out, the planner says."""

Waiting = tuple[Request, "asyncio.Future[list[float]]"]


class TransformersEngine:
    """Serves `model` with `AutoModelForSequenceClassification`.

    Args:
        model: the catalog entry. Without a `device` it is served on a GPU where this process sees one.
    """

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._network: Any = None
        self._device = "cpu"
        self._encoder: PromptEncoder | None = None
        self._labels: tuple[str, ...] = ()
        self._context_length = 0
        self._padding: int | None = None  # None: each text is a batch of its own
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._steps = 0

    async def start(self) -> EngineInfo:
        """Load the model, in a thread. Raises ConfigError for what cannot work here, EngineDeadError for what broke."""
        return await asyncio.to_thread(self._start)

    def encode(self, requests: Sequence[Request]) -> list[Request | RequestFailure]:
        """Return the requests with `prompt_token_ids`. See `Engine.encode`."""
        if self._encoder is None:
            raise EngineDeadError(f"the engine of {self._model.name} is not running")
        return self._encoder.encode(requests, self._context_length + 1)  # nothing is written behind a prompt

    async def generate(self, request: Request) -> list[Completion]:
        """Return one completion, whose text is the request's logits as JSON. See `Engine.generate`."""
        if self._network is None:
            raise EngineDeadError(f"the engine of {self._model.name} is not running")
        parts = list_windows(request)
        futures = [asyncio.get_running_loop().create_future() for _ in parts]
        self._waiting.extend(zip(parts, futures, strict=True))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        windows = await asyncio.gather(*futures)
        tokens = sum(len(part.prompt_token_ids or ()) for part in parts)
        return [Completion(write_logits(self._labels, windows), "stop", tokens, 0, 0)]

    def heartbeat(self) -> float:
        """Return how many matrices were multiplied with: it grows within a batch too."""
        return self._steps

    def notice(self) -> str:
        """Return nothing: this engine waits for nobody."""
        return ""

    async def close(self) -> None:
        """Free the model. Requests that still wait get EngineDeadError."""
        self._network = None
        self._fail(self._waiting, EngineDeadError(f"the engine of {self._model.name} is closed"))

    async def _work(self) -> None:
        """Run batches until nothing waits."""
        await asyncio.sleep(0)  # all requests of a unit come in one turn of the loop
        while self._waiting and self._network is not None:
            batch = self._take_batch()
            if not batch:  # those who waited wait no more
                continue
            try:
                rows = await asyncio.to_thread(
                    self._run, self._network, [part.prompt_token_ids or () for part, _ in batch]
                )
            except Exception as error:
                dead = EngineDeadError(f"the engine of {self._model.name} died: {one_line(error)}")
                self._network = None
                self._fail([*batch, *self._waiting], dead)
                return
            for (_, future), row in zip(batch, rows, strict=True):
                if not future.done():
                    future.set_result(row)

    def _take_batch(self) -> list[Waiting]:
        """Return what runs next, and forget it: the first by priority, with those that are most like it in length."""
        alive = [item for item in self._waiting if not item[1].done()]
        alive.sort(key=lambda item: (item[0].priority, -len(item[0].prompt_token_ids or ())))
        most = 1 if self._padding is None else self._model.max_num_seqs or MAX_SEQS
        if alive:  # the first is the longest of its priority: all others are padded to its length
            longest = max(1, len(alive[0][0].prompt_token_ids or ()))
            same = sum(item[0].priority == alive[0][0].priority for item in alive)
            most = min(
                most, same, max(1, (self._model.max_num_batched_tokens or BATCH_TOKENS[self._device]) // longest)
            )
        self._waiting = alive[most:]
        return alive[:most]

    def _run(self, network: Any, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return the logits of each text of a batch. Blocking."""
        import torch

        width = max(1, *(len(ids) for ids in batch))
        padding = self._padding or 0
        ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in batch], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=self._device)
        with torch.inference_mode():
            logits = network(input_ids=ids, attention_mask=mask).logits
        found: list[list[float]] = logits.float().reshape(len(batch), -1).cpu().tolist()
        return found

    def _count_step(self, *_: object) -> None:
        self._steps += 1

    def _fail(self, waiting: Sequence[Waiting], error: EngineDeadError) -> None:
        self._waiting = []
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)

    def _start(self) -> EngineInfo:
        if importlib.util.find_spec("torch") is None:
            raise MissingExtraError("torch", "gpu" if has_gpus() else "cpu")
        import torch
        import transformers

        model = self._model
        self._device = _choose_device(model, torch)
        path = locate_checkpoint(model)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                model.tokenizer or path,
                revision=model.revision if model.tokenizer is None else None,
                trust_remote_code=model.trust_remote_code,
            )
            network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                path,
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                dtype=model.dtype,
                output_loading_info=True,
            )
        except (ValueError, TypeError, OSError, ImportError, KeyError) as error:
            raise ConfigError(f"model.id={model.id} cannot be served: {one_line(error)}") from error
        except RuntimeError as error:
            raise EngineDeadError(f"transformers could not load {model.id}: {one_line(error)}") from error
        if report["missing_keys"]:  # transformers draws such a head at random, and only logs it
            missing = ", ".join(sorted(report["missing_keys"])[:3])
            raise ConfigError(
                f"model.id={model.id} is no classifier (its files lack {missing}); "
                "take a checkpoint whose architecture ends in ForSequenceClassification"
            )
        if self._device == "cpu":
            torch.set_num_threads(_count_threads())
        if any(tokenizer("a").get("token_type_ids") or ()):
            raise ConfigError(f"model.id={model.id} tells tokens apart by type, which engine=transformers does not do")
        # A decoder reads its answer off the last token that is no padding, by its own configuration; one that names
        # none gets one text at a time, and so does what is padded before the text.
        self._padding = None if tokenizer.padding_side == "left" else network.config.pad_token_id
        self._labels = read_labels(getattr(network.config, "id2label", None))
        self._context_length = _find_context_length(model, network, tokenizer)
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(self._count_step)
        self._encoder = PromptEncoder(tokenizer, model.chat_template, model.name, model.template_kwargs, writes=False)
        try:
            self._network = network.to(self._device).eval()
        except RuntimeError as error:
            raise EngineDeadError(f"{model.id} could not be put on {self._device}: {one_line(error)}") from error
        return EngineInfo(
            max_num_seqs=model.max_num_seqs or MAX_SEQS,
            context_length=self._context_length,
            kv_cache_tokens=None,
            details={
                "engine": "transformers",
                "version": transformers.__version__,
                "device": torch.cuda.get_device_name() if self._device == "cuda" else "cpu",
                "dtype": str(network.dtype).removeprefix("torch."),
                "labels": list(self._labels),
            },
        )


def _choose_device(model: ModelConfig, torch: Any) -> str:
    device = str(model.engine_args.get(DEVICE) or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"model.name={model.name}: PyTorch finds no GPU on this machine; run where there is one, or set "
            f"model.engine_args.{DEVICE}=cpu"
        )
    return device


def _count_threads() -> int:
    """Return threads for one batch: what Ray booked, or a quarter of the CPUs, since others run beside this engine."""
    booked = os.environ.get("OMP_NUM_THREADS", "")
    own = int(booked) if booked.isdigit() else 1
    return max(1, own, min(MAX_THREADS, len(os.sched_getaffinity(0)) // 4))


def _find_context_length(model: ModelConfig, network: Any, tokenizer: Any) -> int:
    """Return the tokens of the longest text, with what the tokenizer puts around it.

    The positions of RoBERTa and its kin begin behind that of the padding, so that two of them are no token's.
    """
    known = [model.max_model_len, getattr(network.config, "max_position_embeddings", None), tokenizer.model_max_length]
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            known.append(module.num_embeddings - module.padding_idx - 1)
    return min((length for length in known if isinstance(length, int) and 0 < length < 10**9), default=512)
