"""What an evaluation costs beside lm-eval's own loop over the same requests, and its peak memory.

Both load the model and answer the same prompts in batches of the same size; CPU seconds count.
Ours makes the prompts, checks their lengths, keeps a journal, scores, and writes a page of samples.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRS = 7
LIMIT = 48
LENGTH = 512
MEMORY = {"samples": 500, "length": 131072}


def benchmark(limit=LIMIT, length=LENGTH, **changes):
    """Return the questions that both answer."""
    from longact_cli.config.schema import BenchmarkConfig

    values = {"tasks": ("niah_single_1", "niah_multikey_2"), "batch_size": 16, **changes}
    return BenchmarkConfig(name="ruler", context_lengths=(length,), limit=limit, **values)


def ours(folder):
    """Return the CPU seconds of one evaluation in an empty folder, and its completions."""
    from longact_cli.config.schema import ModelConfig
    from longact_cli.evaluation.evaluate import evaluate
    from longact_cli.models.micro import micro_checkpoint_path

    path = Path(tempfile.mkdtemp(dir=folder)) / "samples.jsonl"
    started = time.process_time()
    evaluate(
        str(micro_checkpoint_path()),
        model=ModelConfig(name="micro"),
        benchmark=benchmark(),
        samples_path=path,
    )
    seconds = time.process_time() - started
    rows = map(json.loads, path.read_text("utf-8").split("\n")[:-1])
    return seconds, {row["id"]: row["completion"] for row in rows}


def theirs():
    """Return the CPU seconds of lm-eval's evaluator and backend, and its completions."""
    from lm_eval.evaluator import evaluate

    from longact_cli.config.schema import ModelConfig
    from longact_cli.evaluation.backends import load_backend, plan_backend
    from longact_cli.evaluation.evaluate import build_samples
    from longact_cli.evaluation.task import SampleTask
    from longact_cli.models.loading import load_tokenizer
    from longact_cli.models.micro import micro_checkpoint_path

    checkpoint, model = str(micro_checkpoint_path()), ModelConfig(name="micro")
    samples = build_samples(benchmark(), tokenizer=load_tokenizer(checkpoint))
    prompts = {sample.id: sample.prompt for sample in samples}

    class WholePrompts(SampleTask):
        """Requests that carry their prompt, as lm-eval's do."""

        def construct_requests(self, doc, ctx, *, metadata):
            return super().construct_requests(doc, prompts[doc.id], metadata=metadata)

    task = WholePrompts("ruler", samples)
    started = time.process_time()
    plan = plan_backend(checkpoint, model=model, benchmark=benchmark())
    backend = load_backend(plan, tokenizer=load_tokenizer(checkpoint))
    evaluate(backend, {"ruler": task}, bootstrap_iters=0, log_samples=False)
    seconds = time.process_time() - started
    return seconds, {one.doc.id: one.resps[0] for one in task.instances}


def overhead():
    """Return ours over theirs, pair by pair, and the seconds of theirs."""
    ratios, base = [], []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(PAIRS + 1):
            if pair % 2:
                (mine, got), (other, wanted) = ours(folder), theirs()
            else:
                (other, wanted), (mine, got) = theirs(), ours(folder)
            if got != wanted:
                raise AssertionError("the two loops gave different answers")
            if pair:  # the first one imports
                ratios.append(mine / other)
                base.append(other)
    return ratios, statistics.median(base)


def peak(samples, length):
    """Return the peak MiB (Linux) of a process that makes all prompts of a task and reads each."""
    code = (
        "from tests.bench.eval_overhead import *;"
        "from longact_cli.evaluation.evaluate import build_samples;"
        "from longact_cli.models.loading import load_tokenizer;"
        "from longact_cli.models.micro import micro_checkpoint_path;"
        f"asked = benchmark({samples}, {length}, tasks=('niah_multikey_2',));"
        "made = build_samples(asked, tokenizer=load_tokenizer(str(micro_checkpoint_path())));"
        "total = sum(len(sample.prompt) for sample in made);"
        # Not getrusage: a child process begins with its parent's peak there.
        "print(total, open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    characters, kib = done.stdout.split()[-2:]
    return int(characters) / 2**20, float(kib) / 1024


def run():
    """Print the median ratio with its quartiles, and the peak memory of a large evaluation."""
    import torch

    torch.set_num_threads(1)
    ratios, seconds = overhead()
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"longact eval / lm-eval's loop, {2 * LIMIT} prompts of {LENGTH} tokens: "
        f"{middle:.3f} (quartiles {low:.3f}-{high:.3f}) of {seconds:.1f} s"
    )
    _, least = peak(1, 4096)
    text, most = peak(**MEMORY)
    print(
        f"peak memory, {MEMORY['samples']} prompts of {MEMORY['length']} tokens: {most:.0f} MiB, "
        f"{most - least:.0f} more than for one of 4096; their text: {text:.0f} MiB"
    )


if __name__ == "__main__":
    run()
