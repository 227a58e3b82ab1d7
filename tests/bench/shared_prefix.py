"""What sharing a prompt saves: our trainer and TRL's own on the same rollouts, in one run.

`python -m tests.bench.shared_prefix [step|memory|rollouts|demo ...]`, all without an argument.
One thread, CPU seconds; ratios are TRL's time over ours, medians of pairs that take turns, with
their range.
"""

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tests.bench.mask_overhead import GIVE_BACK

SETTINGS = ("preset=micro", "mask=dense", "algorithm=dapo", "algorithm.updates_per_rollout=1")


class Size(NamedTuple):
    """Prompt tokens, completion tokens, completions."""

    prompt: int
    completion: int
    group: int

    @property
    def bound(self) -> float:
        """Tokens that TRL reads over tokens that we read."""
        whole = self.group * (self.prompt + self.completion)
        return whole / (self.prompt + self.group * self.completion)


LONG = Size(2048, 64, 8)
STEPS = {  # model -> sizes and pairs
    "micro": {LONG: 5, Size(512, 32, 8): 9, Size(512, 512, 8): 5},
    "50m": {LONG: 2, Size(512, 32, 8): 3},
}
ROLLOUTS = {"micro": (Size(2048, 32, 8), 5), "50m": (Size(2048, 32, 8), 2)}


def model_of(name: str) -> Any:
    """Return the embedded model, or a Qwen3 of 50 M random weights; float32."""
    from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

    from longact_cli.config.schema import ModelConfig
    from longact_cli.models.loading import local_checkpoint

    torch.manual_seed(0)
    if name == "micro":
        path = local_checkpoint(ModelConfig(name="micro"))
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=2048,
            hidden_size=512,
            intermediate_size=1536,
            num_hidden_layers=16,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=64,
            max_position_embeddings=16384,
            pad_token_id=0,
            eos_token_id=2,
        )
    )


class Step:
    """One optimizer step on given rollouts, with TRL's trainer or with ours."""

    def __init__(self, model: Any, size: Size, *, ours: bool) -> None:
        self._trainer = trainer_of(model, size, ours=ours)
        self._model = model.train()
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        self._inputs = rollouts_of(size)

    def __call__(self) -> float:
        """Return the CPU seconds of loss, gradient, clipping and update."""
        started = time.process_time()
        loss = self._trainer.compute_loss(self._model, self._inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return time.process_time() - started


def trainer_of(model: Any, size: Size, *, ours: bool, settings: tuple[str, ...] = ()) -> Any:
    """Return a trainer whose `compute_loss` is ready to be called; `settings` come last."""
    from datasets import Dataset
    from trl import GRPOTrainer

    from longact_cli.config.compose import compose, parse
    from longact_cli.config.schema import ModelConfig
    from longact_cli.masking import MaskSchedule, MaskSettings
    from longact_cli.models.loading import load_tokenizer, local_checkpoint
    from longact_cli.training.arguments import grpo_arguments
    from longact_cli.training.dynamic_sampling import RefillPrompts
    from longact_cli.training.grpo import LongActGRPOTrainer

    algorithm = compose(
        parse(
            [
                *SETTINGS,
                "algorithm.prompts_per_step=1",
                f"algorithm.group_size={max(size.group, 2)}",
                f"algorithm.micro_batch_size={max(size.group, 2)}",
                *settings,
            ]
        )
    ).algorithm
    common = {
        "args": grpo_arguments(algorithm, folder=Path(tempfile.mkdtemp()), seed=0),
        "train_dataset": Dataset.from_list([{"prompt": "x"}] * 4),
        "processing_class": load_tokenizer(local_checkpoint(ModelConfig(name="micro"))),
        "reward_funcs": [lambda completions, **_: [0.0] * len(completions)],
    }
    if ours:
        schedule = MaskSchedule(model, MaskSettings("dense", 1.0))
        refill = RefillPrompts(None, start=0)
        trainer = LongActGRPOTrainer(model, schedule, algorithm=algorithm, refill=refill, **common)
    else:
        trainer = GRPOTrainer(model=model, **common)
    trainer.current_gradient_accumulation_steps = 1  # set by the loop that is not run here
    return trainer


def rollouts_of(size: Size) -> dict[str, torch.Tensor]:
    """Return random rollouts of one prompt, as TRL hands them to the loss."""
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(3, 2048, (1, size.prompt), generator=generator)
    completions = torch.randint(3, 2048, (size.group, size.completion), generator=generator)
    return {
        "prompt_ids": prompt.repeat(size.group, 1),
        "prompt_mask": torch.ones(size.group, size.prompt, dtype=torch.long),
        "completion_ids": completions,
        "completion_mask": torch.ones_like(completions),
        "advantages": torch.linspace(-1, 1, size.group),
        "num_items_in_batch": torch.tensor(completions.numel()),
    }


def paired(theirs: Callable[[], float], ours: Callable[[], float], pairs: int) -> str:
    """Return the ratio's median and range, and both medians in seconds."""
    first, second = [], []
    for pair in range(pairs):
        if pair % 2:
            second.append(ours())
            first.append(theirs())
        else:
            first.append(theirs())
            second.append(ours())
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return (
        f"{statistics.median(ratios):.2f} times faster (range {min(ratios):.2f}-{max(ratios):.2f} "
        f"of {pairs} pairs; {statistics.median(first):.2f} s -> {statistics.median(second):.3f} s)"
    )


def step() -> None:
    """A training step on rollouts that are there."""
    for name, sizes in STEPS.items():
        for size, pairs in sizes.items():
            model = model_of(name)
            theirs, ours = (
                Step(copy.deepcopy(model), size, ours=False),
                Step(model, size, ours=True),
            )
            ours()  # the first step allocates optimizer state
            print(
                f"training step, {name:5} P={size.prompt} C={size.completion} G={size.group}: "
                f"{paired(theirs, ours, pairs)}; token ratio {size.bound:.2f}",
                flush=True,
            )


def memory() -> None:
    """Peak memory of a process that takes one step, over the process before it."""
    code = (
        "import torch; torch.set_num_threads(1);"
        "from tests.bench.shared_prefix import *;"
        "read = lambda key: int(open('/proc/self/status').read().split(key)[1].split()[0]);"
        "step = Step(model_of({name!r}), LONG, ours={ours});"
        "before = read('VmRSS:'); step();"
        "print(read('VmHWM:'), read('VmHWM:') - before)"
    )
    for name in STEPS:
        peaks = []
        for ours in (False, True):
            done = subprocess.run(
                [sys.executable, "-c", code.format(name=name, ours=ours)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | GIVE_BACK,
            )
            peaks.append([float(x) / 1024 for x in done.stdout.splitlines()[-1].split()])
        (whole, above), (our_whole, our_above) = peaks
        print(
            f"peak memory, {name} P={LONG.prompt} C={LONG.completion} G={LONG.group}: "
            f"ratio {our_above / above:.2f} above the loaded model ({above:.0f} MiB -> "
            f"{our_above:.0f} MiB), {our_whole / whole:.2f} of the process ({whole:.0f} MiB)",
            flush=True,
        )


class Rollouts:
    """Greedy rollouts of one prompt, none of which ends early, from transformers and from us."""

    def __init__(self, name: str, size: Size) -> None:
        from transformers import GenerationConfig

        from longact_cli.training.prefix_support import refusal

        self._plain = model_of(name).eval()
        self._plain.generation_config.eos_token_id = None
        self._shared = copy.deepcopy(self._plain)
        assert refusal(self._shared) is None
        self._ids = rollouts_of(size)["prompt_ids"]
        self._settings = GenerationConfig(
            max_new_tokens=size.completion, do_sample=False, pad_token_id=0, disable_compile=True
        )
        self.tokens: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def theirs(self) -> float:
        """Return the CPU seconds of transformers' `generate`."""
        started = time.process_time()
        written = self._plain.generate(
            input_ids=self._ids,
            attention_mask=torch.ones_like(self._ids),
            generation_config=self._settings,
        )
        self.tokens["theirs"] = written[:, self._ids.shape[1] :]
        return time.process_time() - started

    @torch.no_grad()
    def ours(self) -> float:
        """Return the CPU seconds of one prefill and the rollouts from it."""
        from longact_cli.training.rollout import generate

        started = time.process_time()
        self.tokens["ours"] = generate(
            self._shared, self._ids.tolist(), generation_config=self._settings
        )
        return time.process_time() - started


def rollouts() -> None:
    """Rollouts, and whether their tokens are the same."""
    for name, (size, pairs) in ROLLOUTS.items():
        both = Rollouts(name, size)
        line = paired(both.theirs, both.ours, pairs)
        same = torch.equal(both.tokens["theirs"], both.tokens["ours"])
        print(
            f"rollouts, {name:5} P={size.prompt} C={size.completion} G={size.group}: {line}; "
            f"{'identical tokens' if same else 'TOKENS DIFFER'}",
            flush=True,
        )


def demo() -> None:
    """Whole RL steps of the demo, rollouts and old log-probs included."""
    from longact_cli.config.compose import compose, parse
    from longact_cli.files import read_lines
    from longact_cli.training.train import train_cell

    def run(share: bool) -> Callable[[], float]:
        settings = ["preset=micro", "algorithm.steps=2", "algorithm.checkpoint_every=2"]
        config = compose(parse([*settings, f"algorithm.share_prompt_prefix={str(share).lower()}"]))

        def once() -> float:
            with tempfile.TemporaryDirectory() as folder:
                train_cell(config, out=Path(folder))
                rows = list(read_lines(Path(folder) / "metrics.jsonl"))
            return sum(row["value"] for row in rows if row["name"] == "step_seconds")

        return once

    print(f"two RL steps of the demo: {paired(run(False), run(True), 2)}", flush=True)


PARTS: dict[str, Callable[[], None]] = {
    "step": step,
    "memory": memory,
    "rollouts": rollouts,
    "demo": demo,
}


def run() -> None:
    """Measure the parts asked for, all without an argument."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS))
    parts = parser.parse_args().parts or list(PARTS)
    torch.set_num_threads(1)
    for name in parts:
        PARTS[name]()


if __name__ == "__main__":
    run()
