"""What the row mask costs: a training step with it over the same step without, pair by pair."""

import copy
import os
import statistics
import subprocess
import sys
import time

import torch

from longact_cli.masking import MaskSchedule, MaskSettings

PAIRS = {512: 15, 1536: 9}
# Every larger block is given back when it is freed: the peak is that of memory in use, not of what
# the allocator keeps, which differs by 1-2 % between runs of the same program.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
VARIANTS = {
    "salient, every step": MaskSettings("salient", 0.3),
    "salient, strict": MaskSettings("salient", 0.3, update_semantics="strict"),
    "gradient": MaskSettings("gradient", 0.3),
}


def model():
    """A Qwen3 of 6 layers, hidden size 256."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=2048,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
    )
    return Qwen3ForCausalLM(config)


class Loop:
    """A plain training loop, masked or not."""

    def __init__(self, network, settings, ids):
        self.network, self.ids, self.step = network, ids, 0
        self.kept = torch.ones_like(ids)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.01)
        self.schedule = None if settings is None else MaskSchedule(network, settings)
        if settings is not None and settings.update_semantics == "strict":
            self.schedule.row_mask.hold(self.optimizer)

    def __call__(self):
        """Return the CPU seconds of one step."""
        started = time.process_time()
        if self.schedule is None:
            self._loss().backward()
        else:
            with self.schedule.observing(self.step, self.ids, self.kept):
                loss = self._loss()
            self.schedule.arm(self.step)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.finish_step()
        self.optimizer.zero_grad()
        self.step += 1
        return time.process_time() - started

    def _loss(self):
        return self.network(input_ids=self.ids, labels=self.ids).loss


def paired(name, length):
    """Return the ratios of masked over unmasked steps, alternating which goes first."""
    ids = torch.randint(0, 2048, (1, length), generator=torch.Generator().manual_seed(1))
    plain_model = model()
    masked = Loop(copy.deepcopy(plain_model), VARIANTS[name], ids)
    plain = Loop(plain_model, None, ids)
    ratios, seconds = [], []
    for pair in range(PAIRS[length] + 2):
        if pair % 2:
            off, on = plain(), masked()
        else:
            on, off = masked(), plain()
        if pair >= 2:  # the first steps allocate optimizer state
            ratios.append(on / off)
            seconds.append(off)
    return ratios, statistics.median(seconds)


def peak(name, length):
    """Return the peak MiB (Linux) of a process that takes four steps; `off` is unmasked."""
    code = (
        "import torch; torch.set_num_threads(1);"
        "from tests.bench.mask_overhead import *;"
        f"ids = torch.zeros(1, {length}, dtype=torch.long);"
        f"loop = Loop(model(), VARIANTS.get({name!r}), ids);"
        "[loop() for _ in range(4)];"
        # Not getrusage: a child process begins with its parent's peak there.
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | GIVE_BACK,
    )
    return float(done.stdout.split()[-1]) / 1024


def run():
    """Print the median ratio with its quartiles, and the ratio of peak memory."""
    torch.set_num_threads(1)
    for length in PAIRS:
        memory_off = peak("off", length)
        for name in VARIANTS:
            ratios, seconds = paired(name, length)
            low, middle, high = statistics.quantiles(ratios, n=4)
            memory = peak(name, length) / memory_off
            print(
                f"mask on / off, {length} tokens, {name:20} "
                f"time {middle:.3f} (quartiles {low:.3f}-{high:.3f}) of {seconds * 1e3:.0f} ms, "
                f"peak memory {memory:.3f} of {memory_off:.0f} MiB"
            )
