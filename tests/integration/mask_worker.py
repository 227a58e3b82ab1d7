"""One process of a distributed training run with a row mask; started by torchrun.

Usage: mask_worker.py BACKEND RUNS OUT, with BACKEND one of single, ddp, fsdp2, and RUNS a
comma list of STRATEGY:SEMANTICS.
"""

import sys
from pathlib import Path

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from longact_cli.masking import MaskSettings, RowMaskCallback

ROWS, STEPS, ACCUMULATION = 4, 3, 2
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of all processes, on the CPU."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone().cpu()


class Recorder(TrainerCallback):
    """Keeps gradients and weights at each optimizer step, and the mask after it."""

    def __init__(self, masking: RowMaskCallback) -> None:
        self.masking = masking
        self.kept: dict[str, torch.Tensor] = {}
        self.logged: list[dict[str, float]] = []

    def _keep(self, kind: str, step: int, tensors) -> None:
        self.kept.update({f"{step}/{kind}/{name}": tensor for name, tensor in tensors})

    def on_pre_optimizer_step(self, args, state, control, model, **_) -> None:
        named = [(n.removeprefix("module."), p) for n, p in model.named_parameters()]
        self._keep("gradient", state.global_step, [(n, whole(p.grad)) for n, p in named])
        self._keep("before", state.global_step, [(n, whole(p)) for n, p in named])

    def on_optimizer_step(self, args, state, control, model, **_) -> None:
        named = [(n.removeprefix("module."), p) for n, p in model.named_parameters()]
        self._keep("after", state.global_step, [(n, whole(p)) for n, p in named])
        masks = self.masking.schedule.row_mask.mask.items()
        self._keep("mask", state.global_step, [(n, rows.clone()) for n, rows in masks])
        report = self.masking._report
        drift = torch.tensor(
            [report.drift_max, report.kept_norm or -1.0, report.dense_norm or -1.0]
        )
        self._keep("report", state.global_step, [("values", drift)])


def examples() -> list[dict[str, torch.Tensor]]:
    """The same examples in the same steps for any number of processes."""
    ids = torch.randint(
        1, 64, (ROWS * STEPS * ACCUMULATION, 12), generator=torch.Generator().manual_seed(5)
    )
    return [
        {"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids
    ]


def let_accelerate_shard_on_cpu() -> None:
    """Accelerate offers FSDP on accelerators only; torch shards on CPUs as well."""
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU


def main(backend: str, strategy: str, semantics: str, out: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = 1 if backend == "single" else 2
    sharding = {}
    if backend == "fsdp2":
        layers = ["Qwen3DecoderLayer"]
        config = {"version": 2, "transformer_layer_cls_to_wrap": layers}
        sharding = {"fsdp": True, "fsdp_config": config}
    arguments = TrainingArguments(
        output_dir=str(out / "trainer"),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS // world,
        gradient_accumulation_steps=ACCUMULATION,
        activation_checkpointing=True,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        max_grad_norm=1e9,
        use_cpu=True,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
        **sharding,
    )
    if sharding:
        let_accelerate_shard_on_cpu()
    callback = RowMaskCallback(
        MaskSettings(strategy, 0.5, refresh_every=1, seed=3, update_semantics=semantics)
    )
    recorder = Recorder(callback)
    trainer = Trainer(
        model=Qwen3ForCausalLM(Qwen3Config(**SIZES)),
        args=arguments,
        train_dataset=examples(),
        callbacks=[callback, recorder],
    )
    trainer.train()
    save_file(
        {name: tensor.contiguous() for name, tensor in recorder.kept.items()},
        out / f"rank{trainer.args.process_index}.safetensors",
    )


if __name__ == "__main__":
    for run in sys.argv[2].split(","):
        chosen, how = run.split(":")
        folder = Path(sys.argv[3]) / chosen
        folder.mkdir(parents=True, exist_ok=True)
        main(sys.argv[1], chosen, how, folder)
