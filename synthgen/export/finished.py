"""Finished runs as `publish`, `report` and training find them: by the manifest of the data set that is there."""

from __future__ import annotations

from typing import Any

from synthgen.errors import ConfigError
from synthgen.export.files import ROOT
from synthgen.export.manifest import MANIFEST_NAME, MEND, Manifest, read_manifest
from synthgen.ledger.run_dir import RunDir


def open_dataset(url: str | None, command: str) -> tuple[RunDir, Manifest]:
    """Return a run's directory and the manifest of its data set.

    Raises:
        ConfigError: no directory was given, there is no run in it, or it holds no whole data set.
    """
    run_dir = _open(url, command)
    manifest = read_manifest(run_dir.storage)
    if manifest is None:
        if _read_report(run_dir) is None:
            raise _no_report(run_dir)
        raise ConfigError(
            f"{run_dir.url}/{ROOT} has no {MANIFEST_NAME}: its export was cut, or is of an older version; {MEND}"
        )
    return run_dir, manifest


def open_report(url: str | None, command: str) -> tuple[RunDir, dict[str, Any], str | None]:
    """Return a run's directory, the report of its last export, and when that was (None: an older version does not say).

    Raises:
        ConfigError: no directory was given, there is no run in it, or it was never complete.
    """
    run_dir = _open(url, command)
    manifest = _read_manifest(run_dir)
    if manifest is not None:
        return run_dir, manifest.report, manifest.exported_at
    report = _read_report(run_dir)
    if report is None:
        raise _no_report(run_dir)
    return run_dir, report, None


def read_last_report(run_dir: RunDir) -> dict[str, Any] | None:
    """Return the report of the last export, None where there was none or where it cannot be read."""
    manifest = _read_manifest(run_dir)
    return manifest.report if manifest else _read_report(run_dir)


def _open(url: str | None, command: str) -> RunDir:
    if not url:
        raise ConfigError(f"{command} needs the run's directory: synthgen {command} run_dir=…")
    return RunDir(url, reads_only=True)


def _read_manifest(run_dir: RunDir) -> Manifest | None:
    try:
        return read_manifest(run_dir.storage)
    except ConfigError:  # damaged: report.json says the same
        return None


def _read_report(run_dir: RunDir) -> dict[str, Any] | None:
    report = run_dir.read_json("report.json", "complete")
    return report if report and report["complete"] else None


def _no_report(run_dir: RunDir) -> ConfigError:
    found = run_dir.read_json("status.json", "state")
    why = f"its state is {found['state']!r}" if found else "there is no run in it"
    return ConfigError(
        f"run_dir={run_dir.url} holds no report.json ({why}); finish it with synthgen run run.dir={run_dir.url} …"
    )
