from pathlib import Path

import pytest

from longact_cli.config.compose import compose, parse
from longact_cli.controls import plan_train
from longact_cli.errors import ConfigError, TooShortError
from longact_cli.evaluation.ruler.generator import RulerSource, make_sample
from longact_cli.execution.preflight import check_plan
from longact_cli.models.loading import load_tokenizer
from longact_cli.models.micro import micro_checkpoint_path
from longact_cli.training.context_lengths import check_context_lengths
from longact_cli.training.data import GeneratedPrompts, PromptMixture, prompt_seed

RARE = 839
"""The first prompt of seed 0 whose key and numbers take more than 256 tokens."""


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(micro_checkpoint_path()))


def check(*settings: str, window: int = 2048) -> None:
    config = compose(parse(["data.tasks=[niah_single_1,niah_multikey_2]", *settings]))
    check_context_lengths(config, checkpoint=micro_checkpoint_path(), window=window)


def test_a_rare_prompt_beyond_its_length_is_drawn_anew_and_no_other_changes(tokenizer) -> None:
    mixture = PromptMixture(("niah_single_1", "niah_multikey_2"), (256,), True, 0, 2032)
    prompts = GeneratedPrompts(mixture, tokenizer=tokenizer)
    source = RulerSource(tokenizer, seed=prompt_seed(0), split="train")
    with pytest.raises(TooShortError, match=r"niah_multikey_2 needs at least 272"):
        make_sample("niah_multikey_2", 256, index=RARE, source=source)

    row = prompts.row(RARE, at=RARE)
    assert row["sample_id"] == f"ruler/niah_multikey_2/256/{10_000_000 + RARE}"
    assert len(tokenizer(row["prompt"])["input_ids"]) <= 256 - 128
    for index in (RARE - 2, RARE + 2):
        drawn = make_sample("niah_multikey_2", 256, index=index, source=source)
        kept = prompts.row(index, at=index)
        assert (kept["prompt"], kept["sample_id"]) == (drawn.prompt, drawn.id)


def test_a_length_that_no_sample_fits_ends_after_a_bounded_number_of_draws(tokenizer) -> None:
    prompts = GeneratedPrompts(PromptMixture(("fwe",), (200,), True, 0, 2032), tokenizer=tokenizer)
    with pytest.raises(TooShortError, match=r"data\.context_lengths is 200; fwe needs"):
        prompts.row(0, at=0)


def test_a_length_that_few_samples_fit_is_refused_with_one_that_does() -> None:
    check("data.context_lengths=[256,512]")
    with pytest.raises(ConfigError) as caught:
        check("data.context_lengths=[512,240]")
    line = str(caught.value)
    assert "data.context_lengths has 240: niah_single_1 needs" in line
    assert "give lengths of 272 or more" in line
    check("data.context_lengths=[512,272]")


@pytest.mark.parametrize("task", ["keychain", "vt", "cwe", "fwe", "niah_multikey_3"])
def test_every_task_gets_by_with_the_length_it_asks_for(task: str, tokenizer) -> None:
    with pytest.raises(ConfigError, match=f"{task} needs") as caught:
        check(f"data.tasks=[{task}]", "data.context_lengths=[192]")
    enough = int(str(caught.value).partition("give lengths of ")[2].split()[0])
    check(f"data.tasks=[{task}]", f"data.context_lengths=[{enough}]")
    mixture = PromptMixture((task,), (enough,), True, 0, 2032)
    prompts = GeneratedPrompts(mixture, tokenizer=tokenizer)
    assert all(prompts.row(index, at=index)["prompt"] for index in range(4))


def test_prompts_that_leave_no_room_for_the_completion_are_refused() -> None:
    completion = "algorithm.max_completion_tokens=256"
    check("data.context_lengths=[896]", completion, window=1024)
    with pytest.raises(ConfigError, match=r"take up to 769 tokens.*leaves 768.*at most 896"):
        check("data.context_lengths=[897]", completion, window=1024)


def test_the_prompts_that_activations_are_measured_on_are_looked_at_too() -> None:
    check("data.context_lengths=[512]", "mask.prompts=short")
    with pytest.raises(ConfigError, match=r"mask\.prompt_length has 128"):
        check("data.context_lengths=[512]", "mask.prompts=short", window=1024)
    with pytest.raises(ConfigError, match=r"mask\.prompt_length has 4096.*window is 2048"):
        check("data.context_lengths=[512]", "mask.prompts=long", "mask.prompt_length=4096")


def test_the_plan_refuses_what_training_would_and_writes_nothing(tmp_path: Path) -> None:
    def plan(*settings: str):
        config = compose(parse(["data.context_lengths=[200]", *settings]))
        return plan_train("s", config, revision=lambda _: "r")

    with pytest.raises(ConfigError, match=r"data\.context_lengths has 200"):
        check_plan(plan())
    with pytest.raises(ConfigError, match="for evaluation only"):
        check_plan(plan("data.tasks=[qa_1]"))
    check_plan(plan("data.path=prompts.jsonl"))
    assert not list(tmp_path.iterdir())
