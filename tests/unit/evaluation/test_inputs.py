"""What is refused before a plan starts."""

import json
import shutil

import pytest

from longact_cli.config.schema import BenchmarkConfig, ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.evaluation.inputs import check_inputs, check_tokenizer, data_hashes, data_sha256


def asked(**changes) -> BenchmarkConfig:
    values = {"name": "ruler", "tasks": ("qa_1",), "context_lengths": (512,), "limit": 1}
    return BenchmarkConfig(**{**values, **changes})


def copy(checkpoint, folder):
    return shutil.copytree(checkpoint, folder / "copy")


def model(folder) -> ModelConfig:
    return ModelConfig(name="path", path=str(folder))


def test_a_good_evaluation_passes(tiny_checkpoint, data_dir):
    check_inputs(model(tiny_checkpoint), asked(data_dir=str(data_dir)))


def test_the_hash_is_that_of_the_files_the_tasks_need_wherever_they_lie(data_dir, tmp_path):
    shutil.copy(data_dir / "squad.json", tmp_path)
    here, there = asked(data_dir=str(data_dir)), asked(data_dir=str(tmp_path))
    assert list(data_hashes(here)) == ["squad.json"]
    assert data_sha256(here) == data_sha256(there)
    both = asked(data_dir=str(data_dir), tasks=("qa_1", "qa_2"))
    assert list(data_hashes(both)) == ["squad.json", "hotpotqa.json"]
    assert data_sha256(both) != data_sha256(here)
    assert data_sha256(asked(tasks=("vt",))) is None
    changed = json.loads((tmp_path / "squad.json").read_text("utf-8"))
    changed["version"] = 2
    (tmp_path / "squad.json").write_text(json.dumps(changed), "utf-8")
    assert data_sha256(here) != data_sha256(there)


def test_a_tokenizer_without_a_chat_template_is_refused_where_one_is_used(
    tiny_checkpoint, tmp_path
):
    folder = copy(tiny_checkpoint, tmp_path)
    for name in ("chat_template.jinja", "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ConfigError, match=r"has no chat template; set benchmark\.chat_template"):
        check_inputs(model(folder), asked(tasks=("niah_single_1",)))
    check_inputs(model(folder), asked(tasks=("niah_single_1",), chat_template=False))
    check_inputs(model(folder), asked(tasks=("niah_single_1",), mode="base"))


def test_a_tokenizer_of_another_model_is_refused(tiny_checkpoint, tmp_path):
    folder = copy(tiny_checkpoint, tmp_path)
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings["vocab_size"] = 100
    path.write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ConfigError, match="but the model knows 100 tokens"):
        check_tokenizer(folder, chat_template=True)
