from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.errors import UnknownNameError
from longact_cli.training.algorithms import ALGORITHMS, algorithm_parts, describe_parts

FOLDER = Path(__file__).parents[3] / "conf" / "algorithm"
FILES = sorted(FOLDER.glob("*.yaml"))


def load(name: str, **changes: object) -> AlgorithmConfig:
    tree = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return AlgorithmConfig.model_validate({**tree, **changes})


def active(algorithm: AlgorithmConfig) -> dict[str, bool]:
    return {part.name: part.active for part in algorithm_parts(algorithm)}


def test_every_configured_algorithm_is_registered_and_the_other_way_round() -> None:
    assert {path.stem for path in FILES} == set(ALGORITHMS.names())
    assert {load(path.stem).name for path in FILES} == set(ALGORITHMS.names())


def test_dapo_has_all_its_published_parts() -> None:
    assert active(load("dapo")) == {
        "clip-higher": True,
        "clipping acts": True,
        "token-level loss": True,
        "sequence-level ratio": False,
        "covariance clip": False,
        "covariance KL": False,
        "KL penalty": False,
        "dynamic sampling": True,
        "group filter": True,
        "overlong filtering": True,
        "soft overlong punishment": True,
    }


def test_the_filter_alone_is_not_dynamic_sampling() -> None:
    parts = active(load("dapo").model_copy(update={"dynamic_sampling": "filter"}))
    assert not parts["dynamic sampling"]
    assert parts["group filter"]


def test_each_covariance_method_names_itself() -> None:
    assert active(load("clip-cov"))["covariance clip"]
    assert not active(load("clip-cov"))["covariance KL"]
    assert active(load("kl-cov"))["covariance KL"]
    assert not active(load("kl-cov"))["clipping acts"]


@pytest.mark.parametrize(
    ("name", "clip", "ratio", "kl_coef"),
    [
        ("clip-cov", (1.0, 1.0), 2e-4, 0.0),
        ("clip-cov-verl", (0.2, 0.2), 2e-4, 0.0),
        ("kl-cov", (None, None), 2e-3, 1.0),
        ("kl-cov-32b", (None, None), 2e-4, 1.0),
        ("kl-cov-verl", (None, None), 2e-4, 0.1),
    ],
)
def test_covariance_presets_hold_the_numbers_of_their_source(name, clip, ratio, kl_coef) -> None:
    config = load(name)
    assert (config.clip_low, config.clip_high) == clip
    assert (config.cov_ratio, config.cov_kl_coef) == (ratio, kl_coef)


def test_no_algorithm_file_holds_a_learning_rate_of_the_micro_model() -> None:
    rates = {path.stem: load(path.stem).learning_rate for path in FILES}
    assert max(rates.values()) <= 1e-5
    assert {rates[name] for name in ("dapo", "grpo", "gspo")} == {1e-6}


REFUSED = [
    ("kl-cov", {"updates_per_rollout": 1}, "exactly 0"),
    ("kl-cov", {"clip_high": 0.2}, "must be null"),
    ("kl-cov", {"cov_kl_coef": 0.0}, "cov_kl_coef is 0"),
    ("clip-cov", {"cov_ratio": 0.0}, "cov_ratio is 0"),
    ("clip-cov", {"loss_type": "grpo"}, "loss_type=dapo"),
    ("dapo", {"scale_rewards": "batch"}, "scale_rewards is 'batch'"),
    ("grpo", {"dynamic_sampling": "filter"}, "does nothing to loss_type grpo"),
    ("grpo", {"group_size": 1}, "group_size is 1"),
]


@pytest.mark.parametrize(("name", "changes", "message"), REFUSED)
def test_settings_in_which_a_part_cannot_act_are_refused(name, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        load(name, **changes)


def test_force_runs_kl_cov_on_policy_and_says_that_it_does_nothing() -> None:
    forced = load("kl-cov", updates_per_rollout=1, force=True)
    assert not active(forced)["covariance KL"]


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
        "dapo: clip-higher yes, clipping acts yes, token-level loss yes, sequence-level ratio no, "
        "covariance clip no, covariance KL no, KL penalty no, dynamic sampling yes, "
        "group filter yes, overlong filtering yes, soft overlong punishment yes"
    )
    assert describe_parts(load("sft")) == "sft: supervised yes"


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"algorithm\.name is 'ppo'"):
        ALGORITHMS.get("ppo")


def test_what_an_algorithm_file_leaves_out_is_off_or_as_published() -> None:
    fields = AlgorithmConfig.model_fields
    assert {name: fields[name].default for name in fields if not fields[name].is_required()} == {
        "covariance": "none",
        "cov_ratio": 0.0,
        "cov_low": 1.0,
        "cov_high": 5.0,
        "cov_kl_coef": 0.0,
        "dynamic_sampling": "none",
        "max_generation_batches": 10,
        "overlong_cache": 0.0,
        "force": False,
        "micro_batch_tokens": None,
        "prefix_attention": "sdpa",
        "whole_groups": False,
    }


def test_a_group_of_two_is_enough_to_compare() -> None:
    path = Path(__file__).parents[3] / "conf" / "algorithm" / "grpo.yaml"
    made = AlgorithmConfig.model_validate({**yaml.safe_load(path.read_text()), "group_size": 2})
    assert made.group_size == 2
