"""One process of a cell that has two; started by torchrun, or alone.

Usage: ranks_worker.py CHECKPOINT OUT CELL, with CELL the configuration of one more cell, as JSON.

Every process trains the same cells under each sharding, once with rollouts that are a function of
the prompt, so that any number of processes can be compared, and once with its own, interrupted and
resumed.
"""

import hashlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState

from integration.training_helpers import cell
from longact_cli.config.schema import ParallelConfig, RunConfig
from longact_cli.files import write_json
from longact_cli.masking.processes import full_tensor
from longact_cli.training import scoring, trainers
from longact_cli.training import train as training
from longact_cli.training.stopping import StopCallback
from longact_cli.training.trainers import build_grpo

SHARDINGS = ("ddp", "fsdp2")
STEPS = 2
SIZES = {
    "steps": STEPS,
    "prompts_per_step": 4,
    "updates_per_rollout": 1,
    "checkpoint_every": 1,
    "share_prompt_prefix": False,
    "learning_rate": 1e-3,
}
COMPARED = {
    "dapo": {
        "reward": "test_rare",
        "dynamic_sampling": "refill",
        "max_generation_batches": 3,
        "overlong_cache": 0.5,
    },
    "grpo": {"reward": "test_length", "kl_coef": 0.04},
    "clip-cov": {"reward": "test_length", "cov_ratio": 1.0, "cov_low": 0.01},
    "sft": {"algorithm": "sft"},
    "by-tokens": {
        **{"algorithm": "grpo", "reward": "test_length", "kl_coef": 0.04},
        **{"micro_batch_tokens": 330, "share_prompt_prefix": True},
    },
}
UNEQUAL = (300, 300, 450, 450)
"""Context lengths of `by-tokens`: the second of two processes has the long prompts."""
RESUMED = {
    "reward": "test_rare",
    "dynamic_sampling": "refill",
    "max_generation_batches": 3,
    "prompts_per_step": 4,
    "share_prompt_prefix": False,
}


def let_accelerate_shard_on_cpu() -> None:
    """Accelerate offers FSDP on accelerators only; torch shards on CPUs as well."""

    def then_pretend(make):
        def made(*arguments, **keywords):
            result = make(*arguments, **keywords)
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
            return result

        return made

    trainers.grpo_arguments = then_pretend(trainers.grpo_arguments)
    trainers.sft_arguments = then_pretend(trainers.sft_arguments)


class Passes:
    """Counts the packed passes of this process, and notes the dtypes of their scores."""

    def __init__(self) -> None:
        self.real = scoring.ScoringTrainer._score_shared
        self.dtypes: list[str] = []

    def __enter__(self) -> "Passes":
        def scored(trainer, *arguments):
            scores = self.real(trainer, *arguments)
            self.dtypes += [str(part.dtype) for part in scores]
            return scores

        scoring.ScoringTrainer._score_shared = scored
        return self

    def __exit__(self, *_: object) -> None:
        scoring.ScoringTrainer._score_shared = self.real


class Recorder(TrainerCallback):
    """Keeps the mask of every step and the weights after it."""

    def __init__(self, schedule) -> None:
        self.schedule = schedule
        self.kept: dict[str, torch.Tensor] = {}

    def on_optimizer_step(self, args, state, control, model, **_) -> None:
        step = state.global_step
        mask = self.schedule.row_mask.mask
        self.kept |= {f"{step}/mask/{name}": rows.clone() for name, rows in mask.items()}
        named = [(name.removeprefix("module."), p) for name, p in model.named_parameters()]
        self.kept |= {
            f"{step}/weights/{name}": full_tensor(p.detach()).clone().contiguous()
            for name, p in named
        }


def fixed_rollouts(prompts, trainer):
    """Completions that depend on the prompt and on the place in its group alone."""
    tokenizer, seen = trainer.processing_class, {}
    prompt_ids = tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    completions = []
    for prompt in prompts:
        seen[prompt] = seen.get(prompt, -1) + 1
        noise = hashlib.sha256(f"{seen[prompt]} {prompt}".encode()).digest()
        tokens = [3 + value for value in noise[: 2 + noise[0] % 14]]
        completions.append([*tokens, trainer.eos_token_ids[0]] if noise[1] % 4 else tokens)
    return {"prompt_ids": prompt_ids, "completion_ids": completions, "logprobs": None}


def configured(checkpoint: Path, sharding: str, **changes) -> RunConfig:
    config = cell(checkpoint, **changes)
    if "micro_batch_tokens" in changes:
        data = config.data.model_copy(update={"context_lengths": UNEQUAL})
        config = config.model_copy(update={"data": data})
    processes = 1 if sharding == "one" else 2
    parallel = ParallelConfig(processes=processes, sharding="ddp" if processes == 1 else sharding)
    return config.model_copy(update={"parallel": parallel})


def compared(checkpoint: Path, sharding: str, out: Path) -> None:
    """Train every cell on fixed rollouts and keep what one process can be compared with."""
    for name, changes in COMPARED.items():
        settings = {"algorithm": name, **SIZES, **changes}
        config = configured(checkpoint, sharding, **settings)
        folder = out / sharding / name
        recorders = []

        def build(parts, recorders=recorders):
            trainer = build_grpo(parts)
            trainer.rollout_func = fixed_rollouts
            recorders.append(Recorder(parts.schedule))
            trainer.add_callback(recorders[0])
            return trainer

        def build_sft(parts, recorders=recorders, real=training.build_sft):
            trainer = real(parts)
            recorders.append(Recorder(parts.schedule))
            trainer.add_callback(recorders[0])
            return trainer

        originals = training.build_grpo, training.build_sft
        training.build_grpo, training.build_sft = build, build_sft
        try:
            with Passes() as passes:
                train(config, folder)
        finally:
            training.build_grpo, training.build_sft = originals
        write_json(folder / f"passes{rank()}.json", passes.dtypes)
        save_file(recorders[0].kept, folder / f"rank{rank()}.safetensors")


def resumed(checkpoint: Path, sharding: str, out: Path) -> None:
    """Train once whole, and once from a checkpoint as an interruption leaves it."""
    savers = {"bf16": True, "gradient_checkpointing": True, "share_prompt_prefix": True}
    config = configured(
        checkpoint, sharding, **{**RESUMED, **(savers if sharding == "fsdp2" else {})}
    )
    whole, cut = out / sharding / "whole", out / sharding / "cut"
    with Passes() as passes:
        train(config, whole)
    write_json(whole / f"passes{rank()}.json", passes.dtypes)
    wait()
    if rank() == 0:
        shutil.copytree(whole, cut)
        shutil.rmtree(cut / "model")
        shutil.rmtree(cut / "checkpoints" / "checkpoint-4")
    wait()
    train(config, cut)


def train(config: RunConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    start = None
    if rank() == 0:
        start = training.StartPoint.of(config, folder)
    if dist.is_initialized():
        starts = [start]
        dist.broadcast_object_list(starts, src=0)
        start = starts[0]
    training.train_share(config, out=folder, start=start)
    wait()


def stops(out: Path) -> None:
    """Ask the callback of every process about a marker that only one of them sees."""
    state = TrainerState(global_step=2, max_steps=4)
    arguments = SimpleNamespace(world_size=2, process_index=rank(), device=torch.device("cpu"))
    told = {}
    for sees in (0, 1):
        folder = out / f"{sees}-{rank()}"
        folder.mkdir(parents=True)
        if rank() == sees:
            (folder / "STOP").touch()
        control = TrainerControl()
        StopCallback(folder, every=2).on_step_end(arguments, state, control)
        told[f"seen by rank {sees}"] = control.should_training_stop
    write_json(out / f"rank{rank()}.json", told)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    torch.set_num_threads(1)
    start_point, results = Path(sys.argv[1]), Path(sys.argv[2])
    train(RunConfig.model_validate_json(sys.argv[3]), results / "undisturbed")
    stops(results / "stops")
    for kind in SHARDINGS:
        AcceleratorState._reset_state(reset_partial_state=True)
        if kind == "fsdp2":
            let_accelerate_shard_on_cpu()
        compared(start_point, kind, results)
        resumed(start_point, kind, results)
