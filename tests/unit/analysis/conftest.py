"""Checkpoints and prompts small enough for an analysis in a second."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ..masking.tiny_models import CONFIGS

WORDS = "the special magic number for one of these is hidden within following text quiz".split()


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prompts of about 80 words each."""
    path = tmp_path_factory.mktemp("prompts") / "texts.jsonl"
    texts = [
        " ".join(WORDS[(7 * line + place * place) % len(WORDS)] for place in range(80))
        for line in range(6)
    ]
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="session")
def hostile_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in a folder whose name is HTML and LaTeX."""
    folder = tmp_path_factory.mktemp("models") / "<img src=x>&$_{%}"
    shutil.copytree(tiny_checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def moved_checkpoint(hostile_checkpoint: Path) -> Path:
    """The tiny checkpoint with every entry of the query and key weights changed a little."""
    folder = hostile_checkpoint.with_name("moved")
    shutil.copytree(hostile_checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, values in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weights[name] = values + 0.01 * torch.randn(values.shape, generator=generator)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session", params=["phi3 (fused qkv)", "gpt2 (Conv1D)"])
def fused_checkpoint(
    request: pytest.FixtureRequest, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A random decoder whose query and key share one weight, with the tiny tokenizer."""
    folder = tmp_path_factory.mktemp("fused") / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    config = type(CONFIGS[request.param])(**{
        **CONFIGS[request.param].to_dict(), "vocab_size": len(tokenizer),
    })  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
