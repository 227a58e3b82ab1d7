"""A training step with a shared prompt against the number of completions and the prompt's length.

`python -m tests.bench.prefix_scaling [--plot FOLDER]`; the folder gets scaling.csv and scaling.png.
"""

import argparse
import statistics
from pathlib import Path

import torch
from tests.bench.shared_prefix import Size, Step, model_of

GROUPS = [Size(1024, 64, group) for group in (1, 2, 4, 8, 16)]
PROMPTS = [Size(prompt, 64, 8) for prompt in (256, 512, 1024, 2048, 4096, 8192)]
TRL_UP_TO = 2048


def scaling(folder: Path | None = None) -> None:
    """A step of the embedded model against completions and against the prompt."""
    import numpy as np

    rows = []
    for size in [*GROUPS, *PROMPTS]:
        ours = Step(model_of("micro"), size, ours=True)
        ours()
        seconds = statistics.median(ours() for _ in range(3))
        theirs = float("nan")
        if size.prompt <= TRL_UP_TO:
            theirs = Step(model_of("micro"), size, ours=False)()
        rows.append((size, seconds, theirs))
        print(
            f"scaling P={size.prompt} C={size.completion} G={size.group}: {seconds:.3f} s, "
            f"TRL {theirs:.3f} s",
            flush=True,
        )
    # A single completion has nothing to share and goes TRL's way.
    for label, part in (("G > 1", rows[1 : len(GROUPS)]), ("P", rows[len(GROUPS) :])):
        tokens = [s.prompt + s.group * s.completion for s, _, _ in part]
        slope = np.polyfit(np.log(tokens), np.log([seconds for _, seconds, _ in part]), 1)[0]
        print(f"seconds grow as (P + G x C)^{slope:.2f} over {label}", flush=True)
    if folder is not None:
        plot(rows, folder)


def plot(rows: list[tuple[Size, float, float]], folder: Path) -> None:
    """Write scaling.csv and scaling.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{s.prompt},{s.completion},{s.group},{a:.4f},{b:.4f}" for s, a, b in rows]
    head = "prompt,completion,group,shared_seconds,trl_seconds"
    (folder / "scaling.csv").write_text("\n".join([head, *lines]) + "\n")
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    split = len(GROUPS)
    for axis, part, name in zip(
        axes, (rows[:split], rows[split:]), ("group", "prompt"), strict=True
    ):
        x = [getattr(size, name) for size, _, _ in part]
        axis.loglog(x, [theirs for _, _, theirs in part], "s--", label="TRL")
        axis.loglog(x, [ours for _, ours, _ in part], "o-", label="shared prompt")
        tokens = [size.prompt + size.group * size.completion for size, _, _ in part]
        unit = part[0][1] / tokens[0]
        axis.loglog(x, [unit * n for n in tokens], ":", color="grey", label="P + G x C")
        axis.set_xticks(x, [str(value) for value in x])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set(xlabel="completions G" if name == "group" else "prompt tokens P")
    axes[0].set(ylabel="seconds per step")
    axes[0].legend()
    figure.savefig(folder / "scaling.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    torch.set_num_threads(1)
    scaling(parser.parse_args().plot)
