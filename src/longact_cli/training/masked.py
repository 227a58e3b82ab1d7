"""What every masked trainer shares: probe and arm before the loss, report after the step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longact_cli.errors import ConfigError
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.callbacks import MaskCallback


class StepMask:
    """The masks of one trainer, step by step."""

    def __init__(self, schedule: MaskSchedule) -> None:
        """Follow the masks of `schedule`."""
        self._schedule = schedule
        self.callback = MaskCallback(schedule)

    def prepare(self, trainer: Any, prompt_ids: Tensor, prompt_mask: Tensor) -> None:
        """Probe this micro-batch's prompts; arm the mask in the last one of the step.

        Args:
            trainer: About to compute the loss of the micro-batch.
            prompt_ids: [rows, time].
            prompt_mask: 1 = prompt token, 0 = anything else, [rows, time].
        """
        if not torch.is_grad_enabled():
            return
        step = trainer.state.global_step
        self._schedule.observe(step, prompt_ids, prompt_mask)
        if trainer.accelerator.sync_gradients:
            self._schedule.arm(step, _sum_over_processes(trainer.accelerator))

    def logs(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the trainer's logs with what the mask did in the step that just ended."""
        report = self.callback.take_report()
        if report is None:
            return logs
        logs = {**logs, **report.metrics()}
        if report.kept_norm is not None and logs.get("grad_norm"):
            logs["mask/qk_share_of_grad_norm"] = report.kept_norm / logs["grad_norm"]
        return logs


def refuse_sharding(trainer: Any) -> None:
    """Refuse what shards parameters: there the mask cannot act.

    Raises:
        ConfigError: The model is under FSDP or DeepSpeed.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(
            "the row mask supports one process or DDP, not FSDP or DeepSpeed; "
            "start without an accelerate sharding config"
        )


def _sum_over_processes(accelerator: Any) -> Callable[[Tensor], Tensor] | None:
    if accelerator.num_processes == 1:
        return None
    return lambda tensor: accelerator.reduce(tensor, reduction="sum")
