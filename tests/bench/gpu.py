"""DAPO with the row mask and with shared prompts on a GPU: time, memory and share of the matmuls.

Shared prompts are measured with both ways in which completions look at them.

`python -m tests.bench.gpu` needs a CUDA device. `--tiny` takes the same path on the CPU with the
embedded model, to see that it runs. Every figure comes from a process of its own.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

WARM_UP = 2
GIB = 2**30
WEIGHTS = "model.safetensors"


class Sizes(NamedTuple):
    """Tokens of a step and how often it is taken."""

    prompt: int
    completion: int
    group: int
    steps: int

    @property
    def tokens(self) -> int:
        """Distinct tokens of one step: the prompt once, and every completion."""
        return self.prompt + self.group * self.completion


class Figures(NamedTuple):
    """What a run took: median seconds of a step, their range, peak GiB; and what it warned of."""

    seconds: float
    spread: float
    peak_gib: float
    parameters: int
    warnings: list[str]


MASK = Sizes(2048, 256, 8, 8)
PREFIX = Sizes(16384, 512, 8, 6)
TINY = Sizes(496, 16, 4, 4)
MASKS = {
    "dense": ("mask=dense",),
    "salient 0.3": ("mask=salient", "mask.sparsity=0.3"),
    "salient 0.3, strict": ("mask.sparsity=0.3", "mask.update_semantics=strict"),
}
PREFIXES = {
    "TRL's own passes": ("algorithm.share_prompt_prefix=false",),
    "shared prompt, sdpa": ("algorithm.prefix_attention=sdpa",),
    "shared prompt, flex": ("algorithm.prefix_attention=flex",),
}


def checkpoint(folder: Path) -> Path:
    """Write a Qwen3 of about 0.6 B random weights with the embedded model's tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from longact_cli.config.schema import ModelConfig
    from longact_cli.models.loading import load_tokenizer, local_checkpoint

    tokenizer = load_tokenizer(local_checkpoint(ModelConfig(name="micro")))
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    # A model that never stops: every completion has its full length, in every variant.
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def overrides(sizes: Sizes, *, model: Path | None) -> list[str]:
    """Return the settings that all variants share."""
    chosen = [] if model is None else [f"model.path={model}", "model.name=random-0.6b"]
    return [
        *chosen,
        "algorithm=dapo",
        "algorithm.dynamic_sampling=none",  # random weights are never rewarded
        f"algorithm.steps={sizes.steps}",
        f"algorithm.checkpoint_every={sizes.steps}",
        "algorithm.updates_per_rollout=1",
        "algorithm.prompts_per_step=1",
        f"algorithm.group_size={sizes.group}",
        f"algorithm.micro_batch_size={sizes.group}",
        f"algorithm.max_completion_tokens={sizes.completion}",
        f"algorithm.bf16={str(model is not None).lower()}",
        f"algorithm.gradient_checkpointing={str(model is not None).lower()}",
        "algorithm.use_vllm=false",
        "data.tasks=[niah_single_1]",
        f"data.context_lengths=[{sizes.prompt + sizes.completion}]",
    ]


class Kept(logging.Handler):
    """Keeps messages."""

    def __init__(self) -> None:
        """Start without any."""
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.messages.append(record.getMessage())


def one(settings: list[str]) -> Figures:
    """Train with these settings."""
    import torch
    from safetensors.torch import load_file

    from longact_cli.config.compose import compose, parse
    from longact_cli.files import read_lines
    from longact_cli.training.train import train_cell

    config = compose(parse(settings))
    logging.getLogger("longact_cli").addHandler(kept := Kept())
    with tempfile.TemporaryDirectory() as folder:
        train_cell(config, out=Path(folder))
        rows = list(read_lines(Path(folder) / "metrics.jsonl"))
        parameters = sum(v.numel() for v in load_file(Path(folder, "model", WEIGHTS)).values())
    seconds = [row["value"] for row in rows if row["name"] == "step_seconds"][WARM_UP:]
    peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else float("nan")
    spread = max(seconds) - min(seconds)
    return Figures(statistics.median(seconds), spread, peak, parameters, kept.messages)


def measured(settings: list[str]) -> Figures:
    """Return `one` of a fresh process."""
    command = [sys.executable, "-m", "tests.bench.gpu", "--one", *settings]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Figures(*json.loads(done.stdout.splitlines()[-1]))


def matmul_ceiling() -> float:
    """Return the bf16 FLOP/s of a large matrix product; not a number without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return float("nan")
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        a @ a
    start.record()
    for _ in range(20):
        a @ a
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (start.elapsed_time(end) / 1e3)


def table(
    title: str, variants: dict[str, tuple[str, ...]], sizes: Sizes, common: list[str]
) -> None:
    """Print a line for each variant; ratios are to the first."""
    print(f"{title}: P={sizes.prompt}, C={sizes.completion}, G={sizes.group}")
    ceiling = matmul_ceiling()
    first: Figures | None = None
    for name, settings in variants.items():
        found = measured([*common, *settings])
        first = first or found
        rate = sizes.tokens / found.seconds
        print(
            f"  {name:20} {found.seconds:.3f} s a step (range {found.spread:.3f}), "
            f"time ratio {found.seconds / first.seconds:.3f}, "
            f"peak {found.peak_gib:.2f} GiB, ratio {found.peak_gib / first.peak_gib:.3f}, "
            f"{rate:,.0f} distinct tokens/s, "
            f"{6 * found.parameters * rate / ceiling:.1%} of the matrix products' rate",
            *(f"    {line}" for line in found.warnings),
            sep="\n",
            flush=True,
        )


def run(*, tiny: bool) -> None:
    """Measure everything, in the sizes of the embedded model with `tiny`."""
    import torch
    from tests.bench import flex_block

    if tiny:
        common = overrides(TINY, model=None)
        table("row mask", MASKS, TINY, common)
        table("shared prompt", PREFIXES, TINY, common)
        flex_block.run()
        return
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured (--tiny runs the same path on the CPU)")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"bf16 matrix products: {matmul_ceiling() / 1e12:.0f} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(Path(folder))
        table("row mask", MASKS, MASK, overrides(MASK, model=model))
        table("shared prompt", PREFIXES, PREFIX, overrides(PREFIX, model=model))
    flex_block.run()


def main() -> None:
    """Measure, or be the process of one variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one", nargs="+", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
    else:
        run(tiny=arguments.tiny)


if __name__ == "__main__":
    main()
