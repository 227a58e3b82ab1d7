from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from longact_cli.training.completions import OverlongPunishment, RewardFunction, extra_rewards

STATE = SimpleNamespace(global_step=4, is_world_process_zero=True)
CALL = {
    "prompts": ["p", "p", "p"],
    "completions": [" 77.", " 77.", " 7."],
    "completion_ids": [[8, 1], [8, 8], [8, 1]],
    "references": [["77"], ["77"], ["77"]],
    "sample_id": ["a", "a", "a"],
    "trainer_state": STATE,
    "log_extra": None,
}


def test_rewards_need_the_answer_and_the_end_token(tmp_path: Path) -> None:
    reward = RewardFunction("string_match", eos_token_ids=[1], folder=tmp_path)
    assert reward(**CALL) == [1.0, 0.0, 0.0]


def test_rollouts_are_kept_per_step_with_match_and_reward_apart(tmp_path: Path) -> None:
    RewardFunction("string_match", eos_token_ids=[1], folder=tmp_path)(**CALL)
    assert [path.name for path in tmp_path.iterdir()] == ["completions_00004.parquet"]
    table = pd.read_parquet(tmp_path / "completions_00004.parquet")
    assert table["match"].tolist() == [1.0, 1.0, 0.0]
    assert table["reward"].tolist() == [1.0, 0.0, 0.0]
    assert table["terminated"].tolist() == [True, False, True]
    assert table["step"].tolist() == [4, 4, 4]
    assert table["references"][0].tolist() == ["77"]


def test_the_trainer_calls_it_accuracy_whatever_the_reward(tmp_path: Path) -> None:
    reward = RewardFunction("string_match", eos_token_ids=[1], folder=tmp_path)
    assert reward.__name__ == "accuracy"


def test_later_generations_for_a_step_join_its_file(tmp_path: Path) -> None:
    reward = RewardFunction("string_match", eos_token_ids=[1], folder=tmp_path)
    reward(**CALL)
    reward(**{**CALL, "sample_id": ["b", "b", "b"]})
    table = pd.read_parquet(tmp_path / "completions_00004.parquet")
    assert table["sample_id"].tolist() == ["a", "a", "a", "b", "b", "b"]
    later = SimpleNamespace(global_step=6, is_world_process_zero=True)
    reward(**{**CALL, "trainer_state": later})
    assert len(pd.read_parquet(tmp_path / "completions_00006.parquet")) == 3


def test_an_extra_reward_needs_the_end_token_too() -> None:
    (extra,) = extra_rewards({"string_match_any": 0.25}, eos_token_ids=[1])
    assert extra.weight == 0.25
    assert extra.function(**CALL) == [1.0, 0.0, 0.0]


def test_the_punishment_counts_tokens() -> None:
    punish = OverlongPunishment(longest=4, cache=2)
    assert punish(completion_ids=[[1] * 2, [1] * 3, [1] * 4]) == [0.0, -0.5, -1.0]


def test_another_process_leaves_the_file_alone(tmp_path: Path) -> None:
    other = SimpleNamespace(global_step=4, is_world_process_zero=False)
    reward = RewardFunction("string_match", eos_token_ids=[1], folder=tmp_path)
    assert reward(**{**CALL, "trainer_state": other}) == [1.0, 0.0, 0.0]
    assert not list(tmp_path.iterdir())
