"""Which judge requests a unit needs: one per (prompt, aspect, repetition, group), and the planted ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from synthgen.config import JudgeConfig, JudgeLayout, JudgeMode
from synthgen.judge.aspects import Aspect
from synthgen.judge.canary import Canary, canary_share, has_canary, plant_canary
from synthgen.judge.order import draw_groups, draw_order
from synthgen.records import stable_hash


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One judge request: what is shown, and in which order.

    Attributes:
        prompt_id: of the conversation that was answered.
        row: number of the prompt in the unit.
        aspect: what is rated.
        repetition: 0 … judge.orders - 1.
        group: number among the requests of one (prompt, aspect, repetition).
        completion_ids: what is rated, in canonical order. Empty: no completion can be shown, and there is no request.
        texts: their texts, aligned.
        order: order[slot] is the number (in completion_ids) of the text shown at place `slot`.
        canary: the planted text, which is the last of completion_ids; None in a real judgement.
        original_id: completion_id of what a planted text is compared with.
        cut: whether a token limit cut a text off, aligned with `texts`; empty: none was.
        part: first and last place (exclusive) of the task that this one is a part of; empty: it is whole.
    """

    prompt_id: str
    row: int
    aspect: Aspect
    repetition: int
    group: int
    completion_ids: tuple[str, ...]
    texts: tuple[str, ...]
    order: tuple[int, ...]
    canary: Canary | None = None
    original_id: str = ""
    cut: tuple[bool, ...] = ()
    part: tuple[int, int] | tuple[()] = ()

    @property
    def request_id(self) -> str:
        """Unique in the unit and the same on every run."""
        whole = f"{self.prompt_id}/{self.aspect.name}/{self.repetition}/{self.group}"
        return f"{whole}/{self.part[0]}-{self.part[1]}" if self.part else whole


def take_part(task: JudgeTask, low: int, high: int) -> JudgeTask:
    """Return the task that shows what `task` shows in the places from `low` to below `high`, in the same order."""
    shown = task.order[low:high]
    members = sorted(shown)
    place = {number: i for i, number in enumerate(members)}
    return replace(
        task,
        completion_ids=tuple(task.completion_ids[number] for number in members),
        texts=tuple(task.texts[number] for number in members),
        cut=tuple(task.cut[number] for number in members) if task.cut else (),
        order=tuple(place[number] for number in shown),
        part=(low, high),
    )


def plan_tasks(
    prompt_ids: Sequence[str],
    completions: Mapping[str, Mapping[str, str]],
    aspects: Sequence[Aspect],
    config: JudgeConfig,
    run_seed: int,
    source_rows: Sequence[int] = (),
    cut: Collection[tuple[str, str]] = (),
) -> Iterator[JudgeTask]:
    """Yield a unit's tasks by prompt, then aspect, repetition and group; a canary follows the groups of repetition 0.

    So the requests that share a beginning (the rubric and the instruction, or the instruction and the texts) stand next
    to each other.

    Args:
        completions: prompt_id → {completion_id: text} of the completions that can be shown, in canonical order.
        source_rows: of the prompts, aligned; empty: they are the first of their source.
        cut: (prompt_id, completion_id) of the completions that a token limit cut off.
    """
    for row, prompt_id in enumerate(prompt_ids):
        shown = completions.get(prompt_id, {})
        ids, texts = list(shown), list(shown.values())
        planted_aspect = None
        share = canary_share(config, source_rows[row] if source_rows else 0)
        if shown and has_canary(share, run_seed, prompt_id):
            planted_aspect = aspects[stable_hash(run_seed, "canary-aspect", prompt_id) % len(aspects)]
        for aspect in aspects:
            for repetition in range(config.orders):
                groups = _make_groups(len(ids), config, repetition, run_seed, prompt_id, aspect.name)
                for group, order in enumerate(groups):
                    members = sorted(order)
                    place = {number: i for i, number in enumerate(members)}
                    yield JudgeTask(
                        prompt_id=prompt_id,
                        row=row,
                        aspect=aspect,
                        repetition=repetition,
                        group=group,
                        completion_ids=tuple(ids[number] for number in members),
                        texts=tuple(texts[number] for number in members),
                        order=tuple(place[number] for number in order),
                        cut=tuple((prompt_id, ids[number]) in cut for number in members),
                    )
                if repetition == 0 and aspect is planted_aspect:
                    foreign = _find_foreign(row, prompt_ids, completions)
                    canary = plant_canary(texts, foreign, aspect, run_seed, prompt_id)
                    if canary is not None:
                        where = (prompt_id, row, aspect, len(groups))
                        task = _make_canary_task(canary, where, ids, texts, config, run_seed)
                        copied = task.original_id if canary.kind == "duplicate" else ""
                        shown_ids = (*task.completion_ids[:-1], copied)
                        yield replace(task, cut=tuple((prompt_id, one) in cut for one in shown_ids))


def _make_groups(
    n: int, config: JudgeConfig, repetition: int, run_seed: int, prompt_id: str, aspect: str
) -> list[list[int]]:
    if config.mode is JudgeMode.pointwise:
        return [[number] for number in range(n)] or [[]]
    # All aspects see the texts in one order where they share them in the prefix cache.
    own = () if config.layout is JudgeLayout.texts_first else (aspect,)
    return draw_groups(n, config.max_listwise, repetition, run_seed, "order", prompt_id, *own) or [[]]


def _find_foreign(row: int, prompt_ids: Sequence[str], completions: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return a completion of the next prompt that has one which the prompt of `row` has not."""
    own = set(completions[prompt_ids[row]].values())
    for step in range(1, len(prompt_ids)):
        other = completions.get(prompt_ids[(row + step) % len(prompt_ids)], {})
        found = next((text for text in other.values() if text not in own), None)
        if found is not None:
            return found
    return None


def _make_canary_task(
    canary: Canary,
    where: tuple[str, int, Aspect, int],
    ids: Sequence[str],
    texts: Sequence[str],
    config: JudgeConfig,
    run_seed: int,
) -> JudgeTask:
    """Return the task that shows the canary: alone (pointwise), or with the original and as many others as fit.

    Args:
        where: the task's prompt_id, row, aspect and group.
    """
    prompt_id, row, aspect, group = where
    if config.mode is JudgeMode.pointwise:
        members: list[int] = []
    else:
        others = [number for number in range(len(ids)) if number != canary.original]
        members = sorted([canary.original, *others[: config.max_listwise - 2]])
    return JudgeTask(
        prompt_id=prompt_id,
        row=row,
        aspect=aspect,
        repetition=0,
        group=group,
        completion_ids=(*(ids[number] for number in members), canary.completion_id),
        texts=(*(texts[number] for number in members), canary.text),
        order=tuple(draw_order(len(members) + 1, run_seed, "canary-order", prompt_id)),
        canary=canary,
        original_id=ids[canary.original],
    )
