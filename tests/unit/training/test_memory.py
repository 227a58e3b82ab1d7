from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.config.compose import compose, parse
from longact_cli.training.memory import (
    KNOWN_SHAPES,
    ONE_DEVICE,
    Layout,
    ModelShape,
    checkpoint_shape,
    estimate_memory,
    shape_of,
)

SHAPE = ModelShape(2, 8, 16, 4, 2, 4, 100, tied_embeddings=True)


def algorithm(**changes: object) -> AlgorithmConfig:
    settings = {"micro_batch_size": 1, "kl_coef": 0.0, "bf16": False, **changes}
    base = compose(parse(["model=path", "algorithm=dapo"])).algorithm
    return AlgorithmConfig.model_validate({**base.model_dump(), **settings})


@pytest.mark.parametrize(("name", "billions"), [("Qwen/Qwen3-4B", 4.02), ("Qwen/Qwen3-8B", 8.19)])
def test_the_named_models_have_their_published_number_of_parameters(name, billions) -> None:
    assert KNOWN_SHAPES[name].parameters / 1e9 == pytest.approx(billions, abs=0.005)


def test_the_shape_of_a_checkpoint_counts_its_weights(tiny_checkpoint: Path) -> None:
    shape = checkpoint_shape(str(tiny_checkpoint))
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    matrices = {p.data_ptr(): p.numel() for p in model.parameters() if p.dim() == 2}
    assert shape.parameters == sum(matrices.values())


def test_a_checkpoint_that_is_not_known_has_no_shape() -> None:
    assert checkpoint_shape("somebody/something") is None
    assert shape_of({"model_type": "mamba", "hidden_size": 8}) is None


def test_float32_states_take_sixteen_bytes_per_parameter() -> None:
    # attention 2 x 8 x 4 x (4 + 2) = 384, feed-forward 3 x 8 x 16 = 384; embeddings 800
    assert SHAPE.parameters == 2 * 768 + 800
    memory = estimate_memory(SHAPE, algorithm(), sequence_tokens=10)
    assert memory.states == 16 * 2336
    assert (memory.half_weights, memory.reference) == (0, 0)


def test_activations_follow_tokens_precision_and_checkpointing() -> None:
    # a layer keeps 4 x 8 + 4 x 16 + 4 x 8 + 4 x 16 = 192 values per token
    plain = estimate_memory(SHAPE, algorithm(), sequence_tokens=10)
    assert plain.activations == 10 * 2 * 192 * 4
    half = estimate_memory(SHAPE, algorithm(bf16=True, micro_batch_size=4), sequence_tokens=10)
    assert half.activations == 40 * 2 * 192 * 2
    saved = estimate_memory(SHAPE, algorithm(gradient_checkpointing=True), sequence_tokens=10)
    assert saved.activations == 10 * (2 * 8 + 192) * 4


def test_a_shared_prompt_is_counted_once_where_its_rollouts_are_sure_to_meet() -> None:
    width = 2 * 192 * 4  # bytes of activations per token
    sizes = {"prompts_per_step": 4, "group_size": 4, "max_completion_tokens": 3}
    sizes |= {"micro_batch_size": 8, "updates_per_rollout": 2}

    def tokens(layout: Layout = ONE_DEVICE, **changes: object) -> float:
        settings = algorithm(**{**sizes, **changes})
        found = estimate_memory(SHAPE, settings, sequence_tokens=10, layout=layout)
        return found.activations / width

    assert tokens() == 8 * 10  # dealt out one by one, to two updates
    assert tokens(whole_groups=True) == 2 * (7 + 4 * 3)
    assert tokens(micro_batch_size=16, updates_per_rollout=1) == 4 * (7 + 4 * 3)
    assert tokens(whole_groups=True, share_prompt_prefix=False) == 8 * 10
    assert tokens(Layout(2, sharded=True), whole_groups=True, micro_batch_size=4) == 7 + 4 * 3


def test_a_budget_bounds_the_tokens_of_a_micro_batch_but_not_below_one_rollout() -> None:
    width = 2 * 192 * 4
    sizes = {"prompts_per_step": 4, "group_size": 4, "max_completion_tokens": 3}
    for budget, tokens in ((50, 50), (6, 10), (1000, 4 * (7 + 4 * 3))):
        settings = algorithm(**sizes, updates_per_rollout=1, micro_batch_tokens=budget)
        found = estimate_memory(SHAPE, settings, sequence_tokens=10)
        assert found.activations == tokens * width


def test_fsdp2_adds_up_whole_gradients_unless_each_micro_batch_is_reduced() -> None:
    layout = Layout(2, sharded=True)
    for changes, copies in (
        ({}, 1),
        ({"micro_batch_size": 16}, 0),
        ({"micro_batch_tokens": 20}, 0),
    ):
        settings = algorithm(prompts_per_step=8, group_size=4, **changes)
        memory = estimate_memory(SHAPE, settings, sequence_tokens=10, layout=layout)
        assert memory.gradients == copies * 4 * 2336
    assert estimate_memory(SHAPE, algorithm(), sequence_tokens=10).gradients == 0


def test_rollouts_of_vllm_hold_half_weights_and_those_of_training_every_cache() -> None:
    # cache: 2 x 2 layers x 2 heads x 4 = 32 values per token
    vllm = estimate_memory(SHAPE, algorithm(use_vllm=True), sequence_tokens=10)
    assert vllm.rollouts == 2 * (2336 + 320)
    small = {"prompts_per_step": 2, "group_size": 4, "updates_per_rollout": 8}
    own = estimate_memory(SHAPE, algorithm(**small), sequence_tokens=10)
    assert own.rollouts == 4 * 320 * 64


def test_a_reference_model_and_bfloat16_copies_are_counted() -> None:
    memory = estimate_memory(SHAPE, algorithm(kl_coef=0.04, bf16=True), sequence_tokens=10)
    assert (memory.reference, memory.half_weights) == (4 * 2336, 2 * 2336)
    assert memory.total == sum(memory)


def test_fsdp2_splits_states_and_gathers_two_layers_at_a_time() -> None:
    layout = Layout(processes=4, sharded=True)
    memory = estimate_memory(
        SHAPE, algorithm(kl_coef=0.04, bf16=True), sequence_tokens=10, layout=layout
    )
    assert memory.states == 16 * 2336 // 4
    assert memory.reference == 4 * 2336 // 4
    assert memory.half_weights == 2 * (2 * 768 + 800)
    copies = estimate_memory(SHAPE, algorithm(), sequence_tokens=10, layout=Layout(processes=4))
    assert copies.states == 16 * 2336


def test_processes_share_rollouts_and_a_server_takes_them_all() -> None:
    small = {"prompts_per_step": 4, "group_size": 4, "updates_per_rollout": 2}
    own = estimate_memory(SHAPE, algorithm(**small), sequence_tokens=10, layout=Layout(2))
    assert own.rollouts == 4 * 320 * 32 // 2
    served, paired = (
        estimate_memory(SHAPE, algorithm(use_vllm=True), sequence_tokens=10, layout=layout)
        for layout in (Layout(2, server=True), Layout(2, engine_gpus=2))
    )
    assert (served.rollouts, paired.rollouts) == (0, 2 * (2336 + 320) // 2)


def test_the_8b_preset_fits_the_80_gb_gpus_of_one_node() -> None:
    config = compose(parse(["model=qwen3-8b"]))
    tokens = 32768 + config.algorithm.max_completion_tokens
    layout = Layout.of(config.parallel, config.vllm)
    assert layout == Layout(processes=8, sharded=True)
    shape = checkpoint_shape(config.model.path)
    memory = estimate_memory(shape, config.algorithm, sequence_tokens=tokens, layout=layout)
    assert memory.total < 80e9


@pytest.mark.parametrize(
    ("name", "states", "fits"), [("qwen3-4b", 64, True), ("qwen3-8b", 131, False)]
)
def test_presets_at_paper_scale(name: str, states: int, fits: bool) -> None:
    config = compose(parse([f"model={name}"]))
    assert config.algorithm.learning_rate == 1e-6
    assert config.data.context_lengths == (32768,)
    tokens = 32768 + config.algorithm.max_completion_tokens
    shape = checkpoint_shape(config.model.path)
    memory = estimate_memory(shape, config.algorithm, sequence_tokens=tokens)
    assert memory.states / 1e9 == pytest.approx(states, abs=0.5)
    assert (memory.total < 141e9) == fits


def test_a_model_given_by_its_path_never_gets_sizes_of_the_micro_model() -> None:
    for name in ("dapo", "kl-cov", "sft"):
        config = compose(parse(["model=path", f"algorithm={name}"]))
        assert config.algorithm.learning_rate <= 1e-5
        assert config.algorithm.max_completion_tokens >= 1024
    assert compose(parse(["algorithm=gspo"])).algorithm.learning_rate > 1e-4
