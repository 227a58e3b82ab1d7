"""Which checkpoint a setting names, and what identifies it."""

import json
from pathlib import Path

import pytest

from longact_cli.config.schema import ModelConfig
from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.models.loading import (
    checkpoint_sha256,
    context_window,
    load_model,
    load_tokenizer,
    resolve_checkpoint,
    tokenizer_sha256,
)
from longact_cli.models.micro import micro_checkpoint_path

MICRO = ModelConfig(name="micro")


def test_micro_without_a_path_is_the_packaged_checkpoint() -> None:
    assert resolve_checkpoint(MICRO) == str(micro_checkpoint_path())


def test_a_local_folder_with_a_config_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_checkpoint(ModelConfig(name="path", path=str(tmp_path))) == str(tmp_path)


def test_a_hub_id_passes_through() -> None:
    config = ModelConfig(name="qwen3-4b", path="Qwen/Qwen3-4B")
    assert resolve_checkpoint(config) == "Qwen/Qwen3-4B"


@pytest.mark.parametrize("path", ["/nowhere", "./nowhere/model", "~/nowhere", "a/b/c", ""])
def test_a_path_that_does_not_exist_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.path is '.*'; it must be") as caught:
        resolve_checkpoint(ModelConfig(name="path", path=path))
    assert "\n" not in str(caught.value)


def test_an_existing_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        resolve_checkpoint(ModelConfig(name="path", path=str(tmp_path)))


def test_a_null_path_needs_the_name_micro() -> None:
    with pytest.raises(ConfigError, match=r"model\.path is null and model\.name is 'other'"):
        resolve_checkpoint(ModelConfig(name="other"))


def test_the_context_window_is_the_number_of_positions_in_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4321}))
    assert context_window(str(tmp_path)) == 4321


def test_a_config_without_a_window_is_a_missing_prerequisite(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PrerequisiteError, match=r"model\.max_context"):
        context_window(str(tmp_path))


def test_a_checkpoint_that_is_not_on_this_machine_is_named() -> None:
    with pytest.raises(PrerequisiteError, match="nobody/nothing"):
        context_window("nobody/nothing")


def test_the_checkpoint_hash_follows_the_weights_and_not_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = checkpoint_sha256(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert checkpoint_sha256(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert checkpoint_sha256(str(tmp_path)) != first


def test_the_tokenizer_hash_follows_the_chat_template(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("a")
    first = tokenizer_sha256(str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("b")
    assert tokenizer_sha256(str(tmp_path)) != first


def test_weights_load_as_float32_masters_with_the_asked_attention() -> None:
    model = load_model(str(micro_checkpoint_path()), model=MICRO)
    assert {str(parameter.dtype) for parameter in model.parameters()} == {"torch.float32"}
    assert model.config._attn_implementation == "sdpa"


def test_the_tokenizer_pads_on_the_left() -> None:
    tokenizer = load_tokenizer(str(micro_checkpoint_path()))
    batch = tokenizer(["7", "7 7"], padding=True)["input_ids"]
    assert batch[0][0] == tokenizer.pad_token_id
    assert batch[0][-1] == batch[1][0]
