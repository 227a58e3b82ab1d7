from pathlib import Path

import pytest
import yaml

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.schema import ParallelConfig
from longact_cli.training.arguments import grpo_arguments, sft_arguments

FILES = sorted((Path(__file__).parents[3] / "conf" / "algorithm").glob("*.yaml"))
RL_FILES = [path for path in FILES if path.stem != "sft"]


def algorithm(name: str = "dapo", **changes: object) -> AlgorithmConfig:
    (path,) = (path for path in FILES if path.stem == name)
    return AlgorithmConfig.model_validate({**yaml.safe_load(path.read_text()), **changes})


def test_batches_follow_from_prompts_group_micro_batch_and_updates(tmp_path: Path) -> None:
    settings = {
        "prompts_per_step": 6,
        "group_size": 4,
        "micro_batch_size": 8,
        "updates_per_rollout": 2,
    }
    arguments = grpo_arguments(algorithm(**settings), folder=tmp_path, seed=3)
    assert arguments.gradient_accumulation_steps == 3  # 24 rollouts in micro-batches of 8
    assert arguments.steps_per_generation == 6  # 2 updates x 3
    assert arguments.generation_batch_size == 48  # 12 prompts x 4
    assert arguments.seed == 3


def test_a_budget_of_tokens_hands_the_trainer_a_whole_step_at_once(tmp_path: Path) -> None:
    sizes = {"prompts_per_step": 6, "group_size": 4, "updates_per_rollout": 3}
    config = algorithm("dapo", **sizes, steps=3, checkpoint_every=3, micro_batch_tokens=100)
    one = grpo_arguments(config, folder=tmp_path, seed=0)
    assert (one.per_device_train_batch_size, one.gradient_accumulation_steps) == (24, 1)
    assert one.steps_per_generation == 3


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_the_batch_of_a_step(processes: int, tmp_path: Path) -> None:
    settings = {"prompts_per_step": 8, "group_size": 4, "micro_batch_size": 2}
    parallel = ParallelConfig(processes=processes)
    made = algorithm(**settings, updates_per_rollout=2)
    arguments = grpo_arguments(made, folder=tmp_path, seed=0, parallel=parallel)
    assert 2 * arguments.gradient_accumulation_steps * processes == 8 * 4
    assert arguments.steps_per_generation == 2 * arguments.gradient_accumulation_steps
    supervised = sft_arguments(
        algorithm("sft", **settings), folder=tmp_path, seed=0, parallel=parallel
    )
    size = supervised.per_device_train_batch_size * supervised.gradient_accumulation_steps
    assert size * processes == 8


def test_a_supervised_step_leaves_no_prompt_out(tmp_path: Path) -> None:
    odd = algorithm("sft", prompts_per_step=6, group_size=4, micro_batch_size=4)
    arguments = sft_arguments(odd, folder=tmp_path, seed=0)
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == 6


def test_fsdp2_keeps_its_checkpoints_sharded(tmp_path: Path) -> None:
    parallel = ParallelConfig(processes=2, sharding="fsdp2")
    plugin = grpo_arguments(
        algorithm(), folder=tmp_path, seed=0, parallel=parallel
    ).fsdp_plugin_args
    assert plugin["fsdp_version"] == 2
    assert plugin["state_dict_type"] == "SHARDED_STATE_DICT"


def test_the_clip_range_and_the_kl_weight_reach_the_trainer(tmp_path: Path) -> None:
    arguments = grpo_arguments(
        algorithm(clip_low=0.1, clip_high=0.5, kl_coef=0.04), folder=tmp_path, seed=0
    )
    assert (arguments.epsilon, arguments.epsilon_high, arguments.beta) == (0.1, 0.5, 0.04)


def test_an_open_clip_range_can_never_act(tmp_path: Path) -> None:
    arguments = grpo_arguments(algorithm("kl-cov"), folder=tmp_path, seed=0)
    assert 1 - arguments.epsilon == 0.0
    assert arguments.epsilon_high > 1e20


def test_the_upper_bound_of_cispo_is_one_plus_clip_high(tmp_path: Path) -> None:
    arguments = grpo_arguments(algorithm("cispo"), folder=tmp_path, seed=0)
    assert arguments.epsilon_high == 5.0


def test_defaults_of_trl_that_would_change_results_are_pinned(tmp_path: Path) -> None:
    arguments = grpo_arguments(algorithm(), folder=tmp_path, seed=0)
    assert arguments.bf16 is False
    assert arguments.gradient_checkpointing is False
    assert arguments.vllm_importance_sampling_mode == "token_truncate"
    assert arguments.shuffle_dataset is False
    assert arguments.report_to == []
    assert arguments.optim == "adamw_torch"
    assert arguments.disable_dropout is True


@pytest.mark.parametrize("path", RL_FILES, ids=lambda path: path.stem)
def test_every_configured_algorithm_is_accepted_by_trl(path: Path, tmp_path: Path) -> None:
    loaded = AlgorithmConfig.model_validate(yaml.safe_load(path.read_text()))
    arguments = grpo_arguments(loaded, folder=tmp_path, seed=0)
    assert arguments.loss_type == loaded.loss_type
    assert arguments.importance_sampling_level == loaded.importance_sampling_level
    assert arguments.scale_rewards == loaded.scale_rewards
    assert arguments.steps_per_generation == loaded.updates_per_rollout * (
        loaded.prompts_per_step * loaded.group_size // loaded.micro_batch_size
    )


def test_a_supervised_step_reads_its_prompts_once(tmp_path: Path) -> None:
    config = algorithm("sft", prompts_per_step=8, group_size=8, micro_batch_size=64)
    arguments = sft_arguments(config, folder=tmp_path, seed=0)
    assert arguments.per_device_train_batch_size == 8
    assert arguments.gradient_accumulation_steps == 1
    config = algorithm("sft", prompts_per_step=8, micro_batch_size=2)
    assert sft_arguments(config, folder=tmp_path, seed=0).gradient_accumulation_steps == 4


PINNED_EVERYWHERE = {
    "optim": "adamw_torch",
    "adam_epsilon": 1e-8,
    "fp16": False,
    "dataloader_num_workers": 0,
    "remove_unused_columns": False,
    "logging_nan_inf_filter": False,
    "logging_steps": 1,
    "save_only_model": False,
    "push_to_hub": False,
    "disable_tqdm": True,
    "report_to": [],
    "eval_strategy": "no",
    "save_strategy": "steps",
}
PINNED_RL = {
    "reward_weights": [1.0],
    "num_iterations": 1,
    "shuffle_dataset": False,
    "disable_dropout": True,
    "log_completions": False,
    "multi_objective_aggregation": "sum_then_normalize",
    "delta": None,
    "use_bias_correction_kl": False,
    "sync_ref_model": False,
    "top_entropy_quantile": 1.0,
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "off_policy_mask_threshold": None,
    "cast_lm_head_to_fp32": False,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "vllm_importance_sampling_correction": True,
    "vllm_importance_sampling_mode": "token_truncate",
    "vllm_importance_sampling_clip_max": 3.0,
}
PINNED_SFT = {
    "train_sampling_strategy": "sequential",
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "loss_type": "nll",
    "packing": False,
    "padding_free": False,
    "max_length": None,
    "activation_offloading": False,
    "neftune_noise_alpha": None,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_no_setting_changes_has_one_value_in_every_run(path: Path, tmp_path: Path) -> None:
    made = algorithm(path.stem)
    build, pinned = (
        (sft_arguments, PINNED_SFT) if made.kind == "sft" else (grpo_arguments, PINNED_RL)
    )
    arguments = build(made, folder=tmp_path, seed=0)
    found = {name: getattr(arguments, name) for name in PINNED_EVERYWHERE | pinned}
    assert found == PINNED_EVERYWHERE | pinned
