import pytest

from longact_cli.config.compose import compose, parse
from longact_cli.config.sweep import expand
from longact_cli.controls import plan_sweep
from longact_cli.errors import ConfigError
from longact_cli.plan import (
    build_plan,
    canonical_mask,
    differing_keys,
    eval_cell,
    plan_labels,
    train_cell,
)


def revision(_model):
    return "weights-1"


def config(*overrides):
    return compose(parse(overrides))


def digest(*overrides):
    return train_cell(config(*overrides), revision).digest


def sweep(*overrides, controls=True):
    configs = expand(parse(overrides))
    return plan_sweep("s", configs, revision=revision, controls=controls)


def arms(plan, stage="train"):
    return [(cell.arm, cell.sparsity) for cell in plan.cells if cell.stage == stage]


def test_each_ratio_brings_its_random_control_and_dense_is_trained_once():
    plan = sweep("mask.sparsity=0.1,0.3,0.5")
    assert sorted(arms(plan)) == [
        ("dense", 1.0),
        ("random", 0.1),
        ("random", 0.3),
        ("random", 0.5),
        ("salient", 0.1),
        ("salient", 0.3),
        ("salient", 0.5),
    ]
    assert arms(plan, "eval").count(("base", None)) == 1
    assert len(plan.cells) == 7 + 8


def test_without_controls_only_the_asked_cells_and_the_base_remain():
    plan = sweep("mask.sparsity=0.1,0.3", controls=False)
    assert arms(plan) == [("salient", 0.1), ("salient", 0.3)]
    assert len(plan.cells) == 2 + 3


def test_equal_cells_merge_and_keep_every_reason():
    plan = sweep("mask=salient,random", "mask.sparsity=0.3")
    random = next(cell for cell in plan.cells if cell.arm == "random" and cell.stage == "train")
    assert random.asked_by == ("control", "sweep") or random.asked_by == ("sweep", "control")


def test_dense_and_all_rows_are_the_same_experiment():
    assert digest("mask=dense") == digest("mask=salient", "mask.sparsity=1.0")
    assert digest("mask=frozen") == digest("mask=lowest", "mask.sparsity=0")
    assert digest("mask=dense", "mask.site=proj") == digest("mask=dense")


def test_a_random_mask_does_not_depend_on_how_saliency_is_read():
    assert digest("mask=random", "mask.site=proj") == digest("mask=random")
    assert digest("mask=salient", "mask.site=proj") != digest("mask=salient")


@pytest.mark.parametrize(
    "override",
    ["seed=1", "mask.sparsity=0.31", "algorithm.steps=42", "data.context_lengths=[400]"],
)
def test_a_scientific_setting_changes_the_digest(override):
    assert digest(override) != digest()


@pytest.mark.parametrize(
    "override",
    [
        "executor.workers=7",
        "algorithm.checkpoint_every=10",
        "benchmark.limit=3",
        "vllm=server",
        "parallel.processes=1",
        "tracking.uri=http://server:5000",
    ],
)
def test_a_setting_of_how_it_runs_does_not_change_the_training_digest(override):
    assert digest(override) == digest()


def test_another_kernel_makes_another_cell_and_the_default_one_adds_nothing():
    assert digest("algorithm.prefix_attention=sdpa") == digest()
    assert digest("algorithm.prefix_attention=flex") != digest()
    sft = "algorithm=sft"
    assert digest(sft, "algorithm.prefix_attention=flex") == digest(sft)


def test_of_two_sizes_of_a_micro_batch_the_digest_has_the_one_that_is_read():
    tokens = "algorithm.micro_batch_tokens=2000"
    assert digest("algorithm.micro_batch_tokens=null") == digest()
    assert len({digest(), digest(tokens), digest("algorithm.micro_batch_tokens=2001")}) == 3
    assert digest(tokens, "algorithm.micro_batch_size=16") == digest(tokens)
    assert digest("algorithm=sft", tokens) == digest("algorithm=sft")


def test_the_number_of_processes_is_science_since_each_draws_its_own_rollouts():
    assert len({digest(), digest("parallel.processes=2"), digest("parallel.processes=4")}) == 3


def test_other_starting_weights_are_another_cell():
    other = train_cell(config(), lambda _model: "weights-2").digest
    assert other != digest()


def test_an_evaluation_depends_on_its_training():
    first = train_cell(config("seed=0"), revision)
    second = train_cell(config("seed=1"), revision)
    base = config()
    evals = [eval_cell(base, revision, parent=parent) for parent in (first, second, None)]
    assert len({cell.digest for cell in evals}) == 3
    assert evals[0].parent == first.digest
    assert evals[1].config.seed == 1


def test_the_base_evaluation_does_not_depend_on_training_settings():
    one = eval_cell(config("seed=1", "mask=random"), revision, parent=None)
    two = eval_cell(config("algorithm=grpo"), revision, parent=None)
    assert one.digest == two.digest


def test_parents_come_before_their_children():
    plan = sweep("seed=0,1,2")
    seen = set()
    for cell in plan.cells:
        assert cell.parent is None or cell.parent in seen
        seen.add(cell.digest)


def test_adding_a_value_keeps_the_digests_of_the_others():
    small = {cell.digest for cell in sweep("mask.sparsity=0.1,0.3").cells}
    large = {cell.digest for cell in sweep("mask.sparsity=0.1,0.3,0.5").cells}
    assert small < large
    assert len(large - small) == 4


def test_an_empty_plan_is_refused():
    with pytest.raises(ConfigError, match="the sweep is empty"):
        build_plan("s", [])


def test_differing_keys_names_both_values():
    assert differing_keys(config("seed=1"), config("seed=2")) == ("seed: 1 -> 2",)


def test_canonical_mask_keeps_a_masked_strategy():
    mask = config("mask=lowest", "mask.sparsity=0.5").mask
    assert canonical_mask(mask) == mask


def test_a_file_counts_by_its_content_and_not_by_its_name():
    def content(of):
        return lambda source: "weights-1" if not hasattr(source, "key") else of

    def cell(path, of):
        asked = config("mask=file", f"mask.file={path}")
        return train_cell(asked, content(of))

    assert cell("a.safetensors", "x").digest == cell("b.safetensors", "x").digest
    assert cell("a.safetensors", "x").digest != cell("a.safetensors", "y").digest
    assert cell("a.safetensors", "x").inputs == (("mask.file", "x"),)


def test_supervised_fine_tuning_does_not_depend_on_settings_of_rollouts():
    asked = ("algorithm=sft", "algorithm.temperature=0.5", "data.reward=choice")
    assert digest("algorithm=sft") == digest(*asked)
    assert digest("algorithm=sft") != digest("algorithm=sft", "algorithm.learning_rate=0.5")


def test_cells_that_differ_in_a_setting_differ_in_their_name():
    texts = ["mask.refresh_every=1,4", "data.context_lengths=[256],[256,320]"]
    plan = sweep(*texts, controls=False)
    labels = plan_labels(plan)
    assert len(set(labels.values())) == len(plan.cells) == 9
    assert labels[plan.cells[1].digest] == (
        "train micro dapo salient 0.3 seed 0 data.context_lengths=[256,320] mask.refresh_every=1"
    )


def test_names_leave_out_what_does_not_count_and_what_only_one_cell_has():
    alone = ["seed=0,1", "algorithm.checkpoint_every=2", "executor.threads_per_worker=1,2"]
    plan = sweep(*alone)
    assert plan_labels(plan) == {cell.digest: cell.label for cell in plan.cells}


def test_names_take_no_more_settings_than_they_need():
    texts = ["mask.refresh_every=1 data.split=a", "mask.refresh_every=4 data.split=b"]
    cells = [train_cell(config(*text.split()), revision) for text in texts]
    labels = plan_labels(build_plan("s", cells))
    assert [label.removeprefix(cells[0].label) for label in labels.values()] == [
        " data.split=a",
        " data.split=b",
    ]
