"""The completions' block alone, in FlexAttention and in SDPA with a mask, taking turns.

`python -m tests.bench.flex_block` takes the size of a training step on a GPU, forward and backward
in bfloat16; on the CPU a small one, forward only and in float32: FlexAttention has no backward pass
there.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from tests.bench.shared_prefix import Size
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from longact_cli.training.prefix_attention import PrefixLayout, attend_completions
from longact_cli.training.shared_prefix import with_blocks, with_mask

ROUNDS = 10
WAYS = {"sdpa": with_mask, "flex": with_blocks}


class Heads(NamedTuple):
    """Shape of an attention layer."""

    queries: int
    keys: int
    size: int


GPU = (Size(16384, 512, 8), Heads(16, 8, 128))
SMALL = (Size(1000, 60, 8), Heads(4, 2, 16))


class Block:
    """Queries, keys and values of one prompt and its completions."""

    def __init__(self, size: Size, heads: Heads, *, device: torch.device) -> None:
        """Draw them; gradients are taken on a GPU only."""
        trains = device.type == "cuda"
        dtype = torch.bfloat16 if trains else torch.float32
        generator = torch.Generator().manual_seed(0)
        own = size.group * size.completion
        shapes = ((heads.queries, own), *[(heads.keys, size.prompt + own)] * 2)
        self._tensors = [
            torch.randn(1, *shape, heads.size, generator=generator)
            .to(device, dtype)
            .requires_grad_(trains)
            for shape in shapes
        ]
        self._scale = heads.size**-0.5
        self._device = device
        self._layout = PrefixLayout(size.prompt, size.group, size.completion, (size.prompt,), None)

    def view(self, way: str) -> PrefixLayout:
        """Return what the completions see, as this way takes it."""
        return WAYS[way](self._layout, self._device)

    def __call__(self, view: PrefixLayout) -> list[Tensor]:
        """Return the output and, on a GPU, the gradients of its sum."""
        query, key, value = self._tensors
        output = attend_completions(query, key, value=value, layout=view, scale=self._scale)
        if not output.requires_grad:
            return [output]
        gradients = torch.autograd.grad(output.float().sum(), self._tensors)
        return [output.detach(), *gradients]

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the time that a call takes, kernels included."""
        self._wait()
        started = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - started

    def peak(self, call: Callable[[], object]) -> float:
        """Return the MiB that a call takes at most; not a number on the CPU."""
        if self._device.type != "cuda":
            return float("nan")
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def held(mask: Tensor | BlockMask) -> int:
    """Return the bytes of a mask."""
    if isinstance(mask, Tensor):
        return mask.nbytes
    lengths = (cell.cell_contents for cell in mask.mask_mod.__closure__)
    return sum(x.nbytes for x in (*mask.as_tuple(), *lengths) if isinstance(x, Tensor))


def run() -> None:
    """Compile, compare, then measure in turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size, heads = GPU if device.type == "cuda" else SMALL
    what = "forward and backward" if device.type == "cuda" else "forward"
    print(f"completions' block, {what} on {device}: {size}, {heads}")
    block = Block(size, heads, device=device)
    views = {way: block.view(way) for way in WAYS}
    print(f"  flex leaves out {views['flex'].mask.sparsity():.1f} % of the blocks")
    first = block.seconds(lambda: block(views["flex"]))
    pairs = zip(block(views["flex"]), block(views["sdpa"]), strict=True)
    apart = max(float((ours - mask).abs().max() / mask.abs().max()) for ours, mask in pairs)
    print(f"  flex compiled in {first:.1f} s; it differs by {apart:.1e} of the largest entry")
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(ROUNDS):
        for way in sorted(WAYS, reverse=bool(turn % 2)):
            taken[way].append(block.seconds(lambda way=way: block(views[way])))
    ratios = [sdpa / flex for sdpa, flex in zip(taken["sdpa"], taken["flex"], strict=True)]
    for way, view in views.items():
        making = statistics.median(
            block.seconds(lambda way=way: block.view(way)) for _ in range(ROUNDS)
        )
        print(
            f"  {way:5} {1e3 * statistics.median(taken[way]):.2f} ms "
            f"(range {1e3 * min(taken[way]):.2f}-{1e3 * max(taken[way]):.2f}), peak "
            f"{block.peak(lambda view=view: block(view)):.0f} MiB, mask {held(view.mask):,} bytes "
            f"made in {1e3 * making:.2f} ms",
            flush=True,
        )
    print(
        f"  sdpa / flex {statistics.median(ratios):.2f} "
        f"(range {min(ratios):.2f}-{max(ratios):.2f} of {ROUNDS} pairs)"
    )


if __name__ == "__main__":
    run()
