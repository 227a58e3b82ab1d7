import torch

from longact_cli.training.groups import whole_groups


def batch(prompts: list[int], rewards: list[float]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[0, prompt] for prompt in prompts])
    return {
        "prompt_ids": ids,
        "prompt_mask": (ids != 0).long(),
        "advantages": torch.tensor(rewards),
        "num_items_in_batch": torch.tensor(7),
    }


def test_groups_stay_together_in_the_order_of_their_first_rollout() -> None:
    dealt = whole_groups([batch([9, 5, 9], [1.0, 2.0, 3.0]), batch([5, 5, 9], [4.0, 5.0, 6.0])])
    assert [part["prompt_ids"][:, 1].tolist() for part in dealt] == [[9, 9, 9], [5, 5, 5]]
    assert [part["advantages"].tolist() for part in dealt] == [[1.0, 3.0, 6.0], [2.0, 4.0, 5.0]]
    assert all(int(part["num_items_in_batch"]) == 7 for part in dealt)


def test_padding_does_not_tell_prompts_apart_and_one_batch_is_only_sorted() -> None:
    only = batch([5, 9, 5], [1.0, 2.0, 3.0])
    only["prompt_ids"][2, 0] = 3  # under the padding
    assert whole_groups([only])[0]["advantages"].tolist() == [1.0, 3.0, 2.0]
