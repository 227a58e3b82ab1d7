import pytest
import torch

from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.masking import select_rows
from longact_cli.masking.strategies import STRATEGIES, step_generator

SCORES = {"a": torch.tensor([0.2, 0.9, 0.1, 0.9, 0.5]), "b": torch.tensor([3.0, 1.0, 2.0])}


def chosen(strategy: str, ratio: float, seed: int = 0, step: int = 0) -> dict[str, list[int]]:
    mask = select_rows(strategy, SCORES, ratio, step_generator(seed, step))
    return {name: rows.nonzero().flatten().tolist() for name, rows in mask.items()}


def test_salient_takes_the_highest_scores_of_each_matrix() -> None:
    assert chosen("salient", 0.6) == {"a": [1, 3, 4], "b": [0]}


def test_lowest_takes_the_lowest_scores_of_each_matrix() -> None:
    assert chosen("lowest", 0.6) == {"a": [0, 2, 4], "b": [1]}


def test_ties_go_to_the_lower_index() -> None:
    assert chosen("salient", 0.2)["a"] == [1]
    flat = {"a": torch.ones(6)}
    for strategy in ("salient", "lowest"):
        assert select_rows(strategy, flat, 0.5)["a"].tolist() == [True] * 3 + [False] * 3


def test_dense_updates_all_rows_and_frozen_none_whatever_the_ratio() -> None:
    assert chosen("dense", 0.3) == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2]}
    assert chosen("frozen", 0.3) == {"a": [], "b": []}


@pytest.mark.parametrize("strategy", ["salient", "lowest", "random"])
@pytest.mark.parametrize(
    ("ratio", "rows", "count"),
    [(0.0, 7, 0), (0.1, 7, 0), (0.3, 10, 3), (0.3, 128, 38), (0.29, 100, 29), (1.0, 7, 7)],
)
def test_the_count_per_matrix_is_the_floor_of_ratio_times_rows(
    strategy: str, ratio: float, rows: int, count: int
) -> None:
    scores = {"m": torch.rand(rows, generator=torch.Generator().manual_seed(3))}
    mask = select_rows(strategy, scores, ratio, step_generator(0, 0))
    assert int(mask["m"].sum()) == count


def test_random_differs_between_steps_and_seeds_and_repeats_for_the_same() -> None:
    wide = {"m": torch.zeros(64)}

    def draw(seed: int, step: int) -> list[bool]:
        return select_rows("random", wide, 0.3, step_generator(seed, step))["m"].tolist()

    assert draw(0, 5) == draw(0, 5)
    assert draw(0, 5) != draw(0, 6)
    assert draw(0, 5) != draw(1, 5)


def test_random_covers_every_row_in_the_long_run() -> None:
    total = sum(
        select_rows("random", {"m": torch.zeros(20)}, 0.3, step_generator(0, step))["m"].int()
        for step in range(200)
    )
    assert total.sum().item() == 200 * 6
    assert total.min() > 30  # expected 60, standard deviation 6.5
    assert total.max() < 90


def test_random_without_a_generator_is_refused() -> None:
    with pytest.raises(ConfigError, match="step_generator"):
        select_rows("random", SCORES, 0.3)


def test_a_misspelt_strategy_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'salient'"):
        select_rows("saliant", SCORES, 0.3)


def test_every_strategy_returns_bool_rows_for_every_matrix() -> None:
    assert STRATEGIES.names() == ("dense", "frozen", "lowest", "random", "salient")
    for name in STRATEGIES.names():
        mask = select_rows(name, SCORES, 0.5, step_generator(0, 0))
        assert {key: (rows.dtype, len(rows)) for key, rows in mask.items()} == {
            "a": (torch.bool, 5),
            "b": (torch.bool, 3),
        }


def test_only_rankings_need_a_probe() -> None:
    needed = {name for name in STRATEGIES.names() if STRATEGIES.get(name).needs_saliency}
    assert needed == {"salient", "lowest"}
