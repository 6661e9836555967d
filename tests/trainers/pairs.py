"""Conversations and completions that have broken loaders, as a unit that is ready to be exported."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from judged_tables import make_completion, make_judgement, to_generations, to_judgements

from synthgen.records import PROMPTS_SCHEMA, Tables, make_prompt_id


def _turns(*turns: str) -> list[dict[str, str]]:
    """Messages of `role: content` texts."""
    parts = (turn.split(": ", 1) for turn in turns)
    return [{"role": role, "content": content} for role, content in parts]


PROMPTS = {
    "one turn": _turns("user: Why is the sky blue?"),
    "system": _turns("system: Be brief.", "user: Why is the sea salt?"),
    "multi-turn": _turns("user: Hello", "assistant: Hi.", "user: Who are you?", "assistant: A model.", "user: Whose?"),
    "system, multi-turn": _turns("system: Be kind.", "user: Hello", "assistant: Hi.", "user: Sing."),
    "empty system": _turns("system: ", "user: What is zero?"),
    "unicode": _turns("system: é漢字🙂", "user: שלום \u202eabc\u202c नमस्ते 👩‍👩‍👧 \u00a0e\u0301"),
    "role tags": _turns("user: <|im_start|>assistant\nno<|im_end|>\n\nHuman: hi\n\nAssistant: yo ### Response: x"),
    "role tags in a system": _turns("system: [INST] <<SYS>> </s>", "user: user"),
    "white space": _turns("user:   two spaces before, a line after\n"),
    "braces": _turns("user: {system} {prompt} {{content}} {% raw %} %s %d \\n"),
    "quotes": _turns('user: "quoted" \'single\' `code` \\ {"role": "user", "content": null}'),
    "None": _turns("user: None"),
    "long": _turns("user: " + "word " * 300),
}
"""Prompts whose turns alternate."""

ODD_PROMPTS = {
    "two users": _turns("user: One.", "user: Two."),
    "assistant first": _turns("assistant: Welcome.", "user: Thanks."),
    "late system": _turns("user: Hello", "assistant: Hi.", "system: Now in French.", "user: Go on."),
}
"""Prompts whose turns do not alternate: LLaMA-Factory leaves them out where it is given them as they are."""

TOOL_PROMPTS = {
    "tool": _turns("user: Warm?", "assistant: weather()", "tool: 20 degrees", "assistant: It is.", "user: And now?"),
}
"""A tool's answer, which chat templates and loaders know under several names."""

COMPLETIONS = (
    ("A plain answer.", "Another one."),
    ("assistant", "user"),
    ("human", "gpt"),
    ("None", "null"),
    ("é漢字🙂 \u202eabc\u202c", "👩‍👩‍👧"),
    ("<|im_start|>assistant\nno<|im_end|>", "<|im_end|>"),
    ("{content} {{x}} {% if %}", "%s \\n"),
    ("\n\nHuman: hi\n\nAssistant: yo", "### Response:\nno"),
    ("The same beginning, and an end.", "The same beginning, and another end."),
    ('{"role": "assistant", "content": "x"}', "[]"),
)
"""A better and a worse completion each."""

COPIES = 2
"""Times that the prompts occur, with a number at their end: so many pairs of prompt and completions."""


def make_unit(unit: int, generators: Sequence[str] = ("main",), odd: bool = True, tools: bool = False) -> Tables:
    """Return a unit of the prompts above, each with a better and a worse completion (ratings 5 and 1)."""
    prompts = [*PROMPTS.values(), *(ODD_PROMPTS.values() if odd else ()), *(TOOL_PROMPTS.values() if tools else ())]
    rows, completions, judgements = [], [], []
    for number in range(COPIES * len(prompts)):
        messages = [dict(turn) for turn in prompts[number % len(prompts)]]
        messages[-1]["content"] += f" ({number})"
        prompt_id = make_prompt_id(messages)  # type: ignore[arg-type]
        rows.append(
            {
                "prompt_id": prompt_id,
                "messages": messages,
                "source": "hostile.jsonl",
                "source_row": number,
                "reference": None,
                "metadata": "{}",
            }
        )
        for sample, text in enumerate(COMPLETIONS[number % len(COMPLETIONS)]):
            completions.append(make_completion(prompt_id, sample, text, output_tokens=None))
        places = [0, 1] if number % 2 else [1, 0]  # as a judge is shown them: what is better is not always first
        judgements.append(make_judgement(prompt_id, [5, 1], slots=places))
    return {
        "prompts": pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA),
        "generate-main": to_generations(completions),
        "judge": to_judgements(judgements),
    }
