"""YaRN: only where it was asked for, with the numbers of Qwen3's model card."""

import json

import pytest

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.yarn import check_window, config_overrides, plan_yarn, usable_window
from longact_cli.models.loading import context_window

MODEL = ModelConfig(name="qwen", path="x")


def checkpoint(folder, **changes):
    settings = {"max_position_embeddings": 40960, "rope_theta": 1_000_000.0, **changes}
    (folder / "config.json").write_text(json.dumps(settings), "utf-8")
    return str(folder)


def asked(length=131072, **changes) -> BenchmarkConfig:
    values = {"name": "ruler", "tasks": ("vt",), "context_lengths": (length,), "limit": 1}
    return BenchmarkConfig(**{**values, **changes})


def test_qwen3_with_factor_4_has_the_window_of_its_model_card(tmp_path):
    path, benchmark = checkpoint(tmp_path), asked(yarn_factor=4.0)
    yarn = plan_yarn(path, model=MODEL, benchmark=benchmark)
    assert (yarn.factor, yarn.original, yarn.window) == (4.0, 32768, 131072)
    assert str(yarn) == "yarn 4 x 32768"
    check_window(path, model=MODEL, benchmark=benchmark)
    assert config_overrides(yarn, path, revision=None) == {
        "max_position_embeddings": 131072,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1_000_000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 32768,
        },
    }


def test_another_model_multiplies_its_whole_window_unless_told_otherwise(tmp_path):
    path = checkpoint(tmp_path, max_position_embeddings=8192)
    assert plan_yarn(path, model=MODEL, benchmark=asked(yarn_factor=2.5)).window == 20480
    told = asked(yarn_factor=2.0, yarn_original=4096)
    assert usable_window(path, model=MODEL, benchmark=told) == 8192


def test_without_yarn_a_longer_prompt_is_refused_in_one_line_that_names_it(tmp_path):
    path = checkpoint(tmp_path)
    with pytest.raises(ConfigError, match=r"window of 40960 tokens.*benchmark\.yarn_factor") as one:
        check_window(path, model=MODEL, benchmark=asked())
    assert "\n" not in str(one.value)
    assert config_overrides(None, path, revision=None) == {}


def test_yarn_that_is_not_enough_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="window of 65536 tokens"):
        check_window(checkpoint(tmp_path), model=MODEL, benchmark=asked(yarn_factor=2.0))


def test_yarn_in_the_checkpoint_counts_and_is_not_stacked(tmp_path):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    path = checkpoint(tmp_path, rope_scaling=rope)
    assert context_window(path) == 131072
    check_window(path, model=MODEL, benchmark=asked())
    with pytest.raises(ConfigError, match="of type 'yarn', which YaRN cannot extend"):
        plan_yarn(path, model=MODEL, benchmark=asked(yarn_factor=4.0))


def test_a_model_without_rotary_positions_cannot_be_stretched(tmp_path):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 1024}', "utf-8")
    with pytest.raises(ConfigError, match="of type 'none'"):
        plan_yarn(str(tmp_path), model=MODEL, benchmark=asked(yarn_factor=4.0))


def test_a_bound_of_the_user_holds_with_yarn(tmp_path):
    model = ModelConfig(name="qwen", path="x", max_context=65536)
    with pytest.raises(ConfigError, match=r"model\.max_context is 65536"):
        check_window(checkpoint(tmp_path), model=model, benchmark=asked(yarn_factor=4.0))
