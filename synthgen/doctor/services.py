"""What is asked over the network: the Hub's login and the endpoints of models. No key or token is ever shown."""

from __future__ import annotations

import os
from collections.abc import Iterator

from synthgen.config import Config, EndpointConfig, EngineKind, ModelConfig
from synthgen.doctor.check import Check, models_used

TIMEOUT_S = 10.0


def check_services(config: Config) -> Iterator[Check]:
    """Yield the checks of the Hub and of every endpoint that the configuration names."""
    models = models_used(config)
    gated = [model.id for model in models if model.gated and model.engine is EngineKind.vllm]
    yield check_hub(gated, publishes=bool(config.publish.repo_id))
    endpoints = {model.endpoint.base_url: model for model in models if model.engine is EngineKind.openai}
    for model in endpoints.values():
        yield check_endpoint(model, model.endpoint)


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


def check_endpoint(model: ModelConfig, endpoint: EndpointConfig) -> Check:
    """Check that an OpenAI-compatible endpoint answers and serves the model."""
    import httpx

    name, url = "endpoint", endpoint.base_url.rstrip("/")
    key = os.environ.get(endpoint.api_key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if not url:
        return Check(
            name, "missing", f"{model.name} has no address", "set endpoint.base_url, such as http://host:8000/v1"
        )
    try:
        answer = httpx.get(f"{url}/models", headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Check(
            name, "missing", f"{url} does not answer ({type(error).__name__})", "start the server, check the URL"
        )
    if answer.status_code in (401, 403):
        mend = f"set {endpoint.api_key_env}" if not key else f"check the key in {endpoint.api_key_env}"
        return Check(name, "missing", f"{url} answers {answer.status_code}", mend)
    if answer.status_code != 200:
        mend = "check endpoint.base_url: it mostly ends in /v1"
        return Check(name, "warning", f"{url}/models answers {answer.status_code}", mend)
    try:
        served = [str(one["id"]) for one in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return Check(name, "warning", f"{url}/models gives no list of models", "check endpoint.base_url")
    if model.id not in served:
        mend = f"set the model's id to one of: {', '.join(served[:5])}"
        return Check(name, "missing", f"{url} answers, but does not serve {model.id}", mend)
    return Check(
        name, "ok", f"{url} serves {model.id}" + ("" if key else f" (without a key: {endpoint.api_key_env} is unset)")
    )
