import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from longact_cli.training.dynamic_sampling import (
    DynamicSampler,
    RefillPrompts,
    Scored,
    join,
    live_groups,
)

PAD = 9


class Numbers:
    """Prompts that are their own number."""

    def row(self, index: int, *, at: int):
        return {"prompt": str(index), "references": [], "sample_id": f"{index}@{at}"}

    def fingerprint(self):
        return ()


def sampler(most: int = 10) -> DynamicSampler:
    return DynamicSampler(
        RefillPrompts(Numbers(), start=100),
        group_size=2,
        max_generation_batches=most,
        pad_token_id=PAD,
        accelerator=Accelerator(cpu=True),
    )


def scored(accuracy: list[float], *, prompt: int = 3, tokens: int = 2, mark: int = 0) -> Scored:
    """Rollouts whose tokens are `mark` plus the row number."""
    rows = len(accuracy)
    ids = (torch.arange(rows) + mark).unsqueeze(1)
    batch = {
        "prompt_ids": ids.expand(rows, prompt).clone(),
        "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
        "completion_ids": ids.expand(rows, tokens).clone(),
        "completion_mask": torch.ones(rows, tokens, dtype=torch.long),
        "advantages": torch.arange(rows, dtype=torch.float32) + mark,
        "old_per_token_logps": torch.full((rows, tokens), -0.5),
        "ref_per_token_logps": torch.full((rows, tokens), -0.75),
        "sampling_per_token_logps": torch.full((rows, tokens), -0.25),
        "importance_sampling_ratio": torch.full((rows, tokens), 1.5),
        "num_items_in_batch": torch.tensor(rows * tokens),
    }
    return Scored(batch, torch.tensor(accuracy))


def test_a_group_lives_when_its_accuracies_differ() -> None:
    accuracy = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0])
    assert live_groups(accuracy, 2).tolist() == [False, True, False, True]


def test_dead_groups_are_replaced_until_the_batch_is_full() -> None:
    asked: list[list[str]] = []

    def generate(rows) -> Scored:
        asked.append([row["sample_id"] for row in rows])
        accuracy = [0.0, 0.0, 0.0, 1.0] if len(asked) == 1 else [1.0, 0.0]
        return scored(accuracy, mark=10 * len(asked))

    first = scored([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    filled = sampler().fill(first, generate, at=7)
    assert asked == [["100@7", "100@7", "101@7", "101@7"], ["102@7", "102@7"]]
    assert filled.batch["advantages"].tolist() == [2.0, 3.0, 12.0, 13.0, 20.0, 21.0]
    assert (filled.generations, filled.generated, filled.missing) == (3, 6, 0)
    assert filled.batch["completion_mask"].sum() == 12
    assert filled.batch["num_items_in_batch"] == 12


def test_a_full_batch_asks_for_nothing() -> None:
    filled = sampler().fill(scored([1.0, 0.0, 0.0, 1.0]), pytest.fail, at=0)
    assert (filled.generations, filled.missing) == (1, 0)
    assert filled.batch["advantages"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_what_is_missing_after_the_last_generation_stays_out_of_the_loss() -> None:
    drawn = sampler(most=2)
    first = scored([1.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    filled = drawn.fill(first, lambda rows: scored([1.0] * len(rows), mark=10), at=0)
    assert (filled.generations, filled.generated, filled.missing) == (2, 5, 2)
    assert filled.batch["completion_mask"].sum(dim=1).tolist() == [2, 2, 0, 0, 0, 0]
    assert filled.batch["advantages"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert filled.batch["num_items_in_batch"] == 4
    assert first.batch["completion_mask"].sum() == 12  # the input is untouched


def test_the_filter_takes_dead_groups_out_of_the_loss_and_of_its_denominator() -> None:
    filled = sampler().filter(scored([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    assert filled.batch["completion_mask"].sum(dim=1).tolist() == [0, 0, 2, 2, 0, 0]
    assert filled.batch["num_items_in_batch"] == 4
    assert (filled.generations, filled.generated, filled.missing) == (1, 3, 2)


class SecondOfTwo:
    """The second of two processes; in each sum the other one has `theirs` groups, or tokens."""

    num_processes, process_index, device = 2, 1, torch.device("cpu")

    def __init__(self, theirs: list[int], rows: dict[str, Tensor] | None = None) -> None:
        self._theirs = iter(theirs)
        self._rows = rows

    def gather(self, own: Tensor) -> Tensor:
        if own.dim() == 1 and own.numel() == 1:
            return torch.cat([torch.tensor([next(self._theirs)]), own])
        return torch.cat([own[:0], own])  # the first process holds nothing of use here

    def pad_across_processes(self, own: Tensor, **_: object) -> Tensor:
        return own


def test_processes_share_the_prompts_that_are_missing_altogether() -> None:
    asked: list[list[str]] = []

    def generate(rows) -> Scored:
        asked.append([row["prompt"] for row in rows[::2]])
        return scored([1.0, 0.0] * (len(rows) // 2), mark=10)

    drawn = sampler()
    # Of 2 groups each, the other process lacks 2 and this one lacks 1: three prompts, two each,
    # and the last of this process's is one too many. The other one's two new groups live.
    drawn._accelerator = SecondOfTwo([0, 2, 5])
    filled = drawn.fill(scored([1.0, 0.0, 1.0, 1.0]), generate, at=0)
    assert asked == [["102", "102"]]
    assert drawn.prompts.position == 3
    assert (filled.generations, filled.generated, filled.missing) == (2, 4 + 3, 0)


def test_batches_of_other_lengths_are_padded_on_their_own_sides() -> None:
    short, long = (scored([1.0, 0.0]).batch, scored([0.0, 1.0], prompt=4, tokens=3, mark=5).batch)
    joined = join([short, long], pad_token_id=PAD)
    assert joined["prompt_ids"].tolist() == [[PAD, 0, 0, 0], [PAD, 1, 1, 1], [5] * 4, [6] * 4]
    assert joined["prompt_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [1] * 4, [1] * 4]
    assert joined["completion_ids"].tolist() == [[0, 0, PAD], [1, 1, PAD], [5] * 3, [6] * 3]
    assert joined["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [1] * 3, [1] * 3]
    assert joined["old_per_token_logps"][0].tolist() == [-0.5, -0.5, 0.0]
    assert joined["ref_per_token_logps"][0].tolist() == [-0.75, -0.75, 0.0]
    assert joined["sampling_per_token_logps"][0].tolist() == [-0.25, -0.25, 0.0]
    assert joined["importance_sampling_ratio"][0].tolist() == [1.5, 1.5, 1.0]


def test_a_new_field_of_trl_is_not_dropped_in_silence() -> None:
    batch: dict[str, Tensor] = {**scored([1.0, 0.0]).batch, "tool_mask": torch.ones(2, 2)}
    with pytest.raises(RuntimeError, match="tool_mask"):
        join([batch], pad_token_id=PAD)


def test_prompts_of_replacements_go_on_where_a_checkpoint_left_them() -> None:
    prompts = RefillPrompts(Numbers(), start=100)
    prompts.draw(3, at=0)
    resumed = RefillPrompts(Numbers(), start=100)
    resumed.position = prompts.position
    assert resumed.draw(2, at=1) == prompts.draw(2, at=1)
    assert resumed.draw(1, at=1)[0]["sample_id"] == "105@1"
