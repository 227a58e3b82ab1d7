"""Measure how active each query/key channel is, in a forward pass of its own.

The pass runs without gradients, with dropout off, on the model without its language-model head. It
never shares the training forward: there, gradient checkpointing runs every hook twice and
generation runs it once per decoded token.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from longact_cli.errors import ConfigError
from longact_cli.masking.structure import AttentionProjection
from longact_cli.masking.types import SaliencyMap

Site = Literal["proj", "norm"]


class SaliencyProbe:
    """Mean absolute activation per query/key channel over the distinct prompts it was shown.

    Every token of every distinct prompt counts once: the rollouts of a group share one prompt, and
    a prompt that comes back in a later micro-batch is skipped. Read before RoPE; sums are float32.

    Source: section 3 of arXiv 2604.14922 reads "query and key vectors"; `site="norm"` is the vector
    after QK norm, the one attention sees. Where a model has no QK norm both sites are the same.
    """

    def __init__(
        self,
        model: nn.Module,
        projections: Iterable[AttentionProjection],
        *,
        site: Site = "norm",
    ) -> None:
        """Watch these projections of `model` (or of its `base_model`) at `site`."""
        self._base = getattr(model, "base_model", model)
        self._projections = tuple(projections)
        self._site = site
        self._padding_mask = torch.empty(0)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen; call it where a new optimizer step begins."""
        self._sums: dict[str, Tensor] = {}
        self._tokens = 0
        self._seen: set[bytes] = set()

    @property
    def tokens(self) -> int:
        """How many tokens were counted since the last reset."""
        return self._tokens

    @torch.no_grad()
    def add(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Pool the activations of the rows not seen since the last reset.

        Args:
            input_ids: Prompt tokens, [batch, time], padded on either side.
            attention_mask: 1 = token, 0 = padding, [batch, time].
        """
        fresh = self._fresh_rows(input_ids, attention_mask)
        if not fresh:
            return
        kept = attention_mask[fresh].bool()
        columns = kept.any(dim=0)  # padding that all fresh rows share costs time and says nothing
        ids, kept = input_ids[fresh][:, columns], kept[:, columns]
        with _evaluation_mode(self._base), self._hooks(kept):
            self._base(input_ids=ids, attention_mask=kept.long(), use_cache=False)
        self._tokens += int(kept.sum())

    def saliency(self, reduce: Callable[[Tensor], Tensor] | None = None) -> SaliencyMap:
        """Return mean |activation| per row, float32 [rows] per parameter name.

        Args:
            reduce: Sums a tensor over processes; None on one process. Prompts are made distinct
                within a process only.

        Raises:
            ConfigError: Nothing was probed, or an activation is not finite.
        """
        if not self._sums:
            raise ConfigError("no prompt was probed since the last reset; add a batch first")
        any_sum = next(iter(self._sums.values()))
        tokens = torch.tensor(float(self._tokens), device=any_sum.device)
        if reduce is not None:
            tokens = reduce(tokens)
            self._sums = {name: reduce(total) for name, total in self._sums.items()}
        means = {name: total / tokens for name, total in self._sums.items()}
        for name, mean in means.items():
            if not bool(mean.isfinite().all()):
                raise ConfigError(
                    f"activations of {name} are not finite; lower algorithm.learning_rate or set "
                    "algorithm.bf16=false"
                )
        return means

    def _fresh_rows(self, input_ids: Tensor, attention_mask: Tensor) -> list[int]:
        """Return the rows whose prompt has not been seen, and remember them."""
        fresh = []
        for row, (ids, kept) in enumerate(
            zip(input_ids.cpu(), attention_mask.cpu().bool(), strict=True)
        ):
            key = ids[kept].numpy().tobytes()
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(row)
        return fresh

    @contextmanager
    def _hooks(self, kept: Tensor) -> Iterator[None]:
        handles = [
            _watched(projection, self._site).register_forward_hook(self._hook(projection, kept))
            for projection in self._projections
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(
        self, projection: AttentionProjection, kept: Tensor
    ) -> Callable[[nn.Module, object, Tensor], None]:
        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            vectors = _flatten_heads(output, projection, kept)
            total = (vectors.detach().float().abs() * kept.unsqueeze(-1)).sum(dim=(0, 1))
            name = projection.parameter_name
            self._sums[name] = self._sums[name] + total if name in self._sums else total

        return record


def _watched(projection: AttentionProjection, site: Site) -> nn.Module:
    """Return the module whose output is read: the QK norm, or the projection without one."""
    if site == "norm" and projection.norm is not None:
        return projection.norm
    return projection.module


def _flatten_heads(output: Tensor, projection: AttentionProjection, kept: Tensor) -> Tensor:
    """Return the vectors as [batch, time, rows].

    Args:
        output: [batch, time, rows] or [batch, time, heads, head_dim].
        projection: Whose output it is.
        kept: True = token, [batch, time].

    Raises:
        ConfigError: The layout is another one.
    """
    batch, time = kept.shape
    layout_known = output.dim() in (3, 4) and output.shape[:2] == (batch, time)
    if not layout_known or output.numel() != batch * time * projection.rows:
        raise ConfigError(
            f"mask.site=norm: the QK norm of {projection.parameter_name} puts out "
            f"{tuple(output.shape)}, not [batch, time, heads, head_dim]; set mask.site=proj"
        )
    return output.reshape(batch, time, projection.rows)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch dropout off and put every module's mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
