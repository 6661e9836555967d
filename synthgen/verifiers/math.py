"""The last answer of a completion against the reference's, as mathematics: 1/2, 0.5 and \\frac{1}{2} are the same.

    value = 1 if math_verify.verify(parse(reference), parse(completion)) else 0

By the package math-verify (Hugging Face, https://github.com/huggingface/Math-Verify), which reads LaTeX and plain
expressions, takes \\boxed{} and "the answer is" before others, and compares with SymPy. GSM8K's form (arXiv 2110.14168)
is read on both sides: what follows the last `####`. Without a reference there is no verdict.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from synthgen.verifiers.cases import NO_REFERENCE, Case, Verdict, Verify, decide

_GSM8K = re.compile(r"####[ \t]*([^\n]+)")
_IN_LATEX = re.compile(r"\\boxed|\\fbox|\\\(|\\\[|\$[^$]+\$")


def make(settings: Mapping[str, Any]) -> Verify:
    """Return the verifier; it has no settings of its own."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time-outs are off: ours are on

    def read(text: str) -> list[Any]:
        found: list[Any] = parse(text, parsing_timeout=None)
        return found

    def read_answer(text: str) -> list[Any]:
        marked = _GSM8K.findall(text)
        if marked:
            return read_plain(marked[-1])
        return read(text)

    def read_plain(text: str) -> list[Any]:
        """Read what is an answer and nothing else: LaTeX without its dollars too."""
        text = text.strip().rstrip(".")
        if _IN_LATEX.search(text):
            return read(text)
        return read(f"${text.replace('$', '').strip()}$") or read(text)

    @lru_cache(maxsize=256)  # a prompt's completions are checked one after the other
    def read_reference(reference: str) -> list[Any]:
        marked = _GSM8K.findall(reference)
        solved = "\n" in reference.strip() or _IN_LATEX.search(reference)
        return read_plain(marked[-1]) if marked else read(reference) if solved else read_plain(reference)

    def check(case: Case) -> Verdict:
        if case.reference is None or not case.reference.strip():
            return Verdict(None, NO_REFERENCE)
        gold = read_reference(case.reference)
        if not gold:
            return Verdict(None, "unreadable_reference", f"no answer in {case.reference[-80:]!r}")
        answer = read_answer(case.completion)
        if not answer:
            return decide(False, f"no answer found; the reference's is {gold[-1]}")
        return decide(bool(verify(gold, answer, timeout_seconds=None)), f"{answer[-1]} for {gold[-1]}")

    return check
