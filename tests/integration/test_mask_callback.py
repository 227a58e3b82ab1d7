"""The row mask in trainers that know nothing of it: TRL's own SFT and GRPO trainers."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from longact_cli.masking import (
    MaskSettings,
    RowMaskCallback,
    SaliencyProbe,
    find_projections,
    select_rows,
)
from longact_cli.models.loading import load_tokenizer

STRICT = MaskSettings("salient", 0.3, update_semantics="strict")
COMMON = {
    "use_cpu": True,
    "report_to": "none",
    "logging_steps": 1,
    "disable_tqdm": True,
    "learning_rate": 1e-2,
    "weight_decay": 0.1,
    "dataloader_pin_memory": False,
    "bf16": False,
}


def load(checkpoint: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)


class Weights(TrainerCallback):
    """Checks every step that masked rows stood still and others moved."""

    def __init__(self, masking: RowMaskCallback) -> None:
        self.masking = masking
        self.logs: list[dict[str, float]] = []
        self.groups: list[int] = []

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **_) -> None:
        self.before = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.groups.append(len(optimizer.param_groups))

    def on_optimizer_step(self, args, state, control, model, **_) -> None:
        mask = self.masking.schedule.row_mask.mask
        for name, rows in mask.items():
            moved = (model.get_parameter(name).detach() - self.before[name]).abs()
            assert moved[~rows].max() == 0
            assert moved[rows].max() > 0

    def on_log(self, args, state, control, logs, **_) -> None:
        self.logs.append(dict(logs))


def sft(checkpoint: Path, out: Path, *, resume: bool = False, stop: int = 4):
    text = [f"one {word} two {word} three {word} four" for word in "abcdefghijklmnop"]
    callback = RowMaskCallback(STRICT._replace(refresh_every=2))
    recorder = Weights(callback)
    trainer = SFTTrainer(
        load(checkpoint),
        args=SFTConfig(
            output_dir=str(out),
            max_steps=4,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_steps=1,
            seed=1,
            **COMMON,
        ),
        train_dataset=Dataset.from_dict({"text": text}),
        processing_class=load_tokenizer(str(checkpoint)),
        callbacks=[callback, recorder],
    )
    trainer.train(resume_from_checkpoint=str(out / f"checkpoint-{stop}") if resume else None)
    return trainer, recorder


@pytest.mark.slow
def test_trl_sft_with_the_callback_holds_masked_rows_and_resumes_exactly(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    trainer, recorder = sft(tiny_checkpoint, tmp_path)
    final = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    assert recorder.logs[0]["mask/masked_drift_max"] == 0.0
    assert recorder.logs[0]["mask/update_ratio"] == pytest.approx(0.3, abs=0.02)
    assert not any(p._post_accumulate_grad_hooks for p in trainer.model.parameters())
    again, second = sft(tiny_checkpoint, tmp_path, resume=True, stop=3)  # in mid refresh
    assert second.groups == recorder.groups[:1]
    assert all(torch.equal(p, final[n]) for n, p in again.model.named_parameters())


@pytest.mark.slow
def test_trl_grpo_watched_takes_the_mask_from_the_distinct_prompts(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(str(tiny_checkpoint))
    prompts = ["the answer is", "what is the magic number"]
    callback = RowMaskCallback(STRICT)
    recorder = Weights(callback)
    trainer = GRPOTrainer(
        load(tiny_checkpoint),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            num_generations=4,
            max_completion_length=4,
            activation_checkpointing=True,
            save_strategy="no",
            **COMMON,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        reward_funcs=lambda completions, **_: [float(len(c) % 5) for c in completions],
        callbacks=[callback, recorder],
    )
    callback.watch(trainer)
    trainer.train()
    model = load(tiny_checkpoint)
    probe = SaliencyProbe(model, find_projections(model))
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        probe.add(ids, torch.ones_like(ids))
    expected = select_rows("salient", probe.saliency(), 0.3)
    actual = callback.schedule.row_mask.mask
    assert all(torch.equal(actual[name], rows) for name, rows in expected.items())
    assert recorder.logs[0]["mask/masked_drift_max"] == 0.0
