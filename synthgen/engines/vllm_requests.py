"""A request in, vLLM's sampling parameters out; and vLLM's output in, completions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthgen.engines.choices import ChoiceTokens, Logprobs, read_choice_logprobs
from synthgen.engines.vllm_calls import Called, CallReader
from synthgen.engines.vllm_thoughts import Split, ThoughtReader
from synthgen.errors import RequestError
from synthgen.records import ChoiceLogprobs, Completion, FinishReason, OutputFormat, Request, Tool

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.outputs import CompletionOutput
    from vllm.sampling_params import StructuredOutputsParams

FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def make_sampling_params(
    request: Request,
    tokens: ChoiceTokens | None,
    thoughts: ThoughtReader | None = None,
    *,
    detokenize: bool,
    reads_calls: bool = False,
) -> SamplingParams:
    """Return vLLM's sampling parameters; only the final output is asked for.

    Args:
        tokens: the tokens of `request.output_format.choices`, or None where no log-probabilities are wanted.
        thoughts: of a model that may think; `sampling.thinking_budget` means nothing to one that does not.
        detokenize: whether vLLM makes the text, token by token (stop strings need it).
        reads_calls: whether calls are looked for in the text, which special tokens may begin.

    Raises:
        vllm.exceptions.VLLMValidationError: a parameter is out of range.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    budget = None
    if thoughts is not None and not thoughts.has_ended(request.prompt_token_ids or ()):
        budget = sampling.thinking_budget
    return SamplingParams(
        n=request.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        max_tokens=sampling.max_tokens + (budget or 0),
        thinking_token_budget=budget if thoughts is not None and thoughts.can_bound else None,
        min_tokens=sampling.min_tokens,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        stop=list(sampling.stop),
        ignore_eos=sampling.ignore_eos,
        logit_bias=dict(sampling.logit_bias) or None,
        seed=request.seed,
        structured_outputs=None
        if thoughts is not None and thoughts.writes_freely
        else _structure(request.output_format),
        logprob_token_ids=list(tokens.spelling) if tokens is not None and tokens.spelling else None,
        flat_logprobs=True,
        detokenize=detokenize,
        skip_special_tokens=thoughts is None and not reads_calls,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # nobody else holds these parameters
    )


def _structure(form: OutputFormat | None) -> StructuredOutputsParams | None:
    from vllm.sampling_params import StructuredOutputsParams

    if form is None or not form.spec:
        return None
    arguments: dict[str, Any] = {form.kind: form.spec}
    return StructuredOutputsParams(**arguments)


def read_completions(
    output: RequestOutput,
    cached_tokens: int,
    tokens: ChoiceTokens | None,
    decode: Callable[[Sequence[int]], str] | None,
    thoughts: ThoughtReader | None = None,
    *,
    detokenized: bool,
    tools: Sequence[Tool] = (),
    calls: CallReader | None = None,
) -> list[Completion]:
    """Return a completion per sample, in order.

    Args:
        cached_tokens: prompt tokens that an earlier request had left in the prefix cache.
        tokens: as for `make_sampling_params`.
        decode: tokens to text; None where the tokenizer has no fast decoder, and then vLLM has made the text.
        thoughts: of a model that may think.
        detokenized: whether vLLM has made the text.
        tools: of the prompt. calls: reads what is called; None: nothing is.

    Raises:
        RequestError: vLLM gave the request up.
    """
    from vllm.logprobs import FlatLogprobs

    prompt_tokens = len(output.prompt_token_ids or ())
    completions = []
    for sample in output.outputs:
        finish_reason = FINISH_REASONS.get(str(sample.finish_reason))
        if finish_reason is None:
            raise RequestError(
                "engine_error", f"vLLM ended the request with finish_reason={sample.finish_reason}", retryable=True
            )
        ids = _without_stop_token(sample)
        made = sample.text if detokenized or decode is None else None
        if thoughts is not None:
            split = thoughts.read(output.prompt_token_ids or (), ids, made)
        else:
            split = Split(decode(ids) if decode is not None and made is None else sample.text)
        called = Called(split.text)
        if calls is not None and tools:
            called = calls.read(tools, ids, split, cut=made is not None)
        completion = Completion(
            text=called.text,
            finish_reason=finish_reason,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            output_tokens=len(sample.token_ids),
            reasoning=split.reasoning,
            reasoning_tokens=split.reasoning_tokens,
            tool_calls=called.calls,
            bad_call=called.bad,
        )
        if tokens is not None and decode is not None and isinstance(sample.logprobs, FlatLogprobs):
            found = _read_choices(split, ids, sample.logprobs, tokens, decode)
            completion = replace(completion, choice_logprobs=found)
        completions.append(completion)
    return completions


def _read_choices(
    split: Split, ids: Sequence[int], logprobs: Logprobs, tokens: ChoiceTokens, decode: Callable[[Sequence[int]], str]
) -> tuple[ChoiceLogprobs, ...]:
    """Return the log-probabilities of the choices in the answer; none of those that a thought holds."""
    if split.begin is None:
        return ()
    text = decode(ids[split.begin :]) if split.begin or split.lead else split.text
    found = read_choice_logprobs(text, ids[split.begin :], logprobs, tokens, decode, first=split.begin)
    return tuple(replace(entry, start=entry.start - split.lead) for entry in found)


def _without_stop_token(sample: CompletionOutput) -> list[int]:
    """Return the tokens of the text: the one that ended it is not part of it, even where it is not a special token."""
    ids = list(sample.token_ids)
    if sample.finish_reason == "stop" and not isinstance(sample.stop_reason, str):
        ids = ids[:-1]
    return ids
