"""A proof on the terminal: its figures in a table, and the verdict in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthgen.publish.card_proofs import describe_proof, list_figures


def render_proof(proof: Mapping[str, Any], url: str) -> Any:
    """Return what a rich console shows; `url`: of the run directory."""
    from rich.console import Group
    from rich.text import Text

    controlled = proof["settings"]["control"] != "none"
    parts: list[Any] = [Text(describe_proof(proof)), Text()]
    parts += [_table("held-out prompts", proof["figures"], controlled=controlled)]
    if proof.get("side"):
        parts += [Text(), _table("prompts of another kind", proof["side"], controlled=controlled)]
    parts += [Text(), *(Text(line, style=style) for line, style in list_verdicts(proof))]
    return Group(*parts, Text(), Text(f"{url}/{proof['directory']}/proof.html", overflow="fold"))


def list_verdicts(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of the verdict, each with its style."""
    verdict, control = proof["verdict"], proof.get("control_verdict")
    decides = proof["settings"]["decides"]
    lines = [(f"the pairs: {verdict['text']}, by {decides}: {'; '.join(verdict['reasons'])}", _style(verdict["helps"]))]
    if control:
        lines.append((f"the same pairs with random sides: {control['text']}: {'; '.join(control['reasons'])}", ""))
    if proof.get("got_worse"):
        lines.append((f"got worse: {', '.join(proof['got_worse'])}", "yellow"))
    return lines


def _style(helps: bool) -> str:
    return "bold green" if helps else "bold yellow"


def _table(title: str, measured: Mapping[str, Any], *, controlled: bool) -> Any:
    from rich.table import Table

    columns, rows = list_figures(measured, controlled=controlled)
    table = Table(title=f"{title} ({measured['prompts']})", title_justify="left", box=None, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table
