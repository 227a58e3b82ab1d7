from pathlib import Path

import pytest
import yaml

from longact_cli.config.schema import AlgorithmConfig
from longact_cli.errors import UnknownNameError
from longact_cli.training.algorithms import ALGORITHMS, algorithm_parts, describe_parts

FOLDER = Path(__file__).parents[3] / "conf" / "algorithm"
FILES = sorted(FOLDER.glob("*.yaml"))


def load(name: str) -> AlgorithmConfig:
    return AlgorithmConfig.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


def active(algorithm: AlgorithmConfig) -> dict[str, bool]:
    return {part.name: part.active for part in algorithm_parts(algorithm)}


def test_every_configured_algorithm_is_registered_and_the_other_way_round() -> None:
    assert {path.stem for path in FILES} == set(ALGORITHMS.names())
    assert {load(path.stem).name for path in FILES} == set(ALGORITHMS.names())


def test_dapo_has_its_published_parts_except_dynamic_sampling() -> None:
    assert active(load("dapo")) == {
        "clip-higher": True,
        "clipping acts": True,
        "token-level loss": True,
        "overlong filtering": True,
        "KL penalty": False,
        "dynamic sampling": False,
    }


def test_grpo_clips_symmetrically_and_keeps_its_kl_penalty() -> None:
    parts = active(load("grpo"))
    assert not parts["clip-higher"]
    assert not parts["token-level loss"]
    assert parts["KL penalty"]


def test_parts_follow_the_values_not_the_name() -> None:
    on_policy = load("dapo").model_copy(update={"updates_per_rollout": 1, "loss_type": "grpo"})
    assert not active(on_policy)["clipping acts"]
    assert not active(on_policy)["token-level loss"]


def test_the_description_is_one_line_with_every_part() -> None:
    assert describe_parts(load("dapo")) == (
        "dapo: clip-higher yes, clipping acts yes, token-level loss yes, overlong filtering yes, "
        "KL penalty no, dynamic sampling no"
    )


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"algorithm\.name is 'ppo'"):
        ALGORITHMS.get("ppo")
