from pathlib import Path

import pytest
import torch
import yaml

from longact_cli.config.schema import MaskConfig
from longact_cli.errors import ConfigError, UnknownNameError
from longact_cli.masking import Budget, select_rows
from longact_cli.masking.strategies import STRATEGIES, step_generator

SCORES = {"a": torch.tensor([0.2, 0.9, 0.1, 0.9, 0.5]), "b": torch.tensor([3.0, 1.0, 2.0])}


def chosen(strategy: str, ratio: float, seed: int = 0, step: int = 0) -> dict[str, list[int]]:
    mask = select_rows(strategy, SCORES, ratio, step_generator(seed, step))
    return {name: rows.nonzero().flatten().tolist() for name, rows in mask.items()}


def test_salient_takes_the_highest_scores_of_each_matrix() -> None:
    assert chosen("salient", 0.6) == {"a": [1, 3, 4], "b": [0]}


@pytest.mark.parametrize("strategy", ["gradient", "weight", "wanda"])
def test_rankings_by_other_scores_take_the_highest_too(strategy: str) -> None:
    assert chosen(strategy, 0.6) == {"a": [1, 3, 4], "b": [0]}


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


CONF = Path(__file__).parents[3] / "conf" / "mask"


def test_every_registered_strategy_has_a_file_that_composes() -> None:
    files = {path.stem for path in CONF.glob("*.yaml")}
    assert files == set(STRATEGIES.names())
    assert len(files) == 10
    for name in files:
        saved = {"file": "saved.safetensors"} if name == "file" else {}
        config = MaskConfig.model_validate(
            {**yaml.safe_load((CONF / f"{name}.yaml").read_text()), **saved}
        )
        assert config.strategy == name
        assert set(yaml.safe_load((CONF / f"{name}.yaml").read_text())) == set(
            MaskConfig.model_fields
        )


@pytest.mark.parametrize("scope", ["matrix", "head", "global"])
@pytest.mark.parametrize("strategy", STRATEGIES.names())
def test_every_strategy_returns_bool_rows_for_every_matrix(strategy: str, scope: str) -> None:
    budget = Budget(0.5, scope=scope, head_dims={"a": 5, "b": 1})
    mask = select_rows(strategy, SCORES, budget, step_generator(0, 0))
    assert {key: (rows.dtype, len(rows)) for key, rows in mask.items()} == {
        "a": (torch.bool, 5),
        "b": (torch.bool, 3),
    }


def test_only_rankings_of_activations_need_a_probe() -> None:
    probed = ("activation", "wanda")
    needed = {name for name in STRATEGIES.names() if STRATEGIES.get(name).source in probed}
    assert needed == {"salient", "lowest", "random-head-matched", "wanda"}


def test_scope_head_takes_the_ratio_from_every_head() -> None:
    scores = {"m": torch.tensor([1.0, 2.0, 30.0, 40.0])}  # heads (1, 2) and (30, 40)
    budget = Budget(0.5, scope="head", head_dims={"m": 2})
    assert select_rows("salient", scores, budget)["m"].tolist() == [False, True, False, True]
    assert select_rows("salient", scores, 0.5)["m"].tolist() == [False, False, True, True]
    assert select_rows("lowest", scores, budget)["m"].tolist() == [True, False, True, False]


def test_scope_global_ranks_all_matrices_together() -> None:
    mask = select_rows("salient", SCORES, Budget(0.5, scope="global"))  # floor(8 / 2) = 4 rows
    assert mask["a"].tolist() == [False, True, False, False, False]
    assert mask["b"].tolist() == [True, True, True]


@pytest.mark.parametrize(("scope", "a", "b"), [("matrix", 2, 1), ("global", None, None)])
def test_random_counts_within_the_scope(scope: str, a: int | None, b: int | None) -> None:
    mask = select_rows("random", SCORES, Budget(0.5, scope=scope), step_generator(1, 2))
    assert sum(int(rows.sum()) for rows in mask.values()) == (3 if scope == "matrix" else 4)
    if a is not None:
        assert (int(mask["a"].sum()), int(mask["b"].sum())) == (a, b)


def test_random_head_matched_draws_as_many_rows_in_each_head_as_salient() -> None:
    scores = {"m": torch.cat([torch.arange(8.0) + 100, torch.arange(8.0)])}
    budget = Budget(0.625, head_dims={"m": 8})  # 10 of 16: all of head 0, two of head 1
    salient = select_rows("salient", scores, budget)["m"]
    assert [int(head.sum()) for head in salient.split(8)] == [8, 2]
    drawn = set()
    for step in range(20):
        mask = select_rows("random-head-matched", scores, budget, step_generator(0, step))["m"]
        assert [int(head.sum()) for head in mask.split(8)] == [8, 2]
        drawn.update(mask[8:].nonzero().flatten().tolist())
    assert drawn == set(range(8))


def test_mass_takes_the_smallest_set_that_holds_the_share() -> None:
    scores = {"m": torch.tensor([1.0, 5.0, 3.0, 1.0])}  # sorted 5 3 1 1 of 10
    taken = {
        mass: select_rows("salient", scores, Budget(1.0, mass=mass))["m"].tolist()
        for mass in (0.5, 0.51, 0.8, 1.0)
    }
    assert taken[0.5] == [False, True, False, False]
    assert taken[0.51] == [False, True, True, False]
    assert taken[0.8] == [False, True, True, False]
    assert taken[1.0] == [True] * 4


def test_mass_is_capped_by_the_ratio_and_its_controls_update_as_many_rows() -> None:
    scores = {"m": torch.tensor([4.0, 4.0, 1.0, 1.0])}
    assert int(select_rows("salient", scores, Budget(0.25, mass=0.8))["m"].sum()) == 1
    budget = Budget(1.0, mass=0.8)
    assert select_rows("lowest", scores, budget)["m"].tolist() == [False, False, True, True]
    assert int(select_rows("random", scores, budget, step_generator(0, 0))["m"].sum()) == 2


def test_mass_is_a_share_whatever_the_size_of_the_scores() -> None:
    tiny = {"m": torch.tensor([1e-3, 5e-3, 3e-3, 1e-3]), "one": torch.tensor([1e-3])}
    mask = select_rows("salient", tiny, Budget(1.0, mass=0.75))
    assert mask["m"].tolist() == [False, True, True, False]
    assert mask["one"].tolist() == [True]


def test_mass_of_nothing_updates_nothing() -> None:
    assert not select_rows("salient", {"m": torch.zeros(3)}, Budget(1.0, mass=0.5))["m"].any()


def test_a_saved_mask_is_taken_as_it_is() -> None:
    saved = {"m": torch.tensor([0.0, 1.0, 1.0])}
    assert select_rows("file", saved, 0.0)["m"].tolist() == [False, True, True]
