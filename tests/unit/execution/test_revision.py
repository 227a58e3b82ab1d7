import hashlib

import pytest
import torch
from safetensors.torch import save_file

from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError
from longact_cli.execution import revision as module
from longact_cli.execution.revision import model_revision
from longact_cli.execution.revision import revision as input_revision
from longact_cli.plan import InputFile


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"w": torch.zeros(600_000)}, tmp_path / "model.safetensors")
    return tmp_path


def revision(folder):
    module._local_revision.cache_clear()
    return model_revision(ModelConfig(name="x", path=str(folder)))


def test_one_changed_weight_is_another_model(folder):
    before = revision(folder)
    weights = torch.zeros(600_000)
    weights[300_000] = 1.0
    save_file({"w": weights}, folder / "model.safetensors")
    assert revision(folder) != before


def test_a_large_checkpoint_is_identified_by_its_sampled_bytes(folder, monkeypatch):
    monkeypatch.setattr(module, "_WHOLE_BYTES", 1000)
    monkeypatch.setattr(module, "_SAMPLE_BYTES", 4096)
    before = revision(folder)
    assert before.startswith("sampled-")
    weights = torch.zeros(600_000)
    weights[-1] = 1.0
    save_file({"w": weights}, folder / "model.safetensors")
    assert revision(folder) != before


def test_a_hub_id_is_identified_by_its_revision():
    assert model_revision(ModelConfig(name="q", path="Qwen/Qwen3-4B")) == "Qwen/Qwen3-4B@main"
    pinned = ModelConfig(name="q", path="Qwen/Qwen3-4B", revision="abc")
    assert model_revision(pinned) == "Qwen/Qwen3-4B@abc"


def test_a_missing_folder_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"model\.path is '/nowhere'"):
        model_revision(ModelConfig(name="x", path="/nowhere"))


def test_a_changed_input_file_is_another_input(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("one")
    before = input_revision(InputFile("data.path", str(path)))
    assert before == hashlib.sha256(b"one").hexdigest()
    path.write_text("two!")
    assert input_revision(InputFile("data.path", str(path))) != before
    named = input_revision(InputFile("data.path", str(tmp_path)))
    path.rename(tmp_path / "renamed.jsonl")
    assert input_revision(InputFile("data.path", str(tmp_path))) != named


def test_a_hub_id_stands_for_itself_and_a_missing_file_is_named():
    assert input_revision(InputFile("data.path", "someone/dataset")) == "someone/dataset"
    with pytest.raises(ConfigError, match=r"mask.file is gone.safetensors"):
        input_revision(InputFile("mask.file", "gone.safetensors"))
