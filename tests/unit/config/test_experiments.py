from pathlib import Path

import pytest

from longact_cli.config.compose import parse
from longact_cli.config.experiment import load_experiment
from longact_cli.config.sweep import expand
from longact_cli.errors import ConfigError

FILES = sorted((Path(__file__).resolve().parents[3] / "experiments").rglob("*.yaml"))


def test_there_are_studies():
    assert len(FILES) >= 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_file_expands_to_a_non_empty_plan(path):
    experiment = load_experiment(path)
    assert experiment.study
    assert experiment.question
    assert expand(parse(experiment.overrides))


def test_a_study_file_with_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("studdy: a\n")
    with pytest.raises(ConfigError, match="studdy"):
        load_experiment(path)


def test_a_study_file_may_use_the_sweep_syntax(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text('sweep:\n  seed: "range(0,2)"\n  mask.sparsity: choice(0.1,0.5)\n')
    found = [(c.seed, c.mask.sparsity) for c in expand(parse(load_experiment(path).overrides))]
    assert found == [(0, 0.1), (0, 0.5), (1, 0.1), (1, 0.5)]


def test_an_axis_of_a_study_file_may_hold_lists_and_null(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "sweep:\n  data.context_lengths: [[256], [256, 320]]\n"
        "  algorithm.micro_batch_tokens: [null, 4096]\n  algorithm.share_prompt_prefix: false\n"
    )
    found = [
        (c.data.context_lengths, c.algorithm.micro_batch_tokens)
        for c in expand(parse(load_experiment(path).overrides))
    ]
    lengths = ((256,), (256, 320))
    assert found == [(length, tokens) for length in lengths for tokens in (None, 4096)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "does not fit"),
        (b"\x80abc", "does not fit"),
        (b"a: [", "does not fit"),
        (b"sweep: 3", "sweep: input should be a valid dictionary"),
        (b"sweep: {seed: {a: 1}}", "sweep: seed must be a value or a list of values"),
        (b"seeds: 3", "'seeds' is not one of study, question, model, controls, sweep"),
        (b"[1, 2]", "does not fit"),
    ],
)
def test_a_study_file_that_cannot_be_read_is_one_short_line(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    said = str(caught.value).removeprefix(f"--experiment {path} ")
    assert message in said
    assert "\n" not in said
    assert "pydantic" not in said
    assert len(said) < 200
