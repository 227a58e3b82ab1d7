"""Micro-batches by tokens against equal numbers of rollouts, prompts of mixed lengths, one run.

`python -m tests.bench.token_budget`. One thread, CPU seconds; the equal number is the fastest one
whose peak memory is at most that of the budget, or of single rollouts. Both share prompts.
"""

import copy
import os
import subprocess
import sys
import time
from typing import Any

import torch
from tests.bench.mask_overhead import GIVE_BACK
from tests.bench.shared_prefix import Size, model_of, paired, trainer_of

PROMPTS = (2048, *[128] * 7)
COMPLETION, GROUP = 64, 8
BUDGET = 2048 + GROUP * COMPLETION
SIZES = (1, 2, 4, 8, 16)
PAIRS = {"micro": 5}
SLACK = 1.05
"""Two runs of one program differ by 1-2 % in peak memory."""


def rollouts(*, whole_groups: bool) -> dict[str, torch.Tensor]:
    """Return the rollouts of a step, dealt out one by one or group by group."""
    generator = torch.Generator().manual_seed(1)
    longest, rows = max(PROMPTS), len(PROMPTS) * GROUP
    ids = torch.zeros(rows, longest, dtype=torch.long)
    kept = torch.zeros_like(ids)
    for index, length in enumerate(PROMPTS):
        members = slice(index * GROUP, (index + 1) * GROUP)
        ids[members, longest - length :] = torch.randint(3, 2048, (length,), generator=generator)
        kept[members, longest - length :] = 1
    completions = torch.randint(3, 2048, (rows, COMPLETION), generator=generator)
    batch = {
        "prompt_ids": ids,
        "prompt_mask": kept,
        "completion_ids": completions,
        "completion_mask": torch.ones_like(completions),
        "advantages": torch.linspace(-1, 1, rows),
    }
    order = torch.arange(rows) if whole_groups else torch.randperm(rows, generator=generator)
    tokens = {"num_items_in_batch": torch.tensor(completions.numel())}
    return {name: value[order] for name, value in batch.items()} | tokens


class Step:
    """An optimizer step with a budget of tokens, or in micro-batches of `size` rollouts."""

    def __init__(self, model: Any, *, size: int | None = None, whole_groups: bool = False) -> None:
        budget = f"algorithm.micro_batch_tokens={BUDGET if size is None else 'null'}"
        self._trainer = trainer_of(model, Size(0, 0, GROUP), ours=True, settings=(budget,))
        self._model = model.train()
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        step = rollouts(whole_groups=whole_groups)
        rows = len(step["advantages"])
        self._parts = [
            {n: v[start : start + (size or rows)] if v.dim() else v for n, v in step.items()}
            for start in range(0, rows, size or rows)
        ]

    def __call__(self) -> float:
        """Return the CPU seconds of losses, gradients and update."""
        started = time.process_time()
        trainer = self._trainer
        trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = 1
        for index, part in enumerate(self._parts):
            last = index == len(self._parts) - 1
            trainer.accelerator.gradient_state._set_sync_gradients(last)
            trainer.compute_loss(self._model, part).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return time.process_time() - started


def peak(name: str, how: str) -> float:
    """Return MiB above the loaded model at the peak of one step."""
    code = (
        "import torch; torch.set_num_threads(1);"
        "from tests.bench.token_budget import *;"
        "read = lambda key: int(open('/proc/self/status').read().split(key)[1].split()[0]);"
        f"step = Step(model_of({name!r}), {how});"
        "before = read('VmRSS:'); step(); print(read('VmHWM:') - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | GIVE_BACK,
    )
    return float(done.stdout.splitlines()[-1]) / 1024


def compare(name: str, pairs: int, *, whole_groups: bool) -> None:
    """Print how much faster the budget is than the best equal number of rollouts."""
    ours_at = peak(name, f"whole_groups={whole_groups}")
    peaks: dict[int, float] = {}
    for size in SIZES:
        peaks[size] = peak(name, f"size={size}, whole_groups={whole_groups}")
        if peaks[size] > SLACK * max(ours_at, peaks[1]):
            break
    model = model_of(name)
    # Where not even single rollouts keep to the budget's peak, they are the best there is.
    fitting = [size for size in peaks if peaks[size] <= SLACK * max(ours_at, peaks[1])]
    steps = {
        size: Step(copy.deepcopy(model), size=size, whole_groups=whole_groups) for size in fitting
    }
    best = min(steps, key=lambda size: min(steps[size]() for _ in range(2)))
    ours = Step(model, whole_groups=whole_groups)
    ours()  # the first step allocates optimizer state
    dealt = "whole groups" if whole_groups else "single rollouts"
    print(
        f"{name}, {dealt}: {BUDGET} tokens ({ours_at:.0f} MiB) against micro_batch_size={best} "
        f"({peaks[best]:.0f} MiB): {paired(steps[best], ours, pairs)}",
        flush=True,
    )


def run() -> None:
    """Measure the models, rollouts dealt out one by one and group by group."""
    torch.set_num_threads(1)
    print(f"prompts of {PROMPTS[0]} and {len(PROMPTS) - 1} x {PROMPTS[1]}, C=64, G=8")
    for name, pairs in PAIRS.items():
        for whole_groups in (False, True):
            compare(name, pairs, whole_groups=whole_groups)


if __name__ == "__main__":
    run()
