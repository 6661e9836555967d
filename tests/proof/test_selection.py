"""What is held out and what is trained on, on tables."""

from __future__ import annotations

import pyarrow as pa
import pytest

from synthgen.config import ProveTrain
from synthgen.export import is_test
from synthgen.proof.selection import add_prompt_ids, hold_out, select_rows, shuffle_sides
from synthgen.records import PROMPTS_SCHEMA, make_prompt_id

PROMPTS = 60


def talk(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def ids() -> list[str]:
    return [make_prompt_id(talk(f"question {number}")) for number in range(PROMPTS)]  # type: ignore[arg-type]


def make_prompts() -> pa.Table:
    rows = [
        {"prompt_id": one, "messages": talk(f"question {n}"), "source": "s", "source_row": n, "metadata": "{}"}
        for n, one in enumerate(ids())
    ]
    return pa.Table.from_pylist(rows, schema=PROMPTS_SCHEMA)


def make_pairs(per_prompt: int = 2) -> pa.Table:
    rows = [
        {
            "prompt_id": one,
            "prompt": talk(f"question {n}"),
            "chosen": talk(f"good {n} {pair}", "assistant"),
            "rejected": talk(f"bad {n} {pair}", "assistant"),
            "pair_index": pair,
        }
        for n, one in enumerate(ids())
        for pair in range(per_prompt)
    ]
    return pa.Table.from_pylist(rows)


def make_labels() -> pa.Table:
    rows = [
        {
            "prompt_id": one,
            "prompt": talk(f"question {n}"),
            "completion": talk(f"text {n}", "assistant"),
            "label": n % 3 == 0,
        }
        for n, one in enumerate(ids())
    ]
    return pa.Table.from_pylist(rows)


def test_no_prompt_is_both_held_out_and_trained_on() -> None:
    held = hold_out([make_prompts().slice(0, 25), make_prompts().slice(25)], 0.3, 100, 0)
    rows = select_rows(make_pairs(), 0.3, ProveTrain.dpo, 10, 0)
    held_ids, trained = set(held["prompt_id"].to_pylist()), set(rows["prompt_id"].to_pylist())
    assert held_ids.isdisjoint(trained)
    assert len(held_ids) + len(trained) == PROMPTS
    assert is_test(held["prompt_id"], 0.3).to_pylist() == [True] * len(held)
    assert rows.column_names == ["prompt_id", "prompt", "chosen", "rejected"]


def test_the_choice_is_the_same_whatever_the_units_and_another_by_another_seed() -> None:
    whole = hold_out([make_prompts()], 0.5, 8, 0)
    units = hold_out([make_prompts().slice(low, 7) for low in range(0, PROMPTS, 7)], 0.5, 8, 0)
    assert whole["prompt_id"].to_pylist() == units["prompt_id"].to_pylist()
    assert len(whole) == 8
    assert hold_out([make_prompts()], 0.5, 8, 1)["prompt_id"].to_pylist() != whole["prompt_id"].to_pylist()


def test_sft_trains_on_the_best_of_each_prompt_alone() -> None:
    rows = select_rows(make_pairs(3), 0.2, ProveTrain.sft, 10, 0)
    assert len(set(rows["prompt_id"].to_pylist())) == rows.num_rows


def test_ids_are_found_where_the_data_set_has_none() -> None:
    rows = make_pairs(1).drop_columns(["prompt_id"])
    assert add_prompt_ids(rows)["prompt_id"].to_pylist() == ids()


def test_the_control_turns_half_of_the_pairs_round_and_changes_nothing_else() -> None:
    rows = select_rows(make_pairs(), 0.2, ProveTrain.dpo, 10, 0)
    turned = shuffle_sides(rows, ProveTrain.dpo, 0)
    assert turned.schema.equals(rows.schema)
    assert turned["prompt"].equals(rows["prompt"])
    flips = 0
    for before, after in zip(rows.to_pylist(), turned.to_pylist(), strict=True):
        sides = (before["chosen"], before["rejected"])
        assert (after["chosen"], after["rejected"]) in (sides, sides[::-1])
        flips += after["chosen"] == before["rejected"]
    assert flips == rows.num_rows // 2
    assert shuffle_sides(rows, ProveTrain.dpo, 0).equals(turned)
    assert not shuffle_sides(rows, ProveTrain.dpo, 1).equals(turned)


def test_the_control_of_kto_deals_the_labels_anew() -> None:
    rows = select_rows(make_labels(), 0.2, ProveTrain.kto, 10, 0)
    dealt = shuffle_sides(rows, ProveTrain.kto, 0)
    assert sorted(dealt["label"].to_pylist()) == sorted(rows["label"].to_pylist())
    assert dealt["label"].to_pylist() != rows["label"].to_pylist()
    assert dealt["completion"].equals(rows["completion"])


def test_what_no_step_would_see_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.proof.selection.LEAST_ROWS", 4)
    monkeypatch.setattr("synthgen.proof.selection.ROWS_PER_STEP", 5)
    assert select_rows(make_pairs(), 0.2, ProveTrain.dpo, 2, 0).num_rows == 10
