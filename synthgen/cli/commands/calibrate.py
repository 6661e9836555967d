"""`synthgen calibrate`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.config.compose import compose_config


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Measure some units of the configured flow, for `plan` to use, and print the figures."""
    config = compose_config(overrides, config_dir)
    from synthgen.runtime.calibrate import calibrate, format_calibration
    from synthgen.runtime.prepare import prepare_models

    print(format_calibration(calibrate(prepare_models(config)), config.run.dir))
    return 0
