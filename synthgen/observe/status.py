"""`status`: how far a run is, from any machine that sees its directory. Reads files only; needs no Ray.

In: the run directory. Out: one mapping of plain values (`read_status`), or what is printed of it (`render_status`).
The committed units are counted anew; rates, replicas and the ETA are what the driver wrote last (`status.json`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from synthgen.config import RunConfig
from synthgen.errors import ConfigError
from synthgen.export.finished import read_last_report
from synthgen.ledger.lease import read_holder
from synthgen.ledger.manifest import read_manifest
from synthgen.ledger.run_dir import UNIT_NAME, RunDir
from synthgen.ledger.sessions import read_sessions
from synthgen.observe.progress import format_duration
from synthgen.observe.report import printable

MAX_FAILURE_FILES = 2000
"""Files of quarantined rows that are read; a run with more has one cause for all of them."""

NO_STATUS = "status.json is absent or damaged, so how the last start ended is not known; start the same command again"

BUSY = ("starting", "ingesting", "training", "running", "exporting")


def read_status(run_dir: RunDir) -> dict[str, Any]:
    """Return the state of a run.

    `state` is that of `status.json` (starting, ingesting, training, running, exporting, complete, stopped, failed), or
    `dead` where it says that a driver is at work and none is.
    `stages.<name>.committed` counts unit files; its other numbers
    are of the driver's session, or of all sessions once the run is complete. `failures` are quarantined requests of all
    sessions by stage and reason.

    Raises:
        ConfigError: there is no run in this directory.
    """
    written = run_dir.read_json("status.json", "state")
    manifest = read_manifest(run_dir)
    report = read_last_report(run_dir) or {}
    committed = _count_units(run_dir)
    if written is None and manifest is None and not committed:
        raise ConfigError(f"run_dir={run_dir.url} holds no run; give the run.dir of one")
    unit_rows = manifest.unit_rows if manifest else ()
    written = written or {"state": "stopped", "message": NO_STATUS}
    state = str(written["state"])
    message = str(written.get("message") or "")
    writer = read_holder(run_dir.storage, _lease_s(run_dir))
    if state in BUSY and (writer is None or writer.dead):
        who = f"pid {writer.pid} on {writer.host}" if writer else "nobody"
        since = f", silent for {format_duration(writer.silent_s)}" if writer else ""
        message = f"its driver is gone while {state} ({who}{since}); start the same command again to go on"
        state = "dead"
    live = state in BUSY
    # The report of a complete run counts all sessions, status.json the last one only.
    sources = (report, written) if state == "complete" else (written, report)
    stages = _stages(next((source["stages"] for source in sources if source.get("stages")), {}), committed, live=live)
    counted = {stage["directory"] for stage in stages.values()}
    return {
        "run_dir": run_dir.url,
        "state": state,
        "message": message,
        "updated_at": written.get("updated_at"),
        "updated_s_ago": _seconds_since(written.get("updated_at")),
        "elapsed_s": written.get("elapsed_s"),
        "eta_s": written.get("eta_s") if state == "running" else None,
        "gpu_hours": _gpu_hours(run_dir, written, report, live=live),
        "prompts": sum(unit_rows),
        "units": len(unit_rows),
        "stages": stages,
        "other_results": {name: units for name, units in committed.items() if name not in counted},
        "failures": _read_failures(run_dir),
        "replicas": (written.get("replicas") or []) if live else [],
        "writer": {
            "host": writer.host,
            "pid": writer.pid,
            "silent_s": round(writer.silent_s, 1),
            "alive": not writer.dead,
        }
        if writer
        else None,
    }


def describe_later_start(status: Mapping[str, Any], exported_at: str | None) -> str | None:
    """Return a sentence for a report that is older than the last start of its run, None where it is of that start."""
    state = status["state"]
    if state == "complete":
        return None
    export = f"the export of {exported_at}" if exported_at else "an earlier export"
    done = ", ".join(f"{name} {s['committed']:,}/{s['units']:,} units" for name, s in status["stages"].items())
    progress = f" ({done})" if done else ""
    if state in BUSY:
        return f"a run is at work here, {state}{progress}: this report is of {export}; look again when it has ended"
    return f"the last start did not come through, it is {state}{progress}: this report is of {export}"


def render_status(status: Mapping[str, Any]) -> Any:
    """Return what the terminal shows of `read_status`, for a rich console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row("run", Text(status["run_dir"], overflow="fold"))
    head.add_row("state", _state_text(status))
    if status["message"]:
        head.add_row("", Text(printable(status["message"])))
    if status["prompts"]:
        head.add_row("prompts", f"{status['prompts']:,} in {status['units']:,} units")
    if status["writer"] and status["writer"]["alive"]:
        head.add_row("driver", f"pid {status['writer']['pid']} on {status['writer']['host']}")
    for directory, units in status["other_results"].items():
        head.add_row("also there", Text(f"{directory}: {units:,} units of another configuration"))
    tables = [_stage_table(status), _failure_table(status), _replica_table(status)]
    return Group(head, *(part for table in tables if table is not None for part in (Text(), table)))


def _count_units(run_dir: RunDir) -> Counter[str]:
    """Return the committed units by directory, such as `stages/judge-0123456789ab`."""
    found: Counter[str] = Counter()
    for path in run_dir.storage.list("stages"):
        directory, _, name = path.rpartition("/")
        if UNIT_NAME.fullmatch(name):
            found[directory] += 1
    return found


def _gpu_hours(run_dir: RunDir, written: Mapping[str, Any], report: Mapping[str, Any], *, live: bool) -> float | None:
    """Return the GPU-hours of all sessions; those of the living one are newest in `status.json`."""
    hours = [float(session.get("gpu_hours") or 0) for session in read_sessions(run_dir, report)]
    if live and hours and "gpu_hours" in written:
        hours[-1] = max(hours[-1], float(written["gpu_hours"]))
    return round(sum(hours), 4) if hours else written.get("gpu_hours", report.get("gpu_hours"))


def _lease_s(run_dir: RunDir) -> float:
    """Return the `run.lease_s` of a run whose lease does not say it: one of version 0.1.0 as it was first written."""
    import yaml

    try:
        return float(yaml.safe_load(run_dir.read_or(b"", "config.yaml"))["run"]["lease_s"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return RunConfig.lease_s


def _stages(
    written: Mapping[str, Mapping[str, Any]], committed: Mapping[str, int], *, live: bool
) -> dict[str, dict[str, Any]]:
    stages = {}
    for name, numbers in written.items():
        directory = str(numbers.get("directory") or "")
        busy_s = numbers.get("busy_s")
        rate = numbers.get("output_tokens", 0) / busy_s if busy_s else numbers.get("tokens_per_s", 0.0) if live else 0.0
        stages[name] = {
            "directory": directory,
            "units": numbers.get("units", 0),
            "committed": committed.get(directory, 0),
            "rows": numbers.get("rows", 0),
            "failed_rows": numbers.get("failed_rows", 0),
            "failures": numbers.get("failures") or {},
            "input_tokens": numbers.get("input_tokens", 0),
            "output_tokens": numbers.get("output_tokens", 0),
            "tokens_per_s": round(rate, 1),
            "units_per_s": numbers.get("units_per_s", 0.0) if live else 0.0,
        }
    return stages


def _read_failures(run_dir: RunDir) -> list[dict[str, Any]]:
    """Return what was quarantined, the most frequent first: stage, reason, requests and the first one's message."""
    counts: Counter[tuple[str, str]] = Counter()
    messages: dict[tuple[str, str], str] = {}
    for path in run_dir.storage.list("failures")[:MAX_FAILURE_FILES]:
        if not path.endswith(".jsonl"):
            continue
        for line in run_dir.storage.read(path).splitlines():
            try:
                row = json.loads(line)
                reason = str(row["reason"])
            except (ValueError, KeyError, TypeError):
                row, reason = {}, "unreadable_line"  # of a file that is damaged
            key = (path.split("/")[1], reason)
            counts[key] += 1
            messages.setdefault(key, str(row.get("message") or ""))
    return [
        {"stage": stage, "reason": reason, "requests": count, "message": messages[stage, reason]}
        for (stage, reason), count in counts.most_common()
    ]


def _seconds_since(moment: str | None) -> float | None:
    if not moment:
        return None
    return round(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()), 1)


def _state_text(status: Mapping[str, Any]) -> Any:
    from rich.text import Text

    colours = {"complete": "green", "failed": "red", "dead": "red", "stopped": "yellow"}
    parts = []
    if status["elapsed_s"] is not None:
        parts.append(f"{format_duration(status['elapsed_s'])} elapsed")
    if status["eta_s"] is not None:
        parts.append(f"ETA {format_duration(status['eta_s'])}")
    if status["gpu_hours"]:
        parts.append(f"{status['gpu_hours']:.2f} GPU hours")
    if status["updated_s_ago"] is not None:
        parts.append(f"updated {format_duration(status['updated_s_ago'])} ago")
    text = Text(status["state"], style=f"bold {colours.get(status['state'], '')}")
    return text.append("".join(f" · {part}" for part in parts), style="not bold default")


def _stage_table(status: Mapping[str, Any]) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if not status["stages"]:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("stage", overflow="fold")
    table.add_column("", width=12)
    for name in ("units", "rows", "failed", "tokens/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, stage in status["stages"].items():
        table.add_row(
            Text(name),
            ProgressBar(total=max(1, stage["units"]), completed=stage["committed"], width=12),
            f"{stage['committed']:,}/{stage['units']:,}",
            f"{stage['rows']:,}",
            f"{stage['failed_rows']:,}",
            f"{stage['tokens_per_s']:,.0f}" if stage["tokens_per_s"] else "–",
        )
    return table


def _failure_table(status: Mapping[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    in_files = {(failure["stage"], failure["reason"]) for failure in status["failures"]}
    rows = [(f["stage"], f["reason"], f"{f['requests']:,} requests", f["message"]) for f in status["failures"]]
    for name, stage in status["stages"].items():
        for reason, count in sorted(stage["failures"].items()):
            if (name, reason) not in in_files:
                rows.append((name, reason, f"{count:,} rows", ""))
    if not rows:
        return None
    table = Table(title="failures", title_justify="left", title_style="bold", show_header=False, box=None)
    for row in rows:
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row[:3]), Text(printable(row[3])[:160]))
    return table


def _replica_table(status: Mapping[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    if not status["replicas"]:
        return None
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("replica", overflow="fold")
    table.add_column("state")
    for name in ("open units", "completions", "output tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for replica in status["replicas"]:
        table.add_row(
            Text(replica["name"]),
            replica["state"],
            f"{replica['open_units']:,}",
            f"{replica['completions']:,}",
            f"{replica['output_tokens']:,}",
        )
    return table
