"""The row mask for a Hugging Face or TRL trainer of your own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.state import GradientState
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from longact_cli.masking import processes
from longact_cli.masking.probe import decoder_of
from longact_cli.masking.report import StepReport
from longact_cli.masking.schedule import MaskSchedule, MaskSettings, ProbePrompts
from longact_cli.masking.tokens import all_tokens

MASK_FILE = "mask.safetensors"


class RowMaskCallback(TrainerCallback):  # type: ignore[misc]
    """Masks query/key rows in any `transformers.Trainer` on one process, DDP or FSDP2.

    `Trainer(..., callbacks=[RowMaskCallback(MaskSettings(update_ratio=0.3))])` reads activations
    from the training forwards: every token that is not padding counts. For a TRL `GRPOTrainer` call
    `callback.watch(trainer)` as well: then the distinct prompts count, as the method says.
    """

    def __init__(
        self, settings: MaskSettings | None = None, probe_prompts: ProbePrompts | None = None
    ) -> None:
        """Use these settings; by default the 30 % most active rows, anew in every step."""
        self._settings = settings or MaskSettings()
        self._probe_prompts = probe_prompts
        self._schedule: MaskSchedule | None = None
        self._handles: list[RemovableHandle] = []
        self._report: StepReport | None = None
        self._watching = False

    @property
    def schedule(self) -> MaskSchedule:
        """The masks of the training run; known once training has begun."""
        assert self._schedule is not None, "training has not begun"
        return self._schedule

    def watch(self, trainer: Any) -> None:
        """Count the distinct prompts of a TRL `GRPOTrainer`, and no completion.

        Wraps the trainer's `compute_loss`, whose inputs hold `prompt_ids` and `prompt_mask`.
        """
        compute_loss: Callable[..., Any] = trainer.compute_loss

        def watched(
            model: Any, inputs: Mapping[str, Tensor], *arguments: Any, **keywords: Any
        ) -> Any:
            if not torch.is_grad_enabled():
                return compute_loss(model, inputs, *arguments, **keywords)
            step = trainer.state.global_step
            with self.schedule.observing(step, inputs["prompt_ids"], inputs["prompt_mask"]):
                loss = compute_loss(model, inputs, *arguments, **keywords)
            if trainer.accelerator.sync_gradients:
                self.schedule.arm(step)
            return loss

        trainer.compute_loss = watched
        self._watching = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the projections of the model, which is wrapped and sharded by now.

        Raises:
            ConfigError: It is under DeepSpeed or FSDP version 1, or its layout is not understood.
        """
        processes.refuse_accelerate_backends()
        model = kwargs["model"]
        self._schedule = MaskSchedule(model, self._settings, self._probe_prompts)
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / MASK_FILE
        if state.global_step and saved.exists():
            self._schedule.restore(saved)
        if self._settings.update_semantics == "strict":
            self._schedule.row_mask.hold(kwargs["optimizer"])
        if not self._watching:
            self._schedule.start(all_tokens)
            hook = self._arm_after(state)
            self._handles = [decoder_of(model).register_forward_hook(hook)]

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Forget the activations of the step before."""
        if not self._watching:
            self.schedule.begin_step(state.global_step)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Check and report what the mask did."""
        self._report = self.schedule.finish_step()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Add the report of the last step to the logs."""
        if logs is not None and self._report is not None:
            logs.update(self._report.metrics())

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Put the mask into the checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.schedule.save(folder / MASK_FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Leave the model without hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.schedule.stop()

    def _arm_after(self, state: TrainerState) -> Callable[..., None]:
        def arm(*_: object) -> None:
            if torch.is_grad_enabled() and GradientState().sync_gradients:
                self.schedule.arm(state.global_step)

        return arm
