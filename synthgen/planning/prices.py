"""Dollars for tokens at an endpoint, by the prices that the configuration gives. No price list is shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthgen.config import EndpointConfig, ModelConfig

if TYPE_CHECKING:
    from synthgen.records import Bill


def price_usd(model: ModelConfig, bill: Bill) -> float | None:
    """Return what `bill` costs, dollars, cached input at its own price; None: no endpoint, or no prices."""
    endpoint = model.endpoint
    if not model.served_by.is_service or not has_prices(endpoint):
        return None
    price_in, price_out = endpoint.usd_per_million_input_tokens or 0.0, endpoint.usd_per_million_output_tokens or 0.0
    cached = endpoint.usd_per_million_cached_tokens
    price_cached = price_in if cached is None else cached
    fresh = bill.input_tokens - bill.cached_tokens
    return (fresh * price_in + bill.cached_tokens * price_cached + bill.output_tokens * price_out) / 1e6


def has_prices(endpoint: EndpointConfig) -> bool:
    """Return whether the prices of input and output are known."""
    return endpoint.usd_per_million_input_tokens is not None and endpoint.usd_per_million_output_tokens is not None
