"""Whether the Hub can be reached from here, before its client tries for half a minute."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlparse

from synthgen.errors import ConfigError

GIVE_NUMBERS = "give its config.json's numbers as model.architecture, or take a directory that holds the checkpoint"


def check_reachable(endpoint: str, model_id: str) -> None:
    """Fail at once on a machine without a network: the Hub's client would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    host = urlparse(endpoint).hostname or endpoint
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ConfigError(f"model.id={model_id}: {host} cannot be reached from here; {GIVE_NUMBERS}") from error
