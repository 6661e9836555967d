"""All checks of a configuration on this machine, in the order in which a run meets them."""

from __future__ import annotations

from collections.abc import Iterator

from synthgen.config import Config
from synthgen.doctor.check import Check
from synthgen.doctor.hardware import check_hardware
from synthgen.doctor.places import check_places
from synthgen.doctor.ray_cluster import check_ray
from synthgen.doctor.services import check_services
from synthgen.doctor.software import check_software


def examine(config: Config) -> Iterator[Check]:
    """Yield the checks one by one (those that ask other machines take a few seconds). Changes nothing anywhere."""
    yield from check_software(config)
    yield from check_hardware(config)
    yield from check_places(config)
    yield from check_services(config)
    yield from check_ray(config)
