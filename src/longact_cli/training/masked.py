"""What every masked trainer shares: probe around the loss, arm before backward, report."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from longact_cli.errors import ConfigError, PrerequisiteError
from longact_cli.masking.processes import refuse_accelerate_backends
from longact_cli.masking.schedule import MaskSchedule
from longact_cli.training.callbacks import MaskCallback


class StepMask:
    """The masks of one trainer, step by step."""

    def __init__(self, schedule: MaskSchedule) -> None:
        """Follow the masks of `schedule`."""
        self._schedule = schedule
        self.callback = MaskCallback(schedule)

    @contextmanager
    def around(
        self, trainer: Any, prompt_ids: Tensor, prompt_mask: Tensor, *, last: bool = True
    ) -> Iterator[None]:
        """Probe this micro-batch's prompts in its forward; arm the mask in the step's last one.

        Args:
            trainer: Computes the loss of the micro-batch inside the block.
            prompt_ids: What the rows of its forward begin with, [rows, time].
            prompt_mask: 1 = prompt token, 0 = anything else, [rows, time].
            last: False where the trainer divides a batch and this is not the last part.
        """
        if not torch.is_grad_enabled():
            yield
            return
        step = trainer.state.global_step
        with self._schedule.observing(step, prompt_ids, prompt_mask):
            yield
        if last and trainer.accelerator.sync_gradients:
            self._schedule.arm(step)

    def logs(self, logs: dict[str, float]) -> dict[str, float]:
        """Return the trainer's logs with what the mask did in the step that just ended."""
        report = self.callback.take_report()
        if report is None:
            return logs
        logs = {**logs, **report.metrics()}
        if report.kept_norm is not None and logs.get("grad_norm"):
            logs["mask/qk_share_of_grad_norm"] = report.kept_norm / logs["grad_norm"]
        return logs


def fit_to_sharding(trainer: Any) -> None:
    """Refuse sharding under which the mask cannot act, and prepare generation for FSDP2.

    Raises:
        ConfigError: The model is under DeepSpeed or FSDP version 1, or an environment made for
            `accelerate launch` asks for another sharding than the configuration.
        PrerequisiteError: The model is to be sharded and accelerate cannot do it here.
    """
    refuse_accelerate_backends()
    if trainer.args.fsdp and not trainer.is_fsdp_enabled:
        raise PrerequisiteError(
            "parallel.sharding is fsdp2, and accelerate shards models on accelerators only; none "
            "is visible: run on GPUs or set parallel.sharding=ddp"
        )
    if trainer.is_fsdp_enabled and not trainer.args.fsdp:
        raise ConfigError(
            "parallel.sharding is ddp and ACCELERATE_USE_FSDP is set; unset it, or set "
            "parallel.sharding=fsdp2"
        )
    if trainer.is_fsdp_enabled:
        # What transformers looks at: processes then generate until the last of them has finished,
        # since every forward pass gathers weights from all.
        trainer.model._is_fsdp_managed_module = True
