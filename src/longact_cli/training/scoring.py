"""Score completions: those of one prompt in one pass, in passes of at most a budget of tokens."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel
from trl import GRPOTrainer

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.errors import ConfigError
from longact_cli.training.micro_batches import Parts, divide_by_tokens, rollouts_of
from longact_cli.training.prefix_support import attention_window, flex_refusal, refusal
from longact_cli.training.shared_prefix import Scores, add_prefix_scores, pack, shares_prompts

_LOG = logging.getLogger(__name__)
Scored = tuple[Tensor, Tensor | None, Tensor | None]
"""Log-probs, entropies and TRL's auxiliary loss."""
_STEADY_ROPE = frozenset({"default", "linear", "yarn", "llama3"})


class ScoringTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer with its forward passes packed."""

    _shares: bool
    """Whether prompts are shared where a pass has several completions of one."""
    _flex: bool
    """Whether the completions' block of such a pass goes through FlexAttention."""
    _budget: int | None
    """Tokens of a pass; None leaves TRL's numbers of rollouts."""

    def _prepare_scoring(self, algorithm: AlgorithmConfig) -> None:
        """Teach the policy and the reference model to score packed prompts.

        Raises:
            ConfigError: There is a budget, and a loss that is no sum over rollouts.
        """
        self._budget = algorithm.micro_batch_tokens
        if self._budget is not None and self.aux_loss_enabled:
            raise ConfigError(
                f"algorithm.micro_batch_tokens is {self._budget} and the model adds a router loss, "
                "which depends on how a step is divided; set algorithm.micro_batch_tokens=null"
            )
        models = [self.model] if self.ref_model is None else [self.model, self.ref_model]
        plain = [self.accelerator.unwrap_model(model) for model in models]
        # Under FSDP2 the reference model is split by now; it is one with the policy's layers.
        tried = plain[:1] if self.is_fsdp_enabled else plain
        self._shares = self._shares and all(map(can_share, tried))
        if self._shares:
            for model in plain:
                add_prefix_scores(model, temperature=self.temperature)
            rows = self.args.per_device_train_batch_size
            if self._budget is None and rows < algorithm.group_size:
                say_groups_are_cut(rows, algorithm.group_size)
        asked = self._shares and algorithm.prefix_attention == "flex"
        dtype = torch.bfloat16 if algorithm.bf16 else plain[0].dtype
        self._flex = asked and _takes_flex(plain[0], self.accelerator.device, dtype)
        windows = [attention_window(model) for model in plain]
        self._window_tokens = min((w for w in windows if w is not None), default=None)
        self._moves_freely = all(map(_positions_are_relative, plain))

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *arguments: Any,
        **keywords: Any,
    ) -> Scored:
        """Score completions, those of one prompt in one pass where that is possible.

        TRL scores every position of every sequence on devices without Triton, prompts included.
        """
        prompt = input_ids.shape[1] - logits_to_keep
        if self._budget is not None and keywords.pop("batch_size", None) is not None:
            return self._score_in_parts(model, input_ids, attention_mask, prompt, **keywords)
        if self._shares_prompts_of(input_ids, attention_mask, prompt):
            return self._score_all_shared(model, input_ids, attention_mask, prompt, **keywords)
        if self._budget is not None:
            return self._score_trimmed(model, input_ids, attention_mask, prompt, **keywords)
        result: Scored = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *arguments, **keywords
        )
        return result

    def _divide(self, prompt_ids: Tensor, prompt_mask: Tensor, completion_mask: Tensor) -> Parts:
        """Return the micro-batches of these rollouts, as many as on every other process."""
        assert self._budget is not None
        share = self._shares and self._in_window(prompt_ids.shape[1] + completion_mask.shape[1])
        if not self._moves_freely and not share:  # columns of padding stay, and count
            prompt_mask = torch.ones_like(prompt_mask)
        rollouts = rollouts_of(
            prompt_ids, prompt_mask, completion_mask=completion_mask, share=share
        )
        if max(map(sum, zip(*rollouts[:2], strict=True))) > self._budget:
            _say_over_budget(self._budget)
        return divide_by_tokens(rollouts, self._budget, same_count=self._most_anywhere)

    def _most_anywhere(self, count: int) -> int:
        own = torch.tensor([count], device=self.accelerator.device)
        return int(self.accelerator.gather(own).max())

    def _score_in_parts(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, prompt: int, **keywords: Any
    ) -> Scored:
        parts = self._divide(
            input_ids[:, :prompt], attention_mask[:, :prompt], attention_mask[:, prompt:]
        )
        kept = input_ids.shape[1] - prompt
        scored = [
            self._get_per_token_logps_and_entropies(
                model, input_ids[list(rows)], attention_mask[list(rows)], kept, **keywords
            )
            for rows in parts
        ]
        order = torch.tensor([row for rows in parts for row in rows]).argsort()
        log_probs, entropies, _ = zip(*scored, strict=True)
        if not keywords.get("compute_entropy"):
            return torch.cat(log_probs)[order], None, None
        return torch.cat(log_probs)[order], torch.cat(entropies)[order], None

    def _score_trimmed(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, prompt: int, **keywords: Any
    ) -> Scored:
        """Score as TRL does, without the columns that are padding in every row."""
        used = attention_mask.bool().any(dim=0)
        used[:prompt] |= not self._moves_freely
        used[prompt] = True
        ids, kept = input_ids[:, used], attention_mask[:, used]
        missing = input_ids.shape[1] - prompt - int(used[prompt:].sum())
        log_probs, entropies, loss = super()._get_per_token_logps_and_entropies(
            model, ids, kept, int(used[prompt:].sum()), **keywords
        )
        if entropies is not None:
            entropies = pad(entropies, (0, missing))
        return pad(log_probs, (0, missing)), entropies, loss

    def _score_all_shared(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        prompt: int,
        *,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: object,
    ) -> Scored:
        size = batch_size or len(input_ids)
        chunks = [
            self._score_shared(model, ids, mask, prompt)
            for ids, mask in zip(
                torch.split(input_ids, size), torch.split(attention_mask, size), strict=True
            )
        ]
        log_probs, entropies = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return log_probs, entropies if compute_entropy else None, None

    def _score_shared(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, prompt: int
    ) -> Scores:
        packed = pack(
            input_ids[:, :prompt],
            attention_mask[:, :prompt],
            completion_ids=input_ids[:, prompt:],
            completion_mask=attention_mask[:, prompt:],
            flex=self._flex,
        )
        with self.accelerator.autocast():
            scores: Scores = model(shared_prefix=packed)
        return scores

    def _shares_prompts_of(self, input_ids: Tensor, attention_mask: Tensor, prompt: int) -> bool:
        if not self._shares or not self._in_window(input_ids.shape[1]):
            return False
        # A budget counts what is packed: without padding, a prompt alone as well.
        packs = self._budget is not None
        return packs or shares_prompts(input_ids[:, :prompt], attention_mask[:, :prompt])

    def _in_window(self, tokens: int) -> bool:
        fits = self._window_tokens is None or tokens <= self._window_tokens
        if not fits:
            _say_once(f"the attention window of {self._window_tokens} tokens is shorter than they")
        return fits


def can_share(model: PreTrainedModel) -> bool:
    """Return whether prompts can be shared exactly; if not, say why, once."""
    why = refusal(model)
    if why is not None:
        _say_once(f"{type(model).__name__}: {why}")
    return why is None


def _takes_flex(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether FlexAttention takes the model's completions; if not, say why, once."""
    why = flex_refusal(model, device=device, dtype=dtype)
    if why is not None:
        _say_no_flex(why)
    return why is None


def _positions_are_relative(model: PreTrainedModel) -> bool:
    """Return whether rows may move to the left: rotary embeddings of one scale do not notice."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else list(rope.values())
    return bool(kinds) and all(
        isinstance(kind, Mapping) and kind.get("rope_type") in _STEADY_ROPE for kind in kinds
    )


@functools.cache
def _say_once(why: str) -> None:
    _LOG.warning(
        "prompts are not shared (%s): every completion is scored with a prompt of its own, as in "
        "TRL; algorithm.share_prompt_prefix=false says the same",
        why,
    )


@functools.cache
def say_groups_are_cut(rows: int, group_size: int) -> None:
    """Say, once, that micro-batches are too small for what shared prompts can save."""
    _LOG.warning(
        "micro-batches of %d cut the groups of %d: a prompt is read at least %d times in a step%s; "
        "set algorithm.micro_batch_tokens, or algorithm.micro_batch_size to a multiple of "
        "algorithm.group_size",
        rows,
        group_size,
        -(-group_size // rows),
        " and never shared" if rows == 1 else "",
    )


@functools.cache
def _say_no_flex(why: str) -> None:
    _LOG.warning(
        "algorithm.prefix_attention=flex is not used (%s): completions go the way of "
        "algorithm.prefix_attention=sdpa, with the same results",
        why,
    )


@functools.cache
def _say_over_budget(budget: int) -> None:
    _LOG.warning(
        "a rollout is longer than algorithm.micro_batch_tokens = %d: it is a micro-batch of its "
        "own and takes more memory than planned",
        budget,
    )
