"""What an evaluation costs beside lm-eval's own loop over the same requests, and its peak memory.

Both load the model and answer the same prompts in batches of the same size; CPU seconds count.
Ours makes the prompts, checks their lengths, keeps a journal, scores, and writes a page of samples.
"""

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lm_eval.api.model import LM

from longact_cli.evaluation import backends

PAIRS = 15
LIMIT = 96
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
    gc.collect()
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
    gc.collect()
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


class Silent(LM):
    """Reads every prompt, as a backend does, and answers nothing."""

    def generate_until(self, requests, disable_tqdm=False):
        self.read = sum(len(request.args[0]) for request in requests)
        return ["no" for _ in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def answer_all(samples, length):
    """Make all prompts of a task and send them to a backend that answers nothing."""
    from longact_cli.config.schema import ModelConfig
    from longact_cli.evaluation import evaluate as module
    from longact_cli.models.micro import micro_checkpoint_path

    backends.load_backend = lambda *_, **__: Silent()
    module.check_window = lambda *_, **__: None
    with tempfile.TemporaryDirectory() as folder:
        module.evaluate(
            str(micro_checkpoint_path()),
            model=ModelConfig(name="micro"),
            benchmark=benchmark(samples, length, tasks=("niah_single_1",)),
            samples_path=Path(folder) / "samples.jsonl",
        )


def peak(samples, length):
    """Return the peak MiB (Linux) of an evaluation in a process of its own."""
    code = (
        f"from tests.bench.eval_overhead import answer_all; answer_all({samples}, {length});"
        # Not getrusage: a child process begins with its parent's peak there.
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) / 1024


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
    for samples in (1, 16, MEMORY["samples"]):
        most = peak(samples, MEMORY["length"])
        print(
            f"peak memory of an evaluation, {samples:3} prompts of {MEMORY['length']} tokens, "
            f"16 at once: {most:.0f} MiB"
        )


if __name__ == "__main__":
    run()
