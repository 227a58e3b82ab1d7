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
