"""Run a real trainer and keep what it saw."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback

from longact_cli.config.schema import RunConfig
from longact_cli.masking import MaskSchedule
from longact_cli.models.loading import load_model, load_tokenizer
from longact_cli.training.train import (
    build_trainer,
    mask_settings,
    prompt_source,
    refill_prompts,
)


class Recorder(TrainerCallback):
    """Keeps what the optimizer is about to see, and every micro-batch with its loss."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.weights: list[dict[str, Tensor]] = []
        self.batches: list[dict[str, Tensor]] = []
        self.losses: list[float] = []
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args, state, control, model, **_) -> None:
        self.gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
        self.weights.append({n: p.detach().clone() for n, p in model.named_parameters()})

    def on_log(self, args, state, control, logs, **_) -> None:
        self.logs.append(dict(logs))


def run(
    config: RunConfig, out: Path, callbacks: Sequence[TrainerCallback] = ()
) -> tuple[Recorder, object]:
    """Train the cell and return what was seen on the way, and the trainer."""
    model = load_model(config.model.path, model=config.model)
    tokenizer = load_tokenizer(config.model.path)
    prompts = prompt_source(config, tokenizer=tokenizer, max_prompt_tokens=1000)
    trainer = build_trainer(
        config,
        model=model,
        tokenizer=tokenizer,
        schedule=MaskSchedule(model, mask_settings(config.mask, seed=config.seed)),
        refill=refill_prompts(prompts, config.algorithm),
        out=out,
    )
    recorder = Recorder()
    for callback in (*callbacks, recorder):
        trainer.add_callback(callback)
    compute_loss = trainer.compute_loss

    def recording(model, inputs, *arguments, **keywords) -> Tensor:
        loss = compute_loss(model, inputs, *arguments, **keywords)
        recorder.batches.append(copy.deepcopy(inputs))
        recorder.losses.append(loss.item())
        return loss

    trainer.compute_loss = recording
    trainer.train()
    return recorder, trainer


def norm_of(tensors: dict[str, Tensor]) -> float:
    return torch.stack([tensor.square().sum() for tensor in tensors.values()]).sum().sqrt().item()


def log_probs(model, batch: dict[str, Tensor], temperature: float) -> Tensor:
    """Log-probabilities of the completion tokens from the model's own logits."""
    completion = batch["completion_ids"]
    ids = torch.cat([batch["prompt_ids"], completion], dim=1)
    kept = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    logits = model(input_ids=ids, attention_mask=kept).logits / temperature
    predicted = logits[:, -completion.shape[1] - 1 : -1].log_softmax(-1)
    return predicted.gather(2, completion.unsqueeze(2)).squeeze(2)
