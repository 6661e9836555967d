"""Dollars: of GPU-hours, by the user's price or else the range of the GPU's data sheet; of an endpoint's tokens, by the
prices that the configuration gives. No list of endpoints' prices is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthgen.config import ClusterConfig, EndpointConfig, ModelConfig
from synthgen.errors import ConfigError

if TYPE_CHECKING:
    from synthgen.records import Bill


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """What a GPU-hour costs, dollars. `source` says whose figure it is, as a phrase for people."""

    low: float
    high: float
    source: str

    @property
    def middle(self) -> float:
        """Between both ends."""
        return (self.low + self.high) / 2


def find_gpu_price(cluster: ClusterConfig) -> GpuPrice | None:
    """Return the price of a GPU-hour: the configuration's, else the data sheet's; None: neither is known.

    Raises:
        ConfigError: a data sheet's range has not two ends in order.
    """
    if cluster.gpu_hour_usd:
        return GpuPrice(cluster.gpu_hour_usd, cluster.gpu_hour_usd, "cluster.gpu_hour_usd")
    ends = list(cluster.gpu.hour_usd)
    if not ends:
        return None
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
        raise ConfigError(f"cluster.gpu.hour_usd={ends} must be the least and the most of a GPU-hour; try [2.0,3.0]")
    return GpuPrice(
        ends[0], ends[1], f"{cluster.gpu.hour_usd_source or 'cluster.gpu.hour_usd'}; yours: cluster.gpu_hour_usd"
    )


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
