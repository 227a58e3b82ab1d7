"""GRPO-family training on TRL: the row mask, one pass per prompt, covariance and dynamic sampling.

Contract tests hold the few internals of TRL that this file counts on.
"""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback

from longact_cli.config.algorithm import AlgorithmConfig
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.data import PromptRow
from longact_cli.training.dynamic_sampling import DynamicSampler, RefillPrompts, Scored
from longact_cli.training.engine_cache import engine_cache
from longact_cli.training.groups import whole_groups
from longact_cli.training.masked import StepMask, fit_to_sharding
from longact_cli.training.micro_batches import divided, loss_weights
from longact_cli.training.rollout import shared_prefix_rollout
from longact_cli.training.scoring import Scored as ScoredTokens
from longact_cli.training.scoring import ScoringTrainer, can_share
from longact_cli.training.step_metrics import StepMetrics
from longact_cli.training.token_selection import ScoredBatch, TokenSelection

Batch = Mapping[str, Tensor]


class LongActGRPOTrainer(ScoringTrainer):
    """TRL's GRPO trainer that takes each step's mask from that step's prompts."""

    def __init__(
        self,
        model: PreTrainedModel,
        schedule: MaskSchedule,
        *,
        algorithm: AlgorithmConfig,
        refill: RefillPrompts,
        **arguments: Any,
    ) -> None:
        """Create the trainer.

        Args:
            model: The policy, float32.
            schedule: Masks of this model.
            algorithm: The whole algorithm section.
            refill: Prompts for dynamic sampling.
            arguments: Passed on to TRL; its callbacks run after the mask's own.

        Raises:
            ConfigError: The model is sharded in a way in which the mask cannot act.
        """
        self._algorithm = algorithm
        self._schedule = schedule
        self._step_mask = StepMask(schedule)
        self._scored: dict[str, Any] | None = None
        self._selected: tuple[Tensor, ...] = ()
        self._parts: list[Batch] = []
        self._part = 0
        arguments["callbacks"] = [self._step_mask.callback, *arguments.get("callbacks", ())]
        settings = arguments["args"]
        self._shares = algorithm.share_prompt_prefix and can_share(model)
        # Under FSDP2 a part of the model cannot be called by itself, as generation would.
        if self._shares and not settings.use_vllm and not settings.fsdp:
            arguments["rollout_func"] = shared_prefix_rollout
        with warnings.catch_warnings():
            # A contract test holds rollout_func; the reader of a log cannot act on the warning.
            warnings.filterwarnings("ignore", message=".*'rollout_func'.*experimental")
            super().__init__(model=model, **arguments)
        self.remove_callback(PrinterCallback)
        fit_to_sharding(self)
        self._prepare_scoring(algorithm)
        self._engine_cache = engine_cache(self)
        self._selection = TokenSelection(
            algorithm, seed=self.args.seed, accelerator=self.accelerator
        )
        self._sampler = DynamicSampler(
            refill,
            group_size=self.num_generations,
            max_generation_batches=algorithm.max_generation_batches,
            pad_token_id=self._tokenizer.pad_token_id,
            accelerator=self.accelerator,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Take a micro-batch of the rollouts; new ones are dealt out in whole groups if asked."""
        before = getattr(self, "_buffered_inputs", None)
        inputs = super()._prepare_inputs(generation_batch)
        rollouts: list[Batch] = getattr(self, "_buffered_inputs")  # noqa: B009 - untyped in TRL
        if rollouts is before or not self._algorithm.whole_groups:
            return inputs
        self._buffered_inputs = whole_groups(rollouts)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Probe this micro-batch's prompts, arm the mask in the last one, compute the loss.

        With `micro_batch_tokens` the batch is that of a whole optimizer step: it is divided here,
        and the gradients of all micro-batches but the last are there when the loss is returned.
        """
        if self._budget is not None and torch.is_grad_enabled():
            return self._step_loss(model, inputs)
        self._select_ahead(model)
        return self._micro_loss(model, inputs, last=True)

    def _micro_loss(self, model: Any, inputs: Batch, *, last: bool) -> Tensor:
        around = self._step_mask.around(
            self, inputs["prompt_ids"], inputs["prompt_mask"], last=last
        )
        with around:
            loss: Tensor = super().compute_loss(model, inputs)
        return loss

    def _step_loss(self, model: Any, step: Batch) -> Tensor:
        """Return the loss of an optimizer step; only its last micro-batch still has a graph."""
        rows = self._divide(step["prompt_ids"], step["prompt_mask"], step["completion_mask"])
        self._parts = parts = divided(step, rows)
        if self._algorithm.covariance != "none" and len(rows) > 1:
            scores = self._log_probs_without_gradient(model, step, in_parts=True)
            (selected,) = self._select([step], [scores])
            self._selected = tuple(selected[list(part)] for part in rows)
        weights = loss_weights(
            self.loss_type,
            rows=list(map(len, rows)),
            tokens=[int(part["completion_mask"].sum()) for part in parts],
        )
        metrics = StepMetrics(self)
        earlier = torch.zeros((), device=self.accelerator.device)
        for index, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            self._part, last = index, index == len(parts) - 1
            # FSDP2 would keep whole gradients between micro-batches that it does not reduce.
            waits = not last and not self.is_fsdp_enabled
            with self.accelerator.no_sync(model) if waits else contextlib.nullcontext():
                with metrics.collecting(part["completion_mask"]):
                    loss = weight * self._micro_loss(model, part, last=last)
                if not last:
                    self.accelerator.backward(loss)
                    earlier += loss.detach()
        self._parts, self._part = [], 0
        metrics.log()
        return loss + earlier

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log what the mask did, and the engine's cache, beside the trainer's own metrics."""
        if self._engine_cache is not None:
            logs |= self._engine_cache.take()
        super().log(self._step_mask.logs(logs), start_time)

    def create_model_card(self, *_: object, **__: object) -> None:
        """Write no model card into checkpoints; the saved model carries its own provenance."""

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Compute TRL's loss with the tokens of high covariance treated as the algorithm says.

        TRL scores the completions first and reads the advantages afterwards, one per rollout or one
        per token. So the scoring puts the advantages in place, and one forward is enough.
        """
        if self._algorithm.covariance == "none":
            loss: Tensor = super()._compute_loss(model, inputs)
            return loss
        self._scored = dict(inputs)
        loss = super()._compute_loss(model, self._scored)
        penalty = self._scored.get("covariance_penalty")
        self._scored = None
        return loss if penalty is None else loss + penalty

    def _select_ahead(self, model: Any) -> None:
        """Select the tokens of a step of several micro-batches before the first of them.

        A step of one micro-batch is spared the extra pass: its own forward has every token.
        """
        if self._algorithm.covariance == "none":
            return
        window, place = self._window()
        if len(window) > 1 and place == 0:
            self._selected = self._select(
                window, [self._log_probs_without_gradient(model, batch) for batch in window]
            )

    def _window(self) -> tuple[list[Batch], int]:
        """Return this optimizer step's micro-batches on this process, and the one at work."""
        if self._parts:
            return self._parts, self._part
        size = self.args.gradient_accumulation_steps
        start = self._step % self.args.steps_per_generation // size * size
        window: list[Batch] = self._buffered_inputs[start : start + size]
        return window, self._step % size

    def _log_probs_without_gradient(
        self, model: Any, batch: Batch, *, in_parts: bool = False
    ) -> Tensor:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        kept = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        sizes = {"batch_size": len(ids)} if in_parts else {}
        with torch.no_grad():
            log_probs, *_ = self._get_per_token_logps_and_entropies(
                model, ids, kept, batch["completion_ids"].shape[1], **sizes
            )
        return log_probs

    def _select(self, window: list[Batch], log_probs: list[Tensor]) -> tuple[Tensor, ...]:
        scored = [
            ScoredBatch(
                advantages=batch["advantages"],
                log_probs=scores,
                old_log_probs=batch.get("old_per_token_logps", scores),
                counted=batch["completion_mask"].bool(),
            )
            for batch, scores in zip(window, log_probs, strict=True)
        ]
        selected, fraction = self._selection.select(scored, step=self.state.global_step)
        self._metrics["train"]["covariance/selected_fraction"].append(fraction)
        return selected

    def _treat_selected(self, inputs: dict[str, Any], log_probs: Tensor) -> None:
        """Take the selected tokens out of the loss, or compute the penalty that they pay."""
        window, place = self._window()
        if len(window) == 1:
            self._selected = self._select(window, [log_probs.detach()])
        selected = self._selected[place]
        if self._algorithm.covariance == "clip_cov":
            inputs["advantages"] = inputs["advantages"].unsqueeze(1) * ~selected
            return
        distance = (log_probs - inputs.get("old_per_token_logps", log_probs.detach())).abs()
        if "importance_sampling_ratio" in inputs:
            distance = distance * inputs["importance_sampling_ratio"]
        inputs["covariance_penalty"] = (
            self._algorithm.cov_kl_coef * distance[selected].sum() / self._tokens_per_step(inputs)
        )

    def _tokens_per_step(self, inputs: Batch) -> Tensor:
        """Return TRL's denominator of a token-mean loss: this step's share of all rollouts."""
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        updates = self.args.steps_per_generation / self.current_gradient_accumulation_steps
        share: Tensor = tokens / updates
        return share

    def _calculate_rewards(self, *arguments: Any, **keywords: Any) -> Tensor:
        """Keep the accuracies, the first reward, for dynamic sampling."""
        rewards: Tensor = super()._calculate_rewards(*arguments, **keywords)
        rows = len(rewards) // self.accelerator.num_processes
        start = self.accelerator.process_index * rows
        self._accuracy = rewards[start : start + rows, 0]
        return rewards

    def _generate_and_score_completions(self, inputs: list[PromptRow]) -> Batch:
        """Generate and score rollouts; replace or leave out groups without signal."""
        batch: Batch = super()._generate_and_score_completions(inputs)
        mode = self._algorithm.dynamic_sampling
        if mode == "none":
            return batch
        first = Scored(batch, self._accuracy)
        if mode == "filter":
            filled = self._sampler.filter(first)
        else:
            at = self.state.global_step * self._algorithm.prompts_per_step
            filled = self._sampler.fill(first, self._generate_more, at=at)
        metrics = self._metrics["train"]
        metrics["sampling/generations"].append(float(filled.generations))
        metrics["sampling/generated_groups"].append(float(filled.generated))
        metrics["sampling/groups_out_of_loss"].append(float(filled.missing))
        return filled.batch

    def _generate_more(self, rows: list[PromptRow]) -> Scored:
        """Generate rollouts of other prompts.

        The logged rewards and lengths stay those of the step's own prompts, so that curves with and
        without dynamic sampling show the same thing.
        """
        metrics = self._metrics["train"]
        known = {name: len(values) for name, values in metrics.items()}
        batch = super()._generate_and_score_completions(rows)
        for name, values in metrics.items():
            del values[known.get(name, 0) :]
        return Scored(batch, self._accuracy)

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **keywords: Any) -> ScoredTokens:
        """Score completions; inside the loss, treat the tokens of high covariance as well."""
        result = super()._get_per_token_logps_and_entropies(*arguments, **keywords)
        if self._scored is not None:
            self._treat_selected(self._scored, result[0])
        return result
