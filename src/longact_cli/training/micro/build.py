"""Build the embedded checkpoint from nothing: tokenizer, base stage, SFT stage, provenance."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

from longact_cli.models.loading import checkpoint_sha256, tokenizer_sha256
from longact_cli.models.micro import MicroShape, micro_config
from longact_cli.training.micro.batches import Mixture
from longact_cli.training.micro.pretrain import Phase, Recipe, pretrain
from longact_cli.training.micro.probe import answer_accuracy
from longact_cli.training.micro.tokenizer import END_OF_TEXT, build_tokenizer

DEFAULT_STEPS = 1750
BASE: dict[str, float] = {
    "copied_list": 0.3,
    "pairs_recall": 1.0,
    "needle_recall": 1.0,
    "short_question": 1.2,
    "full_question": 1.0,
}
SFT: dict[str, float] = {"short_question": 0.3, "full_question": 0.3, "chat_questions": 2.0}
# Each phase: its start as a share of all steps, tokens per row, needles at most. The base stage
# ends with long rows; SFT has short ones only (and biased demonstrations, see the corpus), so that
# RL at the default evaluation lengths has something to improve.
PHASES = (
    Phase(0.0, Mixture(BASE, 104, 3)),
    Phase(0.17, Mixture(BASE, 160, 4)),
    Phase(0.34, Mixture(BASE, 256, 7)),
    Phase(0.51, Mixture(BASE, 512, 18)),
    Phase(0.86, Mixture(SFT, 320, 9)),
)
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "wonderwords")


class MicroProvenance(NamedTuple):
    """How a micro checkpoint was made; stored beside it as PROVENANCE.json."""

    command: str
    seed: int
    steps: int
    tokens: int
    parameters: int
    shape: dict[str, int]
    answer_accuracy: dict[str, float]
    """Greedy exact match on held-out keys, by `task@prompt tokens`, in 0..1."""
    versions: dict[str, str]
    checkpoint_sha256: str
    tokenizer_sha256: str


def build_micro(
    out: Path,
    *,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    progress: Callable[[int, int, float], None],
) -> MicroProvenance:
    """Train the micro model and write it to `out` as a plain Hugging Face checkpoint.

    One thread and a fixed number of steps: the same seed, steps and package versions give the same
    bytes on the same kind of processor.

    Args:
        out: Folder to create or replace.
        seed: Seed of the tokenizer text, the initial weights and all batches.
        steps: Optimizer steps of both stages together.
        progress: Called with (steps done, steps, answer loss in nats).
    """
    tokenizer = build_tokenizer(seed)
    model = _initial_model(tokenizer, seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tokens = pretrain(
            model, tokenizer, recipe=Recipe(steps, PHASES), seed=seed, progress=progress
        )
        model.to(torch.bfloat16)
        accuracy = answer_accuracy(model, tokenizer, seed=seed)
    finally:
        torch.set_num_threads(threads)
    _save(model, tokenizer, out)
    provenance = MicroProvenance(
        command=f"longact models build --out DIR --seed {seed} --steps {steps}",
        seed=seed,
        steps=steps,
        tokens=tokens,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        shape=MicroShape()._asdict(),
        answer_accuracy=accuracy,
        versions={name: version(name) for name in _PACKAGES},
        checkpoint_sha256=checkpoint_sha256(str(out)),
        tokenizer_sha256=tokenizer_sha256(str(out)),
    )
    text = json.dumps(provenance._asdict(), indent=2) + "\n"
    (out / "PROVENANCE.json").write_text(text, encoding="utf-8")
    return provenance


def _initial_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Build the model with weights drawn from `seed`, leaving the global generator as it was."""
    config = micro_config(
        MicroShape(),
        vocabulary_size=len(tokenizer),
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def _save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write to a neighbouring folder first, so that `out` is never half a checkpoint."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TEXT)]
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
