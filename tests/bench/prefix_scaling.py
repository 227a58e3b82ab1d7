"""A training step with a shared prompt against the number of completions and the prompt's length.

`python -m tests.bench.prefix_scaling [--plot FOLDER]`; the folder gets scaling.csv and scaling.png.
"""

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from tests.bench.shared_prefix import Size, Step, model_of

GROUPS = (1, 2, 4, 8, 16)
PROMPTS = (256, 512, 1024, 2048, 4096, 8192)
TRL_UP_TO = 2048
MODELS = {  # longest prompt, repetitions, whether TRL's trainer runs beside it
    "micro": (8192, 3, True),
    "50m": (4096, 1, False),
}


class Point(NamedTuple):
    """CPU seconds of one step; not a number where it was not run."""

    model: str
    axis: str
    size: Size
    shared: float
    trl: float

    @property
    def tokens(self) -> int:
        """Distinct tokens, P + G x C."""
        return self.size.prompt + self.size.group * self.size.completion


def measure(model: str) -> list[Point]:
    """Return the steps of a model over G at P = 1024, then over P at G = 8."""
    longest, repetitions, beside = MODELS[model]
    sizes = [("group", Size(1024, 64, group)) for group in GROUPS]
    sizes += [("prompt", Size(prompt, 64, 8)) for prompt in PROMPTS if prompt <= longest]
    points = []
    for axis, size in sizes:
        ours = Step(model_of(model), size, ours=True)
        if repetitions > 1:
            ours()
        shared = statistics.median(ours() for _ in range(repetitions))
        theirs = float("nan")
        if beside and size.prompt <= TRL_UP_TO:
            theirs = Step(model_of(model), size, ours=False)()
        points.append(Point(model, axis, size, shared, theirs))
        print(
            f"scaling {model} P={size.prompt} C={size.completion} G={size.group}: "
            f"{shared:.3f} s, TRL {theirs:.3f} s",
            flush=True,
        )
    return points


def slope(tokens: list[int], seconds: list[float]) -> float:
    """Return the exponent with which seconds grow with tokens."""
    import numpy as np

    return float(np.polyfit(np.log(tokens), np.log(seconds), 1)[0])


def scaling(folder: Path | None = None) -> None:
    """A step of both models against completions and against the prompt."""
    points = [point for model in MODELS for point in measure(model)]
    for model in MODELS:
        own = [point for point in points if point.model == model]
        # A single completion has nothing to share and goes TRL's way.
        groups = [point for point in own if point.axis == "group" and point.size.group > 1]
        prompts = [point for point in own if point.axis == "prompt"]
        short = [point for point in prompts if point.size.prompt <= TRL_UP_TO]
        for label, part in (
            ("G > 1", groups),
            (f"P <= {TRL_UP_TO}", short),
            ("all P", prompts),
        ):
            exponent = slope([point.tokens for point in part], [point.shared for point in part])
            print(f"{model}: seconds grow as (P + G x C)^{exponent:.2f} over {label}")
        if MODELS[model][2]:
            tokens = [
                point.size.group * (point.size.prompt + point.size.completion) for point in short
            ]
            exponent = slope(tokens, [point.trl for point in short])
            print(f"{model}: TRL's grow as (G x (P + C))^{exponent:.2f} over P <= {TRL_UP_TO}")
    if folder is not None:
        plot(points, folder)


def plot(points: list[Point], folder: Path) -> None:
    """Write scaling.csv and scaling.png, the picture of the embedded model and of 50 M."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, NullLocator

    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{p.model},{p.axis},{p.size.prompt},{p.size.completion},{p.size.group},"
        f"{p.shared:.4f},{p.trl:.4f}"
        for p in points
    ]
    head = "model,axis,prompt,completion,group,shared_seconds,trl_seconds"
    (folder / "scaling.csv").write_text("\n".join([head, *lines]) + "\n")
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    panels = [(model, axis) for model in MODELS for axis in ("group", "prompt")]
    for axis, (model, name) in zip(axes.flat, panels, strict=True):
        part = [point for point in points if (point.model, point.axis) == (model, name)]
        x = [getattr(point.size, name) for point in part]
        if MODELS[model][2]:
            axis.loglog(x, [point.trl for point in part], "s--", color="C0", label="TRL")
        axis.loglog(x, [p.shared for p in part], "o-", color="C1", label="shared prompt")
        unit = part[0].shared / part[0].tokens
        label = "P + G x C"
        axis.loglog(x, [unit * p.tokens for p in part], ":", color="grey", label=label)
        axis.set_xticks(x, [str(value) for value in x])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set(xlabel="completions G" if name == "group" else "prompt tokens P")
        axis.set(title="embedded model" if model == "micro" else "Qwen3, 50 M")
    for row in axes:
        row[0].set(ylabel="CPU seconds per step")
    axes[0][0].legend()
    figure.savefig(folder / "scaling.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    torch.set_num_threads(1)
    scaling(parser.parse_args().plot)
