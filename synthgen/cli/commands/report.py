"""`synthgen report`."""

from __future__ import annotations

from collections.abc import Sequence

from synthgen.cli.overrides import take_run_dir
from synthgen.errors import ConfigError


def main(overrides: Sequence[str], config_dir: str | None) -> int:
    """Print the trust report of a finished run, and write its `report.html` anew."""
    from synthgen.export.finished import open_report
    from synthgen.export.manifest import read_manifest
    from synthgen.export.proofs import read_proofs
    from synthgen.observe.status import describe_later_start, read_status
    from synthgen.observe.view import write_page
    from synthgen.trust import format_trust

    path, rest = take_run_dir(overrides)
    if rest:
        raise ConfigError(f"report takes run_dir=… alone, but got {rest[0]!r}")
    run_dir, report, exported_at = open_report(path, "report")
    write_page(run_dir, report)
    if "trust" in report:
        print(format_trust(report["trust"]))
    manifest = read_manifest(run_dir.storage)
    for proof in [] if manifest is None else read_proofs(run_dir.storage, manifest):
        print(f"proof: {proof['verdict']['text']} ({run_dir.url}/{proof['directory']}/proof.html)")
    if (note := describe_later_start(read_status(run_dir), exported_at)) is not None:
        print(note)
    print(f"{run_dir.url}/report.html")
    return 0
