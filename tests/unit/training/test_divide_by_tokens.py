"""Micro-batches by tokens, on lengths alone."""

from collections.abc import Sequence
from random import Random

import pytest
import torch

from longact_cli.training.micro_batches import (
    Rollouts,
    divide_by_tokens,
    divided,
    loss_weights,
    rollouts_of,
)


def tokens(rollouts: Rollouts, rows: Sequence[int]) -> int:
    """The rectangle of these rows, written down a second time."""
    groups = [rollouts.groups[row] for row in rows]
    slots = max(groups.count(group) for group in groups)
    longest = max(rollouts.completions[row] for row in rows)
    return len(set(groups)) * (max(rollouts.prompts[row] for row in rows) + slots * longest)


def first_fit_of_single_rows(rollouts: Rollouts, budget: int) -> int:
    """How many micro-batches single rows make, the longest prompts first."""
    boxes: list[list[int]] = []
    rows = range(len(rollouts.prompts))
    for row in sorted(rows, key=lambda r: (-rollouts.prompts[r], -rollouts.completions[r], r)):
        fitting = (box for box in boxes if tokens(rollouts, [*box, row]) <= budget)
        box = next(fitting, None)
        if box is None:
            boxes.append([row])
        else:
            box.append(row)
    return len(boxes)


def random_rollouts(seed: int) -> tuple[Rollouts, int]:
    random = Random(seed)
    prompts = [random.choice([5, 20, 90, 400]) + random.randrange(10) for _ in range(6)]
    groups = [random.randrange(6) for _ in range(random.randrange(1, 30))]
    if seed % 3 == 0:
        groups = list(range(len(groups)))
    completions = [random.randrange(1, 60) for _ in groups]
    sizes = Rollouts([prompts[group % 6] for group in groups], completions, groups)
    return sizes, random.choice([30, 120, 500, 3000])


@pytest.mark.parametrize("seed", range(60))
def test_every_row_once_within_the_budget_and_never_more_than_first_fit(seed: int) -> None:
    rollouts, budget = random_rollouts(seed)
    parts = divide_by_tokens(rollouts, budget)
    assert sorted(row for part in parts for row in part) == list(range(len(rollouts.prompts)))
    for part in parts:
        assert tokens(rollouts, part) <= budget or len(part) == 1
        assert list(part) == sorted(part)
    assert len(parts) <= first_fit_of_single_rows(rollouts, budget)
    assert parts == divide_by_tokens(rollouts, budget)


@pytest.mark.parametrize("seed", range(20))
def test_as_many_micro_batches_as_another_process_needs(seed: int) -> None:
    rollouts, budget = random_rollouts(seed)
    rows = len(rollouts.prompts)
    alone = len(divide_by_tokens(rollouts, budget))
    for wanted in {alone, min(alone + 1, rows), rows}:
        parts = divide_by_tokens(rollouts, budget, same_count=lambda own, n=wanted: n)
        assert len(parts) == wanted
        assert sorted(row for part in parts for row in part) == list(range(rows))
        assert all(tokens(rollouts, part) <= budget or len(part) == 1 for part in parts)


def test_prompts_of_one_length_meet_and_a_long_one_does_not_stretch_short_ones() -> None:
    # Groups of 2: one prompt of 100, four of 10; completions of 5. 110 and 20 tokens each; with the
    # long one, a short one would count 110 as well.
    prompts = [10, 10, 100, 100, 10, 10, 10, 10, 10, 10]
    rollouts = Rollouts(prompts, [5] * 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert divide_by_tokens(rollouts, 110) == ((2, 3), (0, 1, 4, 5, 6, 7, 8, 9))
    # Room for two groups of the long width, and three short ones do not fit beside each other.
    assert divide_by_tokens(rollouts, 220) == ((2, 3), (0, 1, 4, 5, 6, 7, 8, 9))


def test_a_group_above_the_budget_is_split_into_as_few_pieces_as_possible() -> None:
    # 100 + n x 10 <= 130: three at a time, the longest completions together
    rollouts = Rollouts([100] * 7, [10, 3, 10, 3, 10, 3, 3], [0] * 7)
    assert divide_by_tokens(rollouts, 130) == ((0, 2, 4), (1, 3, 5, 6))


def test_a_rollout_above_the_budget_goes_alone() -> None:
    rollouts = Rollouts([50, 4, 4], [9, 1, 1], [0, 1, 1])
    assert divide_by_tokens(rollouts, 12) == ((0,), (1, 2))


def test_without_sharing_every_rollout_has_a_prompt_of_its_own() -> None:
    ids = torch.tensor([[0, 7, 8], [0, 7, 8], [5, 6, 9]])
    kept = torch.tensor([[0, 1, 1], [0, 1, 1], [1, 1, 1]])
    scored = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]])
    apart = rollouts_of(ids, kept, completion_mask=scored, share=False)
    assert apart == Rollouts([2, 2, 3], [2, 1, 1], range(3))
    shared = rollouts_of(ids, kept, completion_mask=scored, share=True)
    assert shared.groups == [0, 0, 1]
    # apart: 2 x (2 + 2) = 8 tokens for the pair; shared: 2 + 2 x 2 = 6
    assert divide_by_tokens(shared, 6) == ((2,), (0, 1))
    assert len(divide_by_tokens(apart, 6)) == 3


def test_losses_are_weighed_by_what_they_were_divided_by() -> None:
    sizes = {"rows": [3, 1], "tokens": [10, 30]}
    assert loss_weights("dapo", **sizes) == loss_weights("cispo", **sizes) == [1.0, 1.0]
    assert loss_weights("grpo", **sizes) == loss_weights("dr_grpo", **sizes) == [0.75, 0.25]
    assert loss_weights("bnpo", **sizes) == [0.25, 0.75]
    # Without a token TRL divides by 1; so does the undivided step.
    assert loss_weights("bnpo", rows=[1, 1], tokens=[0, 0]) == [1.0, 1.0]


def test_a_batch_is_divided_by_rows_and_its_token_count_stays_whole() -> None:
    batch = {"advantages": torch.tensor([1.0, 2.0, 3.0]), "num_items_in_batch": torch.tensor(9)}
    first, second = divided(batch, ((0, 2), (1,)))
    assert first["advantages"].tolist() == [1.0, 3.0]
    assert second["advantages"].tolist() == [2.0]
    assert first["num_items_in_batch"] == second["num_items_in_batch"] == 9
