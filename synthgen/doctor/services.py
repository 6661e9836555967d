"""What is asked over the network: the Hub's login and the endpoints of models. No key or token is ever shown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from synthgen.config import Config, ModelConfig
from synthgen.config.scorers import list_scorer_models
from synthgen.doctor.check import Check, models_used
from synthgen.engines import make_engine
from synthgen.errors import ConfigError, RequestError, SynthgenError
from synthgen.records import Message, Request, Sampling
from synthgen.stages.generate import to_sampling

ANSWER_TIMEOUT_S = 60.0
PATIENCE_S = 3.0
JUDGE_TOKENS = 1024
QUESTION = "Answer with one word: yes or no?"


def check_services(config: Config) -> Iterator[Check]:
    """Yield the checks of the Hub and of every endpoint that the configuration names."""
    models = models_used(config)
    gated = [model.id for model in models if model.gated and model.served_by.loads_checkpoint]
    yield check_hub(gated, publishes=bool(config.publish.repo_id))
    for model, sampling in _endpoints_used(config):
        yield check_endpoint(model, sampling)


def check_hub(gated: list[str], *, publishes: bool) -> Check:
    """Check the Hub's login. `gated`: models that are only given to those who accepted their terms."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    login = "hf auth login, or set HF_TOKEN"
    why = [f"gated: {', '.join(gated)}"] if gated else []
    why += ["publish.repo_id is set"] if publishes else []
    token = get_token()
    if token is None:
        if why:
            return Check("hub", "missing", f"not logged in, but it is needed ({'; '.join(why)})", login)
        return Check("hub", "ok", "not logged in; only gated models and publishing need it", login)
    if constants.HF_HUB_OFFLINE:
        return Check("hub", "ok", "a token is set; not checked, since HF_HUB_OFFLINE is set")
    try:
        user = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token).whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        if status in (401, 403):
            return Check("hub", "missing", f"the Hub refuses the token that is set ({status})", login)
        return Check("hub", "warning", f"the Hub answers {status}", "try again later")
    except (OSError, OfflineModeIsEnabled) as error:
        mend = "check the network and HTTPS_PROXY; models that are in the cache already can still be used"
        return Check("hub", "warning", f"the Hub cannot be reached ({type(error).__name__})", mend)
    return Check("hub", "ok", f"logged in as {user.get('name', 'someone without a name')}")


def check_endpoint(model: ModelConfig, sampling: Sampling) -> Check:
    """Check that an endpoint serves the model: by one real completion with the run's own parameters."""
    name, endpoint = "endpoint", model.endpoint
    if not endpoint.base_url:
        return Check(
            name, "missing", f"{model.name} has no address", "set endpoint.base_url, such as http://host:8000/v1"
        )
    patient = replace(endpoint, outage_s=PATIENCE_S, max_retries=1, timeout_s=min(endpoint.timeout_s, ANSWER_TIMEOUT_S))
    return asyncio.run(_ask_for_completion(replace(model, endpoint=patient), sampling))


async def _ask_for_completion(model: ModelConfig, sampling: Sampling) -> Check:
    name, url = "endpoint", model.endpoint.base_url
    request = Request("doctor", [Message(role="user", content=QUESTION)], sampling, seed=1)
    try:
        engine = make_engine(model)
        try:
            await engine.start()
            (completion,) = await engine.generate(request)
        finally:
            await engine.close()
    except ConfigError as error:
        return Check(name, "missing", str(error))
    except RequestError as error:
        return _describe_failure(model, error)
    except SynthgenError as error:
        why = str(error).partition("; what was committed")[0]
        return Check(name, "missing", f"{url} does not answer: {why}", "start the server, check endpoint.base_url")
    if completion.fault is not None:
        why = f"it thought for {completion.output_tokens} tokens"
        return _describe_failure(model, RequestError(completion.fault, why))
    key = model.endpoint.api_key_env
    lessons: Sequence[str] = getattr(engine, "lessons", ())
    learnt = "".join(f"; {lesson.removeprefix(url + ': ')}" for lesson in lessons)
    keyless = "" if os.environ.get(key) else f" (without a key: {key} is unset)"
    return Check(name, "ok", f"{url} serves {model.id}: {completion.output_tokens} tokens written{keyless}{learnt}")


def _describe_failure(model: ModelConfig, error: RequestError) -> Check:
    """Return what it means that the run's own parameters gave no completion."""
    name, url = "endpoint", model.endpoint.base_url
    if error.reason in ("no_answer", "thought_cut_off"):
        return Check(
            name, "warning", f"{url} serves {model.id}, which thought and did not answer: {error}", "raise max_tokens"
        )
    if error.reason == "rate_limited":
        return Check(name, "warning", f"{url} limits the rate: {error}", "the run waits as long as the server asks")
    mend = "change what it refuses, or name it in endpoint.leave_out" if error.reason == "refused" else "ask its owner"
    return Check(name, "missing", f"{url} answers a request of the run with {error.reason}: {error}", mend)


def _endpoints_used(config: Config) -> list[tuple[ModelConfig, Sampling]]:
    """Return each endpoint's model once, with the sampling of the first stage that asks it."""
    used = [(generator.model, to_sampling(generator.sampling)) for generator in config.generators.values()]
    if config.task.model.name:
        used.append((config.task.model, to_sampling(config.task.sampling)))
    judge = config.judge
    if judge.enabled:
        used.append((judge.model, Sampling(temperature=judge.temperature, max_tokens=judge.max_tokens or JUDGE_TOKENS)))
    scorers = [model for _, model in list_scorer_models(config.scorers).values()]
    used += [(model, Sampling(temperature=0.0, max_tokens=64)) for model in scorers]
    wanted = {(model.endpoint.base_url, model.id) for model in models_used(config)}
    found: dict[tuple[str, str], tuple[ModelConfig, Sampling]] = {}
    for model, sampling in used:
        key = (model.endpoint.base_url, model.id)
        if model.served_by.is_service and key in wanted:
            found.setdefault(key, (model, sampling))
    return list(found.values())
