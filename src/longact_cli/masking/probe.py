"""Measure how active each query/key channel is: in the training forward, or in a pass of its own.

A training forward computes the vectors anyway, and the mask is not needed before its backward
pass. `listening` reads them there. It counts a forward of the whole decoder with gradients enabled:
generation and scoring run without, and gradient checkpointing recomputes layers, not the decoder.
`add` runs a pass of its own, without gradients, with dropout off, up to the last projection.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from longact_cli.errors import ConfigError
from longact_cli.masking import processes
from longact_cli.masking.fused import input_channels
from longact_cli.masking.rotary import pair_magnitude
from longact_cli.masking.statistics import STATISTICS, merge
from longact_cli.masking.structure import AttentionProjection
from longact_cli.masking.tokens import PromptMatcher, TokenSelection, prompt_keys
from longact_cli.masking.types import SaliencyMap, Site, Statistic

Selector = Callable[[Tensor, Tensor | None], TokenSelection | None]
Observer = Callable[[AttentionProjection, Tensor], None]
"""Gets a projection's signed vectors of the tokens that count, [tokens, channels]."""


class _AllRecordedError(Exception):
    """Raised inside a probe pass once the last projection has been read: the rest says nothing."""


class SaliencyProbe:
    """A statistic of |activation| per channel over the distinct prompts it was shown.

    Every token of every distinct prompt counts once: the rollouts of a group share one prompt, and
    a prompt that comes back in a later micro-batch or on another process is skipped. Read before
    RoPE; sums are float32.

    Source: section 3 of arXiv 2604.14922 reads "query and key vectors"; `site="norm"` is the vector
    after QK norm, the one attention sees. Where a model has no QK norm it equals `proj`.
    """

    def __init__(
        self,
        model: nn.Module,
        projections: Iterable[AttentionProjection],
        *,
        site: Site | Literal["input"] = "norm",
        statistic: Statistic = "mean_abs",
        observer: Observer | None = None,
    ) -> None:
        """Watch these projections of `model`; site `input` reads what goes into them instead.

        An `observer` is shown everything that is pooled, before its sign is dropped.

        Raises:
            ConfigError: `rope_pair` and the model does not rotate pairs (i, i + half).
        """
        self._model = model
        self._decoder = decoder_of(model)
        self._projections = tuple(projections)
        self._site = site
        self._accumulator = STATISTICS[statistic]
        self._observer = observer
        self._handles: list[RemovableHandle] = []
        self._selection: TokenSelection | None = None
        self._shape: torch.Size | None = None
        for projection in self._projections:
            if site == "rope_pair" and projection.kind in "qk" and not projection.rotary_dim:
                raise ConfigError(
                    f"mask.site is 'rope_pair'; {projection.parameter_name} belongs to a model "
                    "that does not rotate channels in pairs (i, i + half): choose norm or proj"
                )
        self.reset()

    def reset(self) -> None:
        """Forget everything seen; call it where a new optimizer step begins."""
        self._totals: dict[str, Tensor] = {}
        self._tokens = 0
        self._seen: set[bytes] = set()

    @property
    def tokens(self) -> int:
        """How many tokens this process counted since the last reset."""
        return self._tokens

    def add(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        """Pool the activations of the rows not seen since the last reset, in a pass of its own.

        Args:
            input_ids: Prompt tokens, [batch, time], padded on either side.
            attention_mask: 1 = token, 0 = padding, [batch, time].
        """
        self._pass(input_ids, attention_mask, self._fresh_rows(input_ids, attention_mask))

    @contextmanager
    def listening(self, input_ids: Tensor, attention_mask: Tensor) -> Iterator[None]:
        """Pool the activations of these prompts from the training forward inside the block.

        Prompts that no forward of the block starts with are read in a pass of their own afterwards.

        Args:
            input_ids: Prompt tokens, [batch, time], as the forward's rows begin with them.
            attention_mask: 1 = token, 0 = padding, [batch, time].
        """
        fresh = self._fresh_rows(input_ids, attention_mask)
        matcher = PromptMatcher(input_ids, attention_mask, fresh=fresh)
        self.start(matcher)
        try:
            yield
        finally:
            self.stop()
        self._pass(input_ids, attention_mask, matcher.missing)

    def start(self, selector: Selector) -> None:
        """Read every training forward from now on.

        Args:
            selector: (input_ids, attention_mask or None) of a forward -> the tokens that count.
        """

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            ids = kwargs.get("input_ids", args[0] if args else None)
            usable = torch.is_grad_enabled() and isinstance(ids, Tensor)
            chosen = selector(ids, kwargs.get("attention_mask")) if usable else None
            self._begin(chosen, ids)

        def after(*_: object) -> None:
            self._selection = None

        self._handles = [
            self._decoder.register_forward_pre_hook(before, with_kwargs=True),
            self._decoder.register_forward_hook(after, always_call=True),
            *self._watch(stop_early=False),
        ]

    def stop(self) -> None:
        """Stop reading forwards and remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._selection = None

    def saliency(self) -> SaliencyMap:
        """Return the statistic per row, float32 [rows], pooled over all processes.

        Raises:
            ConfigError: Nothing was probed, a projection never ran, or a value is not finite.
        """
        device = next(self._model.parameters()).device
        tokens = processes.all_reduce(torch.tensor(float(self._tokens), device=device), "sum")
        if not tokens:
            raise ConfigError("no prompt was probed since the last reset; add a batch first")
        result = {}
        for projection in self._projections:
            name = projection.parameter_name
            total = processes.all_reduce(self._total(projection, device), self._operation)
            value = self._accumulator.finish(total, tokens.to(total.device))
            if not bool(value.isfinite().all()):
                raise ConfigError(
                    f"activations of {name} are not finite; lower algorithm.learning_rate or set "
                    "algorithm.bf16=false"
                )
            result[name] = value
        return result

    @property
    def _operation(self) -> Literal["sum", "max"]:
        return self._accumulator.operation

    def _total(self, projection: AttentionProjection, device: torch.device) -> Tensor:
        name = projection.parameter_name
        if name in self._totals:
            return self._totals[name]
        if self._tokens:
            raise ConfigError(
                f"{name} did not run on the prompts; it is not part of the text decoder: leave "
                "its module out of the model or choose another mask.strategy"
            )
        width = input_channels(projection.module) if self._site == "input" else projection.rows
        return torch.zeros_like(self._accumulator.measure(torch.zeros(1, width, device=device)))

    def _fresh_rows(self, input_ids: Tensor, attention_mask: Tensor) -> list[int]:
        """Return the rows whose prompt nobody has counted, and remember everybody's."""
        mine = prompt_keys(input_ids, attention_mask)
        everybody = processes.gather_keys(mine)
        for keys in everybody[: processes.rank()]:
            self._seen.update(keys)
        fresh = []
        for row, key in enumerate(mine):
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(row)
        for keys in everybody:
            self._seen.update(keys)
        return fresh

    @torch.no_grad()
    def _pass(self, input_ids: Tensor, attention_mask: Tensor, rows: list[int]) -> None:
        """Run the model on these rows. Sharded models take part on all processes or on none."""
        sharded = any(processes.is_sharded(p) for p in self._model.parameters())
        wanted = len(rows)
        if sharded:
            count = torch.tensor(float(wanted), device=input_ids.device)
            wanted = int(processes.all_reduce(count, "sum"))
        if not wanted:
            return
        chosen = rows or [0]
        kept = attention_mask[chosen].bool()
        columns = kept.any(dim=0)  # padding that all chosen rows share costs time
        ids, kept = input_ids[chosen][:, columns], kept[:, columns]
        self._begin(TokenSelection.of(tuple(range(len(rows))), kept[: len(rows)]), ids)
        handles = self._watch(stop_early=not sharded)
        arguments = {"input_ids": ids, "attention_mask": kept.long(), "use_cache": False}
        try:
            with _evaluation_mode(self._model):
                if sharded:  # The outermost module gathers the shards; one logit keeps it cheap.
                    self._model(**arguments, logits_to_keep=1)
                else:
                    self._decoder(**arguments)
        except _AllRecordedError:
            pass
        finally:
            for handle in handles:
                handle.remove()
            self._selection = None

    def _begin(self, selection: TokenSelection | None, input_ids: Tensor | None) -> None:
        self._selection = selection
        self._shape = None if input_ids is None else input_ids.shape
        self._tokens += selection.tokens if selection is not None else 0

    def _watch(self, *, stop_early: bool) -> list[RemovableHandle]:
        waiting = {projection.parameter_name for projection in self._projections}
        handles = []
        for projection in self._projections:
            hook = self._hook(projection, waiting if stop_early else None)
            if self._site == "input":
                handles.append(projection.module.register_forward_pre_hook(hook))
            else:
                watched = _watched(projection, self._site)
                handles.append(watched.register_forward_hook(hook))
        return handles

    def _hook(
        self, projection: AttentionProjection, waiting: set[str] | None
    ) -> Callable[..., None]:
        name = projection.parameter_name

        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
            if self._selection is None:
                return
            read = inputs[0] if self._site == "input" else output
            with torch.no_grad():
                vectors = self._vectors(read.detach(), projection)
                taken = self._selection.take(vectors)
                if self._observer is not None and len(taken):
                    self._observer(projection, taken)
                measured = self._measure(taken, vectors.shape[-1])
                self._totals[name] = merge(self._totals.get(name), measured, self._operation)
            if waiting is not None:
                waiting.discard(name)
                if not waiting:
                    raise _AllRecordedError

        return record

    def _measure(self, vectors: Tensor, width: int) -> Tensor:
        if not len(vectors):
            return torch.zeros_like(self._accumulator.measure(vectors.new_zeros(1, width).float()))
        return self._accumulator.measure(vectors.float().abs())

    def _vectors(self, read: Tensor, projection: AttentionProjection) -> Tensor:
        """Return what was read as [batch, time, channels]; sizes other than these are refused."""
        if self._site == "input":
            return read
        normed = self._site != "proj" and projection.norm is not None
        if not normed and read.dim() == 3:
            read = read[..., projection.offset : projection.offset + projection.rows]
        vectors = _flatten_heads(read, projection, self._shape)
        if self._site == "rope_pair" and projection.rotary_dim:
            heads = vectors.reshape(*vectors.shape[:2], -1, projection.head_dim).float()
            return pair_magnitude(heads, projection.rotary_dim).flatten(-2)
        return vectors


def decoder_of(model: nn.Module) -> nn.Module:
    """Return the model without its language-model head, wrappers and adapters' shells."""
    inner = getattr(model, "module", model)
    unwrap = getattr(inner, "get_base_model", None)
    if callable(unwrap):
        inner = unwrap()
    decoder = getattr(inner, "base_model", inner)
    return decoder if isinstance(decoder, nn.Module) else model


def _watched(projection: AttentionProjection, site: str) -> nn.Module:
    """Return the module whose output is read: the QK norm, or the projection without one."""
    if site != "proj" and projection.norm is not None:
        return projection.norm
    return projection.module


def _flatten_heads(
    output: Tensor, projection: AttentionProjection, shape: torch.Size | None
) -> Tensor:
    """Return the vectors as [batch, time, rows].

    Args:
        output: [batch, time, rows] or [batch, time, heads, head_dim].
        projection: Whose output it is.
        shape: [batch, time] of the model's input.

    Raises:
        ConfigError: The layout is another one.
    """
    heads = projection.rows // projection.head_dim
    flat = output.dim() == 3 and output.shape[2] == projection.rows
    split = output.dim() == 4 and output.shape[2:] == (heads, projection.head_dim)
    if not (flat or split) or output.shape[:2] != shape:
        raise ConfigError(
            f"mask.site=norm: the QK norm of {projection.parameter_name} puts out "
            f"{tuple(output.shape)}, not [batch, time, heads, head_dim]; set mask.site=proj"
        )
    return output.flatten(2)


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
