import pytest

from longact_cli.config.compose import compose, config_dir, groups, options, parse
from longact_cli.config.describe import known_keys
from longact_cli.config.sweep import expand
from longact_cli.errors import ConfigError

MASKS = "dense, file, frozen, gradient, lowest, random, random-head-matched, salient, wanda, weight"

WRONG = {
    "mask.sparsity=1.5": (
        "mask.sparsity is 1.5; it must be a number from 0 to 1 "
        "(the fraction of query/key rows that ARE updated)"
    ),
    "mask.sparsity=abc": (
        "mask.sparsity is 'abc'; it must be a number from 0 to 1 "
        "(the fraction of query/key rows that ARE updated)"
    ),
    "mask=salint": (f"mask is 'salint'; it must be one of: {MASKS}. Did you mean 'salient'?"),
    "mask.refresh_evry=4": (
        "'mask.refresh_evry' is not a setting. Did you mean 'mask.refresh_every'? "
        "`longact config show` lists all of them."
    ),
    "benchmark.context_lengths=[0]": (
        "benchmark.context_lengths is 0; it must be a non-empty list, each item a whole number "
        "of at least 1"
    ),
    "mask.strategy=magic": (f"mask.strategy is 'magic'; it must be one of: {MASKS}."),
    "seed=-1": "seed is -1; it must be a whole number of at least 0 and below 2147483648",
    "+seed=1": "'+seed=1' adds or removes a key; only key=value is allowed",
    "algorithm.updates_per_rollout=3": (
        "algorithm: checkpoint_every is 20; it must be a multiple of updates_per_rollout = 3"
    ),
    "algorithm.prefix_attention=flash": (
        "algorithm.prefix_attention is 'flash'; it must be one of: sdpa, flex"
    ),
    "parallel.processes=3": (
        "parallel.processes is 3; it must divide algorithm.prompts_per_step = 8, so that every "
        "process holds whole groups"
    ),
    "parallel.sharding=fsdp2": (
        "parallel.sharding is fsdp2; it needs parallel.processes of at least 2"
    ),
    "parallel.sharding=deepspeed": (
        "parallel.sharding is 'deepspeed'; it must be one of: ddp, fsdp2"
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_wrong_setting_is_answered_in_one_line(text, message):
    with pytest.raises(ConfigError) as caught:
        compose(parse([text]))
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_every_process_gets_whole_micro_batches_of_whole_groups():
    half = compose(parse(["parallel.processes=2"])).algorithm
    assert (half.micro_batch_size, half.micro_batch(2)) == (128, 64)
    odd = ["algorithm.prompts_per_step=6", "algorithm.group_size=4", "parallel.processes=2"]
    with pytest.raises(ConfigError, match="it must divide the 12 rollouts of a step on each"):
        compose(parse([*odd, "algorithm.micro_batch_size=8"]))


def test_a_way_to_look_at_shared_prompts_needs_shared_prompts():
    flex = "algorithm.prefix_attention=flex"
    assert compose(parse([flex])).algorithm.prefix_attention == "flex"
    with pytest.raises(ConfigError, match="'flex'; it only acts on shared prompts: set") as caught:
        compose(parse([flex, "algorithm.share_prompt_prefix=false"]))
    assert "\n" not in str(caught.value)


def test_a_budget_of_tokens_takes_the_place_of_a_size_in_rollouts():
    odd = ["algorithm.prompts_per_step=6", "algorithm.group_size=4", "algorithm.micro_batch_size=7"]
    budget = compose(parse([*odd, "algorithm.micro_batch_tokens=100"])).algorithm
    assert budget.micro_batch(1) == 24
    with pytest.raises(ConfigError, match="micro_batch_tokens is 0; it must be a whole number"):
        compose(parse(["algorithm.micro_batch_tokens=0"]))
    # Supervised training counts prompts.
    taught = compose(parse(["algorithm=sft", "algorithm.micro_batch_tokens=100"])).algorithm
    assert not taught.fills_tokens


def test_all_wrong_settings_are_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        compose(parse(["mask.sparsity=2", "algorithm.steps=0"]))
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 settings are wrong:"
    assert {line.split(" is ")[0] for line in lines[1:]} == {"mask.sparsity", "algorithm.steps"}


def test_a_sweep_is_refused_where_one_run_is_meant():
    with pytest.raises(ConfigError, match=r"mask.sparsity has 2 values.*longact ablate"):
        compose(parse(["mask.sparsity=0.1,0.3"]))


def test_the_last_value_of_a_key_wins():
    assert compose(parse(["seed=1", "seed=7"])).seed == 7


def test_every_choice_of_every_group_composes():
    pairs = [(group, choice) for group in groups() for choice in options(group)]
    assert len(pairs) > 10
    for group, choice in pairs:
        needed = ["mask.file=saved.safetensors"] if choice == "file" else []
        compose(parse([f"{group}={choice}", *needed]))


def test_expansion_is_the_cartesian_product_in_order():
    sweep = parse(["mask=salient,random", "mask.sparsity=0.1,0.3", "seed=range(0,2)"])
    found = [(c.mask.strategy, c.mask.sparsity, c.seed) for c in expand(sweep)]
    assert found[0] == ("salient", 0.1, 0)
    assert found[1] == ("salient", 0.1, 1)
    assert found[-1] == ("random", 0.3, 1)
    assert len(set(found)) == 8


def test_a_spelling_of_a_number_does_not_matter():
    assert compose(parse(["mask.sparsity=1"])) == compose(parse(["mask.sparsity=1.0"]))
    small = compose(parse(["algorithm.learning_rate=1e-6"]))
    assert small.algorithm.learning_rate == 0.000001


def test_a_model_brings_its_preset_unless_one_is_asked_for():
    assert compose(parse([])) == compose(parse(["model=micro"]))
    assert compose(parse(["model=path"])) != compose(parse(["model=path", "preset=micro"]))


def test_settings_are_documented_by_the_schema():
    assert "mask.sparsity" in known_keys()
    assert (config_dir() / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=choice(4,2,9)", [4, 2, 9]),
        ("seed=range(1,8,3)", [1, 4, 7]),
        ("seed=7,3", [7, 3]),
    ],
)
def test_the_sweep_syntax_of_hydra(text, expected):
    assert [config.seed for config in expand(parse([text]))] == expected


def test_a_range_of_fractions_and_lists_as_values_are_axes():
    found = expand(parse(["mask.sparsity=range(0.1,0.4,0.1)", "data.context_lengths=[256],[512]"]))
    pairs = [(c.mask.sparsity, c.data.context_lengths) for c in found]
    assert pairs == [(s, (n,)) for s in (0.1, 0.2, 0.3) for n in (256, 512)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask.sparsity=interval(0.1,0.5)", "names no single values"),
        ("mask=glob(*)", "names no single values"),
        ("seed=range(0,5,0)", "steps by 0"),
        ("mask.sparsity=range(0,0.5,0.0)", "steps by 0"),
        ("seed=range(0,1000000)", "1000000 combinations; a sweep holds at most 10000"),
    ],
)
def test_a_sweep_that_cannot_be_listed_is_refused_in_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse([text])
    assert "\n" not in str(caught.value)


def test_a_sweep_of_too_many_combinations_is_refused_before_it_is_composed():
    axes = [f"{key}=range(0,101)" for key in ("seed", "mask.refresh_every")]
    with pytest.raises(ConfigError, match="the sweep makes 10201 combinations"):
        expand(parse(axes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{time: 10}", "sbatch holds time, .* set executor.time_minutes"),
        ("{gpus_per_node: 2}", "set executor.gpus_per_cell"),
        ("{output: /tmp/x}", "leave it out$"),
    ],
)
def test_options_of_sbatch_that_longact_sets_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        compose(parse(["executor=slurm", f"executor.sbatch={options}"]))


def test_options_of_sbatch_may_be_numbers_and_flags():
    given = compose(parse(["executor=slurm", "executor.sbatch={nice: 100, exclusive: true}"]))
    assert given.executor.sbatch == {"nice": 100, "exclusive": True}
